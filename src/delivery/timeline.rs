//! A message's timeline: what was said at each try, and each change of state, in the order it happened.

use sea_orm::{ActiveValue::Set, DatabaseTransaction, DbErr, EntityTrait};

use super::{
    entity::step::{ActiveModel, Entity},
    rules::cut,
};
use crate::{
    clock::Timestamp,
    id::{MessageId, new_uuid},
    mail::smtp,
};

const ROWS_PER_INSERT: usize = 500;

/// One line of a timeline.
#[derive(Clone, Debug)]
pub(super) struct Line {
    message_id: MessageId,
    attempt: i64,
    at: Timestamp,
    verb: String,
    code: Option<i32>,
    enhanced: Option<String>,
    text: String,
}

impl Line {
    /// A change of state, or a remark of ours.
    pub fn note(message_id: MessageId, attempt: i64, at: Timestamp, verb: &str, text: &str) -> Self {
        Self { message_id, attempt, at, verb: verb.into(), code: None, enhanced: None, text: cut(text) }
    }

    /// What was said in a conversation that began at `began`.
    pub fn said(message_id: MessageId, attempt: i64, began: Timestamp, step: smtp::Step) -> Self {
        Self {
            message_id,
            attempt,
            at: began.plus_ms(i64::try_from(step.at_ms).unwrap_or_default()),
            verb: step.verb.as_str().into(),
            code: step.code.map(i32::from),
            enhanced: step.enhanced,
            text: cut(&step.text),
        }
    }
}

/// Adds lines, in this order.
pub(super) async fn append(tx: &DatabaseTransaction, now: Timestamp, lines: Vec<Line>) -> Result<(), DbErr> {
    for lines in lines.chunks(ROWS_PER_INSERT) {
        // Ids order the timeline, so they are made now and not at the time of the step.
        let rows = lines.iter().cloned().map(|line| ActiveModel {
            id: Set(new_uuid(now)),
            message_id: Set(line.message_id),
            attempt: Set(line.attempt),
            at: Set(line.at),
            verb: Set(line.verb),
            code: Set(line.code),
            enhanced: Set(line.enhanced),
            text: Set(line.text),
        });
        Entity::insert_many(rows).exec_without_returning(tx).await?;
    }
    Ok(())
}
