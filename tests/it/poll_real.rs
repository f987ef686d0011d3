//! The poller against real Dovecot and Postfix.
