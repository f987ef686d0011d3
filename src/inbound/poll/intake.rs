//! From a list of messages to messages that are taken in: sizes first, bodies in batches, one being fetched while the
//! one before is being read and the one before that is being stored. A message that cannot be fetched is set aside and does not stop the others.

use std::sync::Arc;

use sea_orm::DbErr;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::{
    folder,
    held::{ENDS, Held, STRIKES},
    session::Mailbox,
    watch::Bounds,
};
use crate::{
    accounts::{AfterFetchAction, mailbox::MailboxError},
    clock::Timestamp,
    inbound::{
        accept::{self, ReadBatch, accept},
        batch::{AcceptError, Batch, Content, Cursor, Incoming, Rekey, Source},
        source::{Fingerprint, already_has},
    },
    mail::imap::{Batches, FetchLimits, Fetched, ImapError, Listed},
};

/// So many strikes, and the header of a message is not asked for any more either.
const HEADER_STRIKES: u32 = 2 * STRIKES;

/// How many batches are on their way at once: one is fetched, one read and one stored.
const IN_HAND: usize = 3;

/// A message on its way in.
struct Item {
    uid: u32,
    internal_date: Timestamp,
    content: Content,
}

impl Item {
    fn leave_unread(&mut self) {
        if let Content::Raw(raw) = &mut self.content {
            self.content = Content::Unread(std::mem::take(raw));
        }
    }
}

impl From<AcceptError> for MailboxError {
    fn from(error: AcceptError) -> Self {
        if let AcceptError::Db(error @ DbErr::RecordNotUpdated) = error {
            return error.into();
        }
        tracing::error!(%error, "fetched messages could not be stored");
        Self::Internal("fetched messages could not be stored".into())
    }
}

/// Takes in everything in the folder that we do not have, also below the cursor; true when it came to the end.
///
/// # Errors
/// When the mailbox or the database fails. What was stored until then stays.
pub(super) async fn compare(
    mailbox: &mut Mailbox,
    held: &Held,
    bounds: Bounds,
) -> Result<bool, MailboxError> {
    let validity = mailbox.uid_validity;
    let mut listed = mailbox.session.list_all().await?;
    let known = folder::known_uids(held, validity).await?;
    let last = listed.last().map_or(0, |message| message.uid);
    listed.retain(|message| !known.contains(&i64::from(message.uid)));
    held.retain_suspects(|v, uid| v == validity && listed.binary_search_by_key(&uid, |m| m.uid).is_ok());
    if let Some(since) = bounds.since {
        listed.retain(|message| message.internal_date_ms.is_none_or(|ms| ms >= since.as_millis()));
    }
    listed.truncate(bounds.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX));
    let complete = take(mailbox, held, listed).await?;
    if complete && bounds == Bounds::default() {
        mailbox.last_uid = mailbox.last_uid.max(last);
        let cursor = Some(cursor(mailbox, held, mailbox.last_uid));
        let batch = Batch { cursor, fence: Some(held.fence()), ..Batch::default() };
        accept(&held.app, Arc::clone(&held.account), batch).await?;
        // One that could not be fetched yet has not been compared either.
        if held.note(|health| health.suspects.is_empty()) {
            mailbox.renumbered = false;
            folder::set_reconciled(held, validity.into(), held.app.clock.now()).await?;
        }
    }
    Ok(complete)
}

