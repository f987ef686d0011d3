//! What is done to a message after it was taken in: mark, move, delete. Each can be repeated without harm.

use super::ImapError;
use super::names::folder_argument;
use super::session::Session;
use super::uid_set::uid_sets;
use super::wire::Command;

impl Session {
    /// Sets `\Seen`.
    ///
    /// # Errors
    /// When the server refuses or the connection is gone.
    pub async fn mark_seen(&mut self, uids: &[u32]) -> Result<(), ImapError> {
        self.over_sets(uids, "STORE", |set| format!("UID STORE {set} +FLAGS.SILENT (\\Seen)")).await
    }

    /// Moves messages: MOVE (RFC 6851) where it is offered, else copy, mark and expunge.
    /// UIDs that are no longer there are passed over.
    ///
    /// # Errors
    /// [`ImapError::FolderMissing`] when the target does not exist.
    pub async fn move_to(&mut self, uids: &[u32], folder: &str) -> Result<(), ImapError> {
        let target = folder_argument(folder)?;
        if self.offers("MOVE") {
            return self.transfer(uids, "MOVE", folder, &target).await;
        }
        // A message already marked was copied by an earlier try that did not get to the end.
        let mut copied = Vec::new();
        for set in uid_sets(uids) {
            copied.extend(self.list(&set).await?.into_iter().filter(|m| m.deleted).map(|m| m.uid));
        }
        let missing: Vec<u32> = uids.iter().copied().filter(|uid| !copied.contains(uid)).collect();
        self.transfer(&missing, "COPY", folder, &target).await?;
        self.delete(uids).await
    }

    /// Marks messages `\Deleted` and, with UIDPLUS (RFC 4315), expunges just these: without it an EXPUNGE would also take
    /// what others marked.
    ///
    /// # Errors
    /// When the server refuses or the connection is gone.
    pub async fn delete(&mut self, uids: &[u32]) -> Result<(), ImapError> {
        self.over_sets(uids, "STORE", |set| format!("UID STORE {set} +FLAGS.SILENT (\\Deleted)")).await?;
        if !self.offers("UIDPLUS") {
            return Ok(());
        }
        self.over_sets(uids, "EXPUNGE", |set| format!("UID EXPUNGE {set}")).await
    }

    async fn over_sets(
        &mut self,
        uids: &[u32],
        during: &'static str,
        line: impl Fn(&str) -> String,
    ) -> Result<(), ImapError> {
        for set in uid_sets(uids) {
            let line = line(&set);
            let command = Command::new(during, &line, self.timeouts.command);
            self.wire.run(command, |_| {}).await?.ok(during)?;
        }
        Ok(())
    }

    async fn transfer(
        &mut self,
        uids: &[u32],
        verb: &'static str,
        folder: &str,
        target: &str,
    ) -> Result<(), ImapError> {
        for set in uid_sets(uids) {
            let line = format!("UID {verb} {set} {target}");
            let command = Command::new(verb, &line, self.timeouts.command);
            let done = self.wire.run(command, |_| {}).await?;
            let absent = done.try_create || done.text.contains("[NONEXISTENT]");
            if !done.ok && absent {
                return Err(ImapError::FolderMissing { folder: folder.to_owned(), reason: done.text });
            }
            done.ok(verb)?;
        }
        Ok(())
    }
}
