//! The protocol half of mail against servers that misbehave.

mod imap;
mod imap_faults;
mod net;
mod oauth;
mod smtp;
mod smtp_faults;
