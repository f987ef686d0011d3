//! Postroom: the e-mail side of a contact centre, as a REST service.

pub mod mail;
pub mod scripts;