/// Takes in the listed messages; false when the process stopped in between.
///
/// # Errors
/// When the mailbox or the database fails. What was stored until then stays.
pub(super) async fn take(
    mailbox: &mut Mailbox,
    held: &Held,
    listed: Vec<Listed>,
) -> Result<bool, MailboxError> {
    let validity = mailbox.uid_validity;
    let wary = held.is_wary();
    let (mut suspects, mut healthy): (Vec<_>, Vec<_>) =
        listed.into_iter().partition(|message| held.turn(validity, message.uid).is_some());
    if wary {
        // Whoever died had at most so many in hand, and the first ones, because what is stored is not listed.
        let in_hand = healthy.len().min(IN_HAND * limits(held).batch_messages);
        for message in healthy.drain(..in_hand) {
            if held.app.shutdown.is_stopping() {
                return Ok(false);
            }
            take_in_hand(mailbox, held, message).await?;
        }
    }
    let plan = Batches::plan(healthy, &limits(held));
    // A batch that fails could not be remembered: its turn comes when there is room again.
    if held.is_crowded(limits(held).batch_messages)
        && !take_suspects(mailbox, held, std::mem::take(&mut suspects), wary).await?
    {
        return Ok(false);
    }
    if !take_batches(mailbox, held, plan.batches).await? {
        return Ok(false);
    }
    for message in plan.oversize {
        stub(mailbox, held, message).await?;
    }
    let complete = take_suspects(mailbox, held, suspects, wary).await?;
    if complete && wary {
        held.be_wary(false);
    }
    Ok(complete)
}

/// Takes in suspects one by one; those that failed last come last, so that they hold up nobody.
async fn take_suspects(
    mailbox: &mut Mailbox,
    held: &Held,
    mut suspects: Vec<Listed>,
    wary: bool,
) -> Result<bool, MailboxError> {
    suspects.sort_by_key(|message| held.turn(mailbox.uid_validity, message.uid));
    for message in suspects {
        if held.app.shutdown.is_stopping() {
            return Ok(false);
        }
        if wary || held.ended(mailbox.uid_validity, message.uid) > 0 {
            take_in_hand(mailbox, held, message).await?;
        } else {
            take_alone(mailbox, held, message).await?;
        }
    }
    Ok(true)
}

/// Takes a message in alone that the process may end of: it counts against the message then.
async fn take_in_hand(mailbox: &mut Mailbox, held: &Held, message: Listed) -> Result<(), MailboxError> {
    held.take_in_hand(mailbox.uid_validity, message.uid).await?;
    let taken = take_alone(mailbox, held, message).await;
    held.put_down();
    taken
}

fn limits(held: &Held) -> FetchLimits {
    let message_bytes = held.app.config.mail.max_message_bytes as u64;
    FetchLimits { message_bytes, ..FetchLimits::default() }
}

/// Fetches, reads and stores side by side, each up to one batch ahead of the next.
async fn take_batches(
    mailbox: &mut Mailbox,
    held: &Held,
    batches: Vec<Vec<Listed>>,
) -> Result<bool, MailboxError> {
    let (limits, place) = (limits(held), Place::of(mailbox, held));
    let (to_read, mut fetched) = mpsc::channel(1);
    let (to_store, mut read) = mpsc::channel(1);
    // Each owns its ends, so that one who ends, for whatever reason, ends those before and after.
    let fetching = async move {
        for batch in batches {
            if held.app.shutdown.is_stopping() {
                return Ok(false);
            }
            let found = mailbox.session.fetch_raw(&batch, &limits).await;
            if to_read.send(received(mailbox, held, &batch, found)?).await.is_err() {
                return Ok(false);
            }
        }
        Ok(!held.app.shutdown.is_stopping())
    };
    let reading = async move {
        while let Some(items) = fetched.recv().await {
            let Some(batch) = place.read(items, true).await? else { continue };
            if place.renumbered {
                // Which messages we have under another UID is known when those before them have their new ones.
                place.write(batch).await?;
            } else if to_store.send(batch).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    let storing = async move {
        while let Some(batch) = read.recv().await {
            place.write(batch).await?;
        }
        Ok::<_, MailboxError>(())
    };
    // What came before a failure is stored all the same.
    let (fetched, read, stored) = tokio::join!(fetching, reading, storing);
    stored.and(read).and(fetched)
}

/// Pairs what was listed with what came. When nothing came, its messages are fetched alone from now on.
fn received(
    mailbox: &mut Mailbox,
    held: &Held,
    batch: &[Listed],
    found: Result<Vec<Fetched>, ImapError>,
) -> Result<Vec<Item>, MailboxError> {
    let validity = mailbox.uid_validity;
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            match batch {
                [message] => {
                    let strikes = strikes_for(&error, is_own(mailbox, held, message.uid), 1);
                    held.suspect(validity, message.uid, strikes);
                }
                _ => batch.iter().for_each(|message| held.suspect(validity, message.uid, 0)),
            }
            return Err(error.into());
        }
    };
    mailbox.fetched |= !found.is_empty();
    // Mostly they were expunged just now; if not, they are tried again.
    let came = |uid: u32| found.binary_search_by_key(&uid, |message| message.uid).is_ok();
    batch.iter().filter(|message| !came(message.uid)).for_each(|m| held.suspect(validity, m.uid, 0));
    let bytes: usize = found.iter().map(|message| message.raw.len()).sum();
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    held.note(|health| health.bytes_fetched = health.bytes_fetched.saturating_add(bytes));
    metrics::counter!("postroom_poll_bytes_total").increment(bytes.unsigned_abs());
    let now = held.app.clock.now();
    let item = |message: Fetched| Item {
        uid: message.uid,
        internal_date: message.internal_date_ms.map_or(now, Timestamp::from_millis),
        content: Content::Raw(message.raw),
    };
    Ok(found.into_iter().map(item).collect())
}

