//! What comes back about mail that we sent: delivery reports (RFC 3464 and the forms that are none) and complaints
//! (RFC 5965). Only a report that carries our own signed token counts, because anybody can write one.
//!
//! A hard bounce or a complaint bars the address at once, soft bounces when there are many (`severity` tells them apart). A
//! report about mail that no person wrote (a broadcast, a send that the API was asked for, a receipt) is nobody's work; one
//! about an agent's answer is.

mod severity;

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait, Condition, DatabaseTransaction, DbErr, EntityTrait, QueryFilter,
    sea_query::{Expr, ExprTrait},
};

use self::severity::{Severity, severity};
use crate::{
    app::App,
    broadcasts::{
        entity::{BroadcastRecipientState, RecipientPhase, recipient},
        ledger::ERASED,
    },
    clock::Timestamp,
    conversations::entity::{Direction, MessageKind, MessageState, message},
    db::{Gate, among},
    delivery,
    id::{CustomerId, MessageId},
    mail::{
        address::Mailbox,
        report::{self, Action, Report, ReportKind, ReportedRecipient},
        sms::gateway::Fate,
        token::Signer,
    },
    suppressions::{bar::bar, entity::SuppressionReason, soft::bounced_softly},
};

/// A report about a message of ours.
#[derive(Clone, Debug)]
pub struct Heard {
    /// The message.
    pub about: MessageId,
    told: Told,
}

/// How it was heard.
#[derive(Clone, Debug)]
enum Told {
    /// By a report (RFC 3464, RFC 5965).
    Report(Box<Report>),
    /// By a receipt of an SMS account's gateway.
    Receipt(Fate, String),
}

/// What a report means for the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Delivered,
    Delayed,
    Bounced(Severity),
    Complained,
    /// Only noted.
    Reported,
}

impl Heard {
    /// Reads a report about a message whose token `signer` knows, from what the report returns of the message or from the
    /// bounce address that it came to; none when it is no report, or not about our mail.
    pub fn of(raw: &[u8], signer: &Signer, addressees: &[String]) -> Option<Self> {
        let report = report::read(raw)?;
        let returned = || signer.verify(report.original.message_id.as_deref()?)?.message;
        let tagged = || addressees.iter().find_map(|address| signer.bounced(address));
        let about = returned().or_else(tagged)?;
        Some(Self { about: MessageId(about), told: Told::Report(Box::new(report)) })
    }

    /// What a gateway's receipt says of a text.
    pub fn receipt(about: MessageId, fate: Fate, words: &str) -> Self {
        Self { about, told: Told::Receipt(fate, words.to_owned()) }
    }

    /// What it means, and in whose words; none when it says nothing certain. Of several recipients the worst counts.
    fn meaning(&self) -> Option<(Meaning, String)> {
        match &self.told {
            Told::Report(report) if report.kind == ReportKind::Complaint => {
                Some((Meaning::Complained, "the recipient reported the mail as spam".to_owned()))
            }
            Told::Report(report) => {
                meaning_for(report.recipients.iter().max_by_key(|one| weight(one.action))?)
            }
            Told::Receipt(fate, words) => {
                let meaning = match fate {
                    Fate::Delivered => Meaning::Delivered,
                    Fate::Failed => Meaning::Bounced(Severity::Soft),
                    Fate::Reported => Meaning::Reported,
                };
                Some((meaning, words.clone()))
            }
        }
    }

    /// What it means for each of our own recipients. A report names whom the mail came to in the end, so that of a single
    /// recipient it is true whatever name it gives; of several it is true of those whom it names.
    fn meanings(&self, own: Vec<String>) -> Vec<(String, Meaning, String)> {
        let several = own.len() > 1;
        let for_one = |address: String| {
            let (meaning, words) = match &self.told {
                Told::Report(report) if several => {
                    let named = |one: &&ReportedRecipient| one.address.eq_ignore_ascii_case(&address);
                    let worst =
                        report.recipients.iter().filter(named).max_by_key(|one| weight(one.action))?;
                    if report.kind == ReportKind::Complaint { self.meaning()? } else { meaning_for(worst)? }
                }
                _ => self.meaning()?,
            };
            Some((address, meaning, words))
        };
        own.into_iter().filter_map(for_one).collect()
    }
}

