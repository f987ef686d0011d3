//! One connection to a mailbox: everything that is missing is taken in, then new mail is waited for.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{
    afterwards,
    folder::Record,
    held::{End, Held},
    intake,
    watch::{Bounds, Signal, Watch},
};
use crate::{
    accounts::{
        AfterFetchAction,
        health::PollMode,
        mailbox::{self, MailboxError},
    },
    clock::Timestamp,
    mail::imap::{Access, IdleEvent, ImapError, Session},
};

/// How soon messages that could not be fetched are tried again on a connection that works.
const SUSPECTS_AGAIN: Duration = Duration::from_secs(60);
/// How many connections are opened one after the other for messages that are not what the server announced.
const AT_ONCE_MAX: usize = 10;

/// An open folder.
pub(super) struct Mailbox {
    pub session: Session,
    pub uid_validity: u32,
    /// The highest UID that was looked at.
    pub last_uid: u32,
    /// Whether each message must be compared with those that we have.
    pub renumbered: bool,
    /// Whether a message was fetched on this connection, so that it works.
    pub fetched: bool,
    /// When the whole folder is compared again.
    compare_at: Timestamp,
}

/// What ended a wait.
enum News {
    /// Perhaps there is mail.
    Mail,
    /// There is none.
    Quiet,
    /// The whole folder is to be compared.
    Compare,
    /// The API says something.
    Said(Signal),
}

/// Reads a mailbox until the process stops, the account is changed, or something fails.
///
/// # Errors
/// Why the mailbox cannot be read.
pub(super) async fn run(held: &Held, watch: &mut Watch) -> Result<End, MailboxError> {
    let mut left = AT_ONCE_MAX;
    loop {
        match once(held, watch).await {
            // The message is known now, and the next session goes around it.
            Err(MailboxError::Imap(ImapError::TooLarge { .. })) if left > 0 => left -= 1,
            ended => return ended,
        }
    }
}

async fn once(held: &Held, watch: &mut Watch) -> Result<End, MailboxError> {
    let Some(mut mailbox) = open_unless_stopped(held, watch).await? else { return Ok(End::Released) };
    compare(&mut mailbox, held, Bounds::default()).await?;
    let mode = if mailbox.session.supports_idle() { PollMode::Idle } else { PollMode::Poll };
    held.succeeded(Some(mode)).await?;
    while !held.app.shutdown.is_stopping() {
        let news = wait(&mut mailbox, held, watch).await?;
        let now = held.app.clock.now();
        held.note(|health| health.last_poll_at = Some(now));
        metrics::counter!("postroom_polls_total").increment(1);
        match news {
            News::Quiet => {}
            News::Mail => take_new(&mut mailbox, held).await?,
            News::Compare => {
                mailbox.reopen(held).await?;
                compare(&mut mailbox, held, Bounds::default()).await?;
            }
            News::Said(Signal::Poll) => {
                held.trouble();
                take_new(&mut mailbox, held).await?;
            }
            News::Said(Signal::Backfill(bounds)) => {
                held.trouble();
                compare(&mut mailbox, held, bounds).await?;
                // The list that was bounded may have held mail that the server will not announce again.
                take_new(&mut mailbox, held).await?;
            }
            News::Said(Signal::Changed) if held.is_current().await? => continue,
            News::Said(Signal::Changed | Signal::Stop) => break,
        }
        held.succeeded(None).await?;
    }
    // How the server takes leave does not matter.
    let _ = mailbox.session.logout().await;
    Ok(End::Released)
}

async fn open_unless_stopped(held: &Held, watch: &mut Watch) -> Result<Option<Mailbox>, MailboxError> {
    let opening = Mailbox::open(held);
    tokio::pin!(opening);
    loop {
        tokio::select! {
            mailbox = &mut opening => return mailbox.map(Some),
            signal = watch.next() => match signal {
                // The first look is a whole one.
                Signal::Poll | Signal::Backfill(_) => {}
                Signal::Changed if held.is_current().await? => {}
                Signal::Changed | Signal::Stop => return Ok(None),
            },
        }
    }
}