/// Whether trouble while one message is fetched is the message's: others come, or it does not pass.
fn is_own(mailbox: &Mailbox, held: &Held, uid: u32) -> bool {
    mailbox.fetched || held.is_overdue(mailbox.uid_validity, uid)
}

/// How much a failed fetch says against the message. `own` says whether trouble of the server or the connection is to
/// be put down to it, and `other` how much an answer counts that makes no sense.
fn strikes_for(error: &ImapError, own: bool, other: u32) -> u32 {
    match error {
        // It is larger than announced, and will be so the next time, too.
        ImapError::TooLarge { .. } => STRIKES,
        ImapError::Net(_)
        | ImapError::Timeout { .. }
        | ImapError::Closed { .. }
        | ImapError::Refused { .. } => u32::from(own),
        _ => other,
    }
}

async fn take_alone(mailbox: &mut Mailbox, held: &Held, message: Listed) -> Result<(), MailboxError> {
    let (validity, uid) = (mailbox.uid_validity, message.uid);
    let oversize = message.size_bytes > limits(held).message_bytes;
    if oversize || held.strikes(validity, uid) >= STRIKES {
        stub(mailbox, held, message).await?;
    } else {
        let batch = [message];
        let found = mailbox.session.fetch_raw(&batch, &limits(held)).await;
        match received(mailbox, held, &batch, found) {
            // It is not given now, and the connection goes on.
            Err(MailboxError::Imap(ImapError::Refused { .. })) if !mailbox.session.is_broken() => {
                return Ok(());
            }
            Ok(items) if items.is_empty() => {
                held.suspect(validity, uid, 1);
                return Ok(());
            }
            items => {
                let mut items = items?;
                if held.ended(validity, uid) >= ENDS {
                    items.iter_mut().for_each(Item::leave_unread);
                }
                Place::of(mailbox, held).store(items, true).await?;
            }
        }
    }
    held.retain_suspects(|v, u| (v, u) != (validity, uid));
    Ok(())
}

/// Takes in a message without its content, which stays in the mailbox: nothing is done with it there.
async fn stub(mailbox: &mut Mailbox, held: &Held, message: Listed) -> Result<(), MailboxError> {
    let now = held.app.clock.now();
    let size_bytes = i64::try_from(message.size_bytes).unwrap_or(i64::MAX);
    let header = header(mailbox, held, &message).await?;
    let item = Item {
        uid: message.uid,
        internal_date: message.internal_date_ms.map_or(now, Timestamp::from_millis),
        content: Content::Oversize { size_bytes, header },
    };
    Place::of(mailbox, held).store(vec![item], false).await
}

/// What the header of a message says; none when it cannot be fetched either.
async fn header(
    mailbox: &mut Mailbox,
    held: &Held,
    message: &Listed,
) -> Result<Option<Vec<u8>>, MailboxError> {
    let (validity, uid) = (mailbox.uid_validity, message.uid);
    let strikes = held.strikes(validity, uid);
    if strikes >= HEADER_STRIKES || held.ended(validity, uid) >= ENDS {
        return Ok(None);
    }
    let found = mailbox.session.fetch_header(uid).await;
    if let Err(error) = &found {
        let more = 2 * strikes_for(error, is_own(mailbox, held, uid), STRIKES);
        // Of a message that was given up the header is asked for once.
        held.suspect(validity, uid, if strikes >= STRIKES { HEADER_STRIKES } else { more });
    }
    Ok(found?)
}