/// What became of the message to one recipient, and in whose words.
fn meaning_for(one: &ReportedRecipient) -> Option<(Meaning, String)> {
    let meaning = match one.action {
        Action::Failed => Meaning::Bounced(severity(one)),
        Action::Delayed => Meaning::Delayed,
        Action::Delivered => Meaning::Delivered,
        Action::Relayed | Action::Expanded => return None,
    };
    let words = one.diagnostic.clone().or_else(|| one.status.clone());
    Some((meaning, words.unwrap_or_else(|| "a report without a reason".to_owned())))
}

const fn weight(action: Action) -> u8 {
    match action {
        Action::Expanded => 0,
        Action::Relayed => 1,
        Action::Delivered => 2,
        Action::Delayed => 3,
        Action::Failed => 4,
    }
}

/// Notes what was heard of our messages; gives those that no person wrote, so that nobody needs to see the reports, each with
/// the customer whom it went to.
///
/// # Errors
/// Whatever the database says.
pub async fn note(
    app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
    heard: &[&Heard],
) -> Result<HashMap<MessageId, Option<CustomerId>>, DbErr> {
    let mut automatic = HashMap::new();
    if heard.is_empty() {
        return Ok(automatic);
    }
    let ids = || heard.iter().map(|one| one.about);
    // Before any row is locked: who passes the gate waits for these rows, and to bar an address is to shut it.
    let may_bar =
        |one: &&Heard| matches!(one.meaning(), Some((Meaning::Bounced(_) | Meaning::Complained, _)));
    if heard.iter().any(may_bar) {
        Gate::Sends.shut(tx).await?;
    }
    let handed_over = delivery::lock(tx, ids().collect()).await?;
    let recipients = recipient::Entity::find().filter(among(recipient::Column::Id, ids())).all(tx).await?;
    let messages = message::Entity::find().filter(among(message::Column::Id, ids())).all(tx).await?;
    for one in heard {
        let recipient = recipients.iter().find(|row| row.id == one.about);
        let message = messages.iter().find(|row| row.id == one.about);
        let written =
            message.is_some_and(|row| matches!(row.kind, MessageKind::Reply | MessageKind::Forward));
        let Some((meaning, words)) = one.meaning() else { continue };
        if (recipient.is_some() || message.is_some()) && !written {
            let customer = recipient.map(|row| row.customer_id).or_else(|| message?.customer_id);
            automatic.insert(one.about, customer);
        }
        if let Some(row) = recipient {
            note_recipient(tx, now, row, meaning, &words).await?;
        }
        if let Some(row) = message {
            // Servers quote addresses.
            let words = if row.erased_at.is_some() { "" } else { &words };
            note_message(tx, now, row, handed_over.contains(&row.id), (meaning, words)).await?;
        }
        let own = recipient.map(|row| vec![row.address.clone()]).or_else(|| message.map(recipients_of));
        for (address, meaning, words) in one.meanings(own.unwrap_or_default()) {
            judge(app, tx, now, one.about, &address, (meaning, &words)).await?;
        }
    }
    Ok(automatic)
}

/// What is heard of a message bars the address, or counts towards it.
async fn judge(
    app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
    about: MessageId,
    address: &str,
    (meaning, words): (Meaning, &str),
) -> Result<(), DbErr> {
    // Of a text it was the gateway's address that mail came back from, which says nothing of the number.
    if address == ERASED || !address.contains('@') {
        return Ok(());
    }
    match meaning {
        Meaning::Bounced(Severity::Hard) => {
            bar(app, tx, now, address, SuppressionReason::Bounced, words).await
        }
        Meaning::Complained => bar(app, tx, now, address, SuppressionReason::Complained, words).await,
        Meaning::Bounced(Severity::Soft) => bounced_softly(app, tx, now, about, address, words).await,
        Meaning::Bounced(Severity::Policy) | Meaning::Delivered | Meaning::Delayed | Meaning::Reported => {
            Ok(())
        }
    }
}