async fn take_new(mailbox: &mut Mailbox, held: &Held) -> Result<(), MailboxError> {
    let listed = mailbox.session.list_after(mailbox.last_uid).await?;
    let last = listed.last().map_or(mailbox.last_uid, |message| message.uid);
    if intake::take(mailbox, held, listed).await? {
        mailbox.last_uid = last;
    }
    afterwards::run(mailbox, held).await
}

async fn compare(mailbox: &mut Mailbox, held: &Held, bounds: Bounds) -> Result<(), MailboxError> {
    if intake::compare(mailbox, held, bounds).await? && bounds == Bounds::default() {
        mailbox.compare_at = held.app.clock.now().plus_s(held.app.config.mail.reconcile_s);
    }
    afterwards::run(mailbox, held).await
}

/// Waits for mail, for the API, or until it is time to look. An idle mailbox costs one command a wait at most.
async fn wait(mailbox: &mut Mailbox, held: &Held, watch: &mut Watch) -> Result<News, MailboxError> {
    let clock = &held.app.clock;
    let mut until_compare = mailbox.compare_at.since(clock.now());
    if held.note(|health| !health.suspects.is_empty()) {
        until_compare = until_compare.min(SUSPECTS_AGAIN);
    }
    if until_compare.is_zero() {
        return Ok(News::Compare);
    }
    if !mailbox.session.supports_idle() {
        let interval = Duration::from_secs(held.inbound.poll_interval_s.into());
        tokio::select! {
            () = clock.sleep(interval.min(until_compare)) => {}
            signal = watch.next() => return Ok(News::Said(signal)),
        }
        if until_compare <= interval {
            return Ok(News::Compare);
        }
        return Ok(if mailbox.session.noop().await? { News::Mail } else { News::Quiet });
    }
    let renew = Duration::from_secs(held.app.config.mail.idle_renew_s);
    let cancel = CancellationToken::new();
    let (event, said) = {
        let idle = mailbox.session.idle(renew.min(until_compare), &cancel);
        tokio::pin!(idle);
        tokio::select! {
            event = &mut idle => (event, None),
            signal = watch.next() => {
                cancel.cancel();
                (idle.await, Some(signal))
            }
        }
    };
    match (event?, said) {
        (IdleEvent::ServerBye { reason }, _) => Err(ImapError::Closed { during: "IDLE", reason }.into()),
        // Mail that came at the same moment is still announced to the next wait.
        (_, Some(signal)) => Ok(News::Said(signal)),
        (IdleEvent::NewMail, None) => Ok(News::Mail),
        (IdleEvent::Timeout, None) if until_compare <= renew => Ok(News::Compare),
        (IdleEvent::Timeout | IdleEvent::Cancelled, None) => Ok(News::Quiet),
    }
}

impl Mailbox {
    async fn open(held: &Held) -> Result<Self, MailboxError> {
        let (app, inbound) = (&held.app, &held.inbound);
        let endpoint = mailbox::endpoint(app, inbound)?;
        let credentials = mailbox::credentials(app, &held.account).await?;
        let session = Session::connect(&endpoint, &credentials, mailbox::timeouts(app)).await?;
        let mut mailbox = Self {
            session,
            uid_validity: 0,
            last_uid: 0,
            renumbered: false,
            fetched: false,
            compare_at: app.clock.now(),
        };
        mailbox.reopen(held).await?;
        Ok(mailbox)
    }

    /// Opens the folder, and reads what is on record of it.
    async fn reopen(&mut self, held: &Held) -> Result<(), MailboxError> {
        let only_read = held.inbound.after_fetch.action == AfterFetchAction::Leave;
        let access = if only_read { Access::ReadOnly } else { Access::ReadWrite };
        let selected = self.session.select(&held.inbound.folder, access).await?;
        let record = Record::read(held, selected.uid_validity).await?;
        self.uid_validity = selected.uid_validity;
        (self.last_uid, self.renumbered) = (record.last_uid, record.renumbered);
        Ok(())
    }
}
