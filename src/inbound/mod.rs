//! Taking mail in: polling mailboxes, accepting messages.