/// Everybody whom a message went to.
fn recipients_of(row: &message::Model) -> Vec<String> {
    let list = |value: &serde_json::Value| -> Vec<Mailbox> {
        serde_json::from_value(value.clone()).unwrap_or_default()
    };
    let lists = [&row.to_addresses, &row.cc_addresses, &row.bcc_addresses];
    lists.into_iter().flat_map(list).map(|one| one.address).collect()
}

async fn note_recipient(
    tx: &DatabaseTransaction,
    now: Timestamp,
    row: &recipient::Model,
    meaning: Meaning,
    words: &str,
) -> Result<(), DbErr> {
    use BroadcastRecipientState::{Bounced, Complained, Delivered, Sent, Uncertain};
    use recipient::Column;
    let (to, from): (_, &[_]) = match meaning {
        Meaning::Delivered => (Delivered, &[Sent, Uncertain]),
        Meaning::Bounced(_) => (Bounced, &[Sent, Uncertain, Delivered]),
        Meaning::Complained => (Complained, &[Sent, Uncertain, Delivered]),
        Meaning::Delayed | Meaning::Reported => return Ok(()),
    };
    let settled = Condition::all()
        .add(Column::Phase.eq(RecipientPhase::Idle))
        .add(Column::State.is_in(from.iter().copied()));
    // What became of a try that is not settled yet is known: its own result, should it still come, is too late.
    let begun = Column::Phase.eq(RecipientPhase::Begun);
    let tries = Expr::case(begun.clone(), Expr::col(Column::Tries).add(1)).finally(Expr::col(Column::Tries));
    recipient::Entity::update_many()
        .col_expr(Column::State, Expr::value(to))
        .col_expr(Column::Reason, Expr::value((row.address != ERASED).then(|| words.to_owned())))
        .col_expr(Column::Tries, tries.into())
        .col_expr(Column::Phase, Expr::value(RecipientPhase::Idle))
        .col_expr(Column::LeaseUntil, Expr::value(Timestamp::ZERO))
        .col_expr(Column::Attempts, Expr::col(Column::Attempts).add(1))
        .col_expr(Column::SentAt, Expr::col(Column::SentAt).if_null(now))
        .col_expr(Column::UpdatedAt, Expr::value(now))
        .filter(Column::Id.eq(row.id))
        .filter(Condition::any().add(settled).add(begun))
        .exec(tx)
        .await?;
    Ok(())
}

/// Notes what a report says of a message, which is its new state if the message was handed over and nothing worse is known.
/// One that some recipients still have to get goes on.
async fn note_message(
    tx: &DatabaseTransaction,
    now: Timestamp,
    row: &message::Model,
    handed_over: bool,
    (meaning, words): (Meaning, &str),
) -> Result<(), DbErr> {
    use MessageState::{Bounced, Complained, Delivered, Sending, Sent, Uncertain};
    let (to, verb, from): (_, _, &[_]) = match meaning {
        Meaning::Delivered => (Delivered, "delivered", &[Sent, Uncertain]),
        Meaning::Bounced(_) => (Bounced, "bounced", &[Sent, Uncertain, Delivered]),
        Meaning::Complained => (Complained, "complained", &[Sent, Uncertain, Delivered]),
        Meaning::Delayed => {
            return delivery::note_report(tx, now, row.id, "delayed", words, None).await;
        }
        Meaning::Reported => {
            return delivery::note_report(tx, now, row.id, "reported", words, None).await;
        }
    };
    if row.direction != Direction::Outbound || row.state == to {
        return Ok(());
    }
    let sending = (row.state == Sending && handed_over).then_some(Sending);
    let changed = message::Entity::update_many()
        .col_expr(message::Column::State, Expr::value(to))
        .col_expr(message::Column::StateReason, Expr::value(Some(words.to_owned())))
        .col_expr(message::Column::Version, Expr::col(message::Column::Version).add(1))
        .col_expr(message::Column::SentAt, Expr::col(message::Column::SentAt).if_null(now))
        .col_expr(message::Column::UpdatedAt, Expr::value(now))
        .filter(message::Column::Id.eq(row.id))
        .filter(message::Column::State.is_in(from.iter().copied().chain(sending)))
        .exec(tx)
        .await?;
    delivery::note_report(tx, now, row.id, verb, words, (changed.rows_affected == 1).then_some(to)).await
}
