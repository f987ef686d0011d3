//! What comes back about mail that we sent: delivery reports (RFC 3464 and the forms that are none) and complaints
//! (RFC 5965). Only a report that carries our own signed token counts, because anybody can write one.
//!
//! A hard bounce or a complaint bars the address. A report about mail that no person wrote (a broadcast, a send that the
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
    suppressions::{bar::bar, entity::SuppressionReason},
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
    Bounced {
        hard: bool,
    },
    Complained,
    /// Only noted.
    Reported,
}

impl Heard {
    /// Reads a report about a message whose token `signer` knows; none when it is no report, or not about our mail.
    pub fn of(raw: &[u8], signer: &Signer) -> Option<Self> {
        let report = report::read(raw)?;
        let about = signer.verify(report.original.message_id.as_deref()?)?.message?;
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
                    Fate::Failed => Meaning::Bounced { hard: false },
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
            Action::Failed => Meaning::Bounced { hard: is_hard(worst) },
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

/// Whether mail will never get there. A full mailbox (X.2.2, RFC 3463 section 3.3) or a server that refuses us for what we
/// wrote (X.7.x) says nothing of the address.
fn is_hard(one: &ReportedRecipient) -> bool {
    let status = one.status.as_deref().unwrap_or_default();
    let of_the_address =
        !status.starts_with("5.2.") && !status.starts_with("5.7.") && !status.starts_with("5.3.");
    one.permanence == Permanence::Permanent && of_the_address
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
        let reason = match meaning {
            Meaning::Bounced { hard: true } => SuppressionReason::Bounced,
            Meaning::Complained => SuppressionReason::Complained,
            _ => continue,
        };
        let address = recipient.map(|row| row.address.clone()).or_else(|| addressee(message?, one));
        // Of a text it was the gateway's address that mail came back from, which says nothing of the number.
        if let Some(address) = address.filter(|address| address != ERASED && address.contains('@')) {
            bar(app, tx, now, &address, reason, &words).await?;
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
        Meaning::Bounced { .. } => (Bounced, &[Sent, Uncertain, Delivered]),
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
        Meaning::Bounced { .. } => (Bounced, &[Sent, Uncertain, Delivered]),
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
