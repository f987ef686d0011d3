//! Taking mail in: polling mailboxes, pushing messages, and the one way in for both, [`accept::accept`].
//!
//! **Nothing is lost, nothing taken twice** (DESIGN rule 1). A message is known by (account, folder, UIDVALIDITY, UID).
//! Its raw bytes are durable before its row is, and its row and the folder's cursor move in one transaction. Parsing
//! cannot stop a mailbox: what cannot be read is kept as `unparsed` with what its header says, what was too large to
//! fetch, or is not given by its server, as an `oversize` stub. The Message-ID threads mail and never drops it.
//!
//! **Which conversation** a message joins is told by [`thread`].
//!
//! **What becomes work.** Every message is stored in its conversation; these make no arrival for
//! [`crate::work::arrive`], and leave the conversation's state as it is:
//! - `loop`, our own mail coming back; a conversation that begins with it is closed from the start;
//! - `auto_reply` in a conversation that exists: the agent finds it there, but nobody is sent to it.
//!
//! An `auto_reply` that begins a conversation does arrive, because web forms and shops mark customers' orders so; a
//! script may discard it by its classification. So does a `bounce` or a `complaint`: an agent whose answer did not
//! reach the customer has to know.

//!
//! **Texts.** What the gateway of an SMS account mails becomes a message with the number and the text (`texts`). It goes on
//! with the number's conversation while that is open or was closed lately. Receipts move the text that they are about, stop and start words bar
//! the number and lift that, and neither is anybody's work. Mail of others on such an account is `unparsed` work.

pub mod accept;
pub mod api;
pub mod batch;
pub mod poll;
mod prepare;
mod push;
pub mod source;
mod store;
mod texts;
pub mod thread;
