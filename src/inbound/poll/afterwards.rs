//! What is done on the server once messages are safe with us: mark, move, delete. Done again after a crash.

use super::{folder, held::Held, session::Mailbox};
use crate::accounts::{AfterFetchAction, mailbox::MailboxError};

/// Does what is due in the open folder, and notes it.
///
/// # Errors
/// When the server refuses or the connection is gone: what was not noted is done again later.
pub(super) async fn run(mailbox: &mut Mailbox, held: &Held) -> Result<(), MailboxError> {
    let uids = folder::due_uids(held, mailbox.uid_validity).await?;
    if uids.is_empty() {
        return Ok(());
    }
    let session = &mut mailbox.session;
    match held.inbound.after_fetch.action {
        AfterFetchAction::Leave => {}
        AfterFetchAction::MarkSeen => session.mark_seen(&uids).await?,
        AfterFetchAction::Move => {
            session.move_to(&uids, &held.inbound.after_fetch.folder).await?;
        }
        AfterFetchAction::Delete => {
            session.delete(&uids).await?;
        }
    }
    folder::clear_due(held, mailbox.uid_validity, &uids).await?;
    Ok(())
}
