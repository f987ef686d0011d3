//! What comes back about mail that we sent: delivery reports (RFC 3464 and the forms that are none) and complaints
//! (RFC 5965). Only a report that carries our own signed token counts, because anybody can write one.
//!
//! A hard bounce or a complaint bars the address at once, soft bounces when there are many. A report about mail that no person wrote (a broadcast, a send that the
//! API was asked for, a receipt) is nobody's work; one about an agent's answer is.

use std::collections::HashSet;

use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter,
    sea_query::{Expr, ExprTrait},
};

use crate::{
    app::App,
    broadcasts::{
        entity::{BroadcastRecipientState, RecipientPhase, recipient},
        ledger::ERASED,
    },
    clock::Timestamp,
    conversations::entity::{Direction, MessageKind, MessageState, message},
    db::among,
    delivery,
    id::MessageId,
    mail::{
        address::Mailbox,
        report::{self, Action, Permanence, Report, ReportKind, ReportedRecipient},
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

/// Whether an address gets mail another time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    /// Never.
    Hard,
    /// Perhaps: a full mailbox, a server that cannot be reached.
    Soft,
    /// It was refused for what we are or wrote, which says nothing of the address.
    Policy,
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

    /// What it means, and in whose words; none when it says nothing certain.
    fn meaning(&self) -> Option<(Meaning, String)> {
        let report = match &self.told {
            Told::Report(report) => report,
            Told::Receipt(fate, words) => {
                let meaning = match fate {
                    Fate::Delivered => Meaning::Delivered,
                    Fate::Failed => Meaning::Bounced(Severity::Soft),
                    Fate::Reported => Meaning::Reported,
                };
                return Some((meaning, words.clone()));
            }
        };
        if report.kind == ReportKind::Complaint {
            return Some((Meaning::Complained, "the recipient reported the mail as spam".to_owned()));
        }
        let worst = report.recipients.iter().max_by_key(|one| weight(one.action))?;
        let meaning = match worst.action {
            Action::Failed => Meaning::Bounced(severity(worst)),
            Action::Delayed => Meaning::Delayed,
            Action::Delivered => Meaning::Delivered,
            Action::Relayed | Action::Expanded => return None,
        };
        let words = worst.diagnostic.clone().or_else(|| worst.status.clone());
        Some((meaning, words.unwrap_or_else(|| "a report without a reason".to_owned())))
    }
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

/// Whether mail will ever get there. A full mailbox (X.2.2, RFC 3463 section 3.3) or a full server (X.3.x) may pass, and a
/// server that refuses us for what we wrote (X.7.x) says nothing of the address.
fn severity(one: &ReportedRecipient) -> Severity {
    let subject = one.status.as_deref().and_then(|status| status.split('.').nth(1)).unwrap_or_default();
    match (one.permanence, subject) {
        (_, "7") => Severity::Policy,
        (Permanence::Permanent, "2" | "3") | (Permanence::Transient, _) => Severity::Soft,
        (Permanence::Permanent, _) => Severity::Hard,
    }
}

/// Notes what was heard of our messages; gives those that no person wrote, so that nobody needs to see the reports.
///
/// # Errors
/// Whatever the database says.
pub async fn note(
    app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
    heard: &[&Heard],
) -> Result<HashSet<MessageId>, DbErr> {
    let mut automatic = HashSet::new();
    if heard.is_empty() {
        return Ok(automatic);
    }
    let ids = || heard.iter().map(|one| one.about);
    delivery::lock(tx, ids().collect()).await?;
    let recipients = recipient::Entity::find().filter(among(recipient::Column::Id, ids())).all(tx).await?;
    let messages = message::Entity::find().filter(among(message::Column::Id, ids())).all(tx).await?;
    for one in heard {
        let recipient = recipients.iter().find(|row| row.id == one.about);
        let message = messages.iter().find(|row| row.id == one.about);
        let written =
            message.is_some_and(|row| matches!(row.kind, MessageKind::Reply | MessageKind::Forward));
        let Some((meaning, words)) = one.meaning() else { continue };
        if (recipient.is_some() || message.is_some()) && !written {
            automatic.insert(one.about);
        }
        if let Some(row) = recipient {
            note_recipient(tx, now, row, meaning, &words).await?;
        }
        if let Some(row) = message {
            note_message(tx, now, row, meaning, &words).await?;
        }
        let address = recipient.map(|row| row.address.clone()).or_else(|| addressee(message?, one));
        // Of a text it was the gateway's address that mail came back from, which says nothing of the number.
        let Some(address) = address.filter(|address| address != ERASED && address.contains('@')) else {
            continue;
        };
        match meaning {
            Meaning::Bounced(Severity::Hard) => {
                bar(app, tx, now, &address, SuppressionReason::Bounced, &words).await?;
            }
            Meaning::Complained => {
                bar(app, tx, now, &address, SuppressionReason::Complained, &words).await?;
            }
            Meaning::Bounced(Severity::Soft) => {
                bounced_softly(app, tx, now, one.about, &address, &words).await?
            }
            Meaning::Bounced(Severity::Policy)
            | Meaning::Delivered
            | Meaning::Delayed
            | Meaning::Reported => {}
        }
    }
    Ok(automatic)
}

/// Whom the report is about: our own recipient, not whom the report names.
fn addressee(row: &message::Model, heard: &Heard) -> Option<String> {
    let list = |value: &serde_json::Value| -> Vec<Mailbox> {
        serde_json::from_value(value.clone()).unwrap_or_default()
    };
    let mut all = list(&row.to_addresses);
    all.extend(list(&row.cc_addresses));
    all.extend(list(&row.bcc_addresses));
    if let [one] = all.as_slice() {
        return Some(one.address.clone());
    }
    let named = |one: &Mailbox| {
        let Told::Report(report) = &heard.told else { return false };
        report.recipients.iter().any(|reported| reported.address.eq_ignore_ascii_case(&one.address))
    };
    all.into_iter().find(named).map(|one| one.address)
}

async fn note_recipient(
    tx: &DatabaseTransaction,
    now: Timestamp,
    row: &recipient::Model,
    meaning: Meaning,
    words: &str,
) -> Result<(), DbErr> {
    use BroadcastRecipientState::{Bounced, Complained, Delivered, Sent, Uncertain};
    let (to, from): (_, &[_]) = match meaning {
        Meaning::Delivered => (Delivered, &[Sent, Uncertain]),
        Meaning::Bounced(_) => (Bounced, &[Sent, Uncertain, Delivered]),
        Meaning::Complained => (Complained, &[Sent, Uncertain, Delivered]),
        Meaning::Delayed | Meaning::Reported => return Ok(()),
    };
    recipient::Entity::update_many()
        .col_expr(recipient::Column::State, Expr::value(to))
        .col_expr(recipient::Column::Reason, Expr::value(Some(words.to_owned())))
        .col_expr(recipient::Column::UpdatedAt, Expr::value(now))
        .filter(recipient::Column::Id.eq(row.id))
        .filter(recipient::Column::Phase.eq(RecipientPhase::Idle))
        .filter(recipient::Column::State.is_in(from.iter().copied()))
        .exec(tx)
        .await?;
    Ok(())
}

async fn note_message(
    tx: &DatabaseTransaction,
    now: Timestamp,
    row: &message::Model,
    meaning: Meaning,
    words: &str,
) -> Result<(), DbErr> {
    use MessageState::{Bounced, Complained, Delivered, Sent, Uncertain};
    let (to, from): (_, &[_]) = match meaning {
        Meaning::Delivered => (Delivered, &[Sent, Uncertain]),
        Meaning::Bounced(_) => (Bounced, &[Sent, Uncertain, Delivered]),
        Meaning::Complained => (Complained, &[Sent, Uncertain, Delivered]),
        Meaning::Delayed => {
            return delivery::note_report(tx, now, row.id, "delayed", words, None).await;
        }
        Meaning::Reported => {
            return delivery::note_report(tx, now, row.id, "reported", words, None).await;
        }
    };
    let changed = message::Entity::update_many()
        .col_expr(message::Column::State, Expr::value(to))
        .col_expr(message::Column::StateReason, Expr::value(Some(words.to_owned())))
        .col_expr(message::Column::Version, Expr::col(message::Column::Version).add(1))
        .col_expr(message::Column::UpdatedAt, Expr::value(now))
        .filter(message::Column::Id.eq(row.id))
        .filter(message::Column::Direction.eq(Direction::Outbound))
        .filter(message::Column::State.is_in(from.iter().copied()))
        .exec(tx)
        .await?;
    if changed.rows_affected == 0 {
        return Ok(());
    }
    let verb = match to {
        Delivered => "delivered",
        Bounced => "bounced",
        _ => "complained",
    };
    delivery::note_report(tx, now, row.id, verb, words, Some(to)).await
}