fn cursor(mailbox: &Mailbox, held: &Held, last_uid: u32) -> Cursor {
    let folder = held.inbound.folder.clone();
    Cursor { folder, uid_validity: mailbox.uid_validity.into(), last_uid: last_uid.into() }
}

/// Where messages of the open folder are put.
#[derive(Clone, Copy)]
struct Place<'a> {
    held: &'a Held,
    uid_validity: u32,
    renumbered: bool,
}

impl<'a> Place<'a> {
    fn of(mailbox: &Mailbox, held: &'a Held) -> Self {
        Self { held, uid_validity: mailbox.uid_validity, renumbered: mailbox.renumbered }
    }

    /// Stores messages. `fetched` says whether their content is with us, so that the server's copy may be dealt with.
    async fn store(&self, items: Vec<Item>, fetched: bool) -> Result<(), MailboxError> {
        match self.read(items, fetched).await? {
            Some(batch) => self.write(batch).await,
            None => Ok(()),
        }
    }

    /// Reads messages; those that we have under another UID get their new one.
    async fn read(&self, items: Vec<Item>, fetched: bool) -> Result<Option<ReadBatch>, MailboxError> {
        let Some(last_uid) = items.iter().map(|item| item.uid).max() else { return Ok(None) };
        let held = self.held;
        let (folder, uid_validity) = (held.inbound.folder.clone(), i64::from(self.uid_validity));
        let known = if self.renumbered { self.known(&items).await? } else { vec![None; items.len()] };
        let (mut incoming, mut rekeyed) = (Vec::with_capacity(items.len()), Vec::new());
        for (item, known) in items.into_iter().zip(known) {
            let uid = i64::from(item.uid);
            if let Some(source_id) = known {
                rekeyed.push(Rekey { source_id, uid_validity, uid });
                continue;
            }
            let internal_date = item.internal_date;
            let source = Source { folder: folder.clone(), uid_validity, uid, internal_date };
            incoming.push(Incoming { source, content: item.content });
        }
        let cursor = fetched.then(|| Cursor { folder, uid_validity, last_uid: last_uid.into() });
        let after_fetch_due = fetched && held.inbound.after_fetch.action != AfterFetchAction::Leave;
        let batch = Batch { incoming, rekeyed, cursor, after_fetch_due, fence: Some(held.fence()) };
        Ok(Some(accept::read(&held.app, &held.account, batch).await?))
    }

    async fn write(&self, batch: ReadBatch) -> Result<(), MailboxError> {
        let accepted = accept::take_in(&self.held.app, &self.held.account, batch).await?;
        let taken = i64::try_from(accepted.stored.len()).unwrap_or(i64::MAX);
        self.held.note(|health| health.messages_taken = health.messages_taken.saturating_add(taken));
        metrics::counter!("postroom_poll_messages_total").increment(taken.unsigned_abs());
        Ok(())
    }

    async fn known(&self, items: &[Item]) -> Result<Vec<Option<uuid::Uuid>>, MailboxError> {
        let prints: Vec<Fingerprint> = items.iter().map(fingerprint).collect();
        let (held, uid_validity) = (self.held, i64::from(self.uid_validity));
        let (account, folder) = (held.account.id, &held.inbound.folder);
        Ok(already_has(held.app.db.read(), account, folder, uid_validity, &prints).await?)
    }
}

fn fingerprint(item: &Item) -> Fingerprint {
    match &item.content {
        Content::Raw(raw) | Content::Unread(raw) => Fingerprint::Sha256(Sha256::digest(raw).into()),
        Content::Oversize { size_bytes, .. } => {
            Fingerprint::Oversize { size_bytes: *size_bytes, internal_date: item.internal_date }
        }
    }
}
