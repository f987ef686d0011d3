//! How many recipients of a broadcast stand where. Counted from the rows, so that it always equals them.

use sea_orm::{ConnectionTrait, DbErr, Statement};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::entity::BroadcastRecipientState as State;
use crate::id::BroadcastId;

/// How many recipients stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BroadcastCounts {
    /// All of them.
    pub total: u64,
    /// To be sent.
    pub queued: u64,
    /// Being sent.
    pub sending: u64,
    /// Refused for now, to be tried again.
    pub deferred: u64,
    /// The server took it, and nothing was heard since.
    pub sent: u64,
    /// A report says that it arrived.
    pub delivered: u64,
    /// It came back.
    pub bounced: u64,
    /// The recipient reported it as spam.
    pub complained: u64,
    /// Refused for good, or it could not be written.
    pub failed: u64,
    /// Tried for too long and given up.
    pub expired: u64,
    /// The answer to the final dot was lost.
    pub uncertain: u64,
    /// The recipient may not be written to.
    pub suppressed: u64,
    /// No longer among those who are to get it.
    pub skipped: u64,
    /// Called off.
    pub cancelled: u64,
}

impl BroadcastCounts {
    /// Whether anybody still has to get it.
    pub const fn open(&self) -> u64 {
        self.queued + self.sending + self.deferred
    }

    /// Whom it did not reach though it should have.
    pub const fn missed(&self) -> u64 {
        self.failed + self.expired + self.uncertain + self.bounced
    }

    /// Who was tried to the end.
    pub const fn tried(&self) -> u64 {
        self.sent + self.delivered + self.complained + self.missed()
    }

    fn of(&mut self, state: &str) -> Option<&mut u64> {
        Some(match state {
            "queued" => &mut self.queued,
            "deferred" => &mut self.deferred,
            "sent" => &mut self.sent,
            "delivered" => &mut self.delivered,
            "bounced" => &mut self.bounced,
            "complained" => &mut self.complained,
            "failed" => &mut self.failed,
            "expired" => &mut self.expired,
            "uncertain" => &mut self.uncertain,
            "suppressed" => &mut self.suppressed,
            "skipped" => &mut self.skipped,
            "cancelled" => &mut self.cancelled,
            _ => return None,
        })
    }
}

/// Counts, in one statement: so nobody is counted twice or not at all.
///
/// # Errors
/// Whatever the database says.
pub async fn count(db: &impl ConnectionTrait, id: BroadcastId) -> Result<BroadcastCounts, DbErr> {
    let sql = "SELECT state, 0 AS begun, COUNT(*) FROM broadcast_recipients WHERE broadcast_id = $1 GROUP BY state \
               UNION ALL \
               SELECT state, 1 AS begun, COUNT(*) FROM broadcast_recipients WHERE phase = 'begun' AND broadcast_id = $1 \
               GROUP BY state ORDER BY 2";
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, [id.uuid().into()]);
    let mut counts = BroadcastCounts::default();
    for row in db.query_all_raw(statement).await? {
        let (state, begun, count): (String, i32, i64) =
            (row.try_get_by_index(0)?, row.try_get_by_index(1)?, row.try_get_by_index(2)?);
        let count = u64::try_from(count).unwrap_or_default();
        let Some(known) = counts.of(&state) else { continue };
        if begun == 0 {
            *known += count;
            counts.total += count;
        } else {
            *known -= count;
            counts.sending += count;
        }
    }
    Ok(counts)
}

/// The state as it is shown: a row that is being handed over is being sent.
pub fn shown(row: &super::entity::recipient::Model) -> State {
    match row.phase {
        super::entity::RecipientPhase::Begun => State::Sending,
        _ => row.state,
    }
}
