//! The page behind the unsubscribe link of a mail. Reading it changes nothing, because scanners follow links; only its
//! button, or a mail program's one click (RFC 8058), does.

pub mod api;
