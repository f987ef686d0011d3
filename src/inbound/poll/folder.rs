//! What is on record of a folder: the UIDs taken in, how far it is read, and what is still to be done on the server.

use std::collections::HashSet;

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, DbErr, EntityTrait, IntoSimpleExpr, QueryFilter, QueryOrder, QuerySelect, Select,
    sea_query::{Expr, ExprTrait},
};

use super::held::Held;
use crate::{
    accounts::entity::{folder, source},
    clock::Timestamp,
};

/// How many values one `IN` list carries.
const IN_LIST: usize = 500;

/// What is on record of a folder under the UIDVALIDITY that it has now.
pub(super) struct Record {
    /// The highest UID taken in.
    pub last_uid: u32,
    /// Whether messages that we have may be there under other UIDs, so that each must be compared.
    pub renumbered: bool,
}

impl Record {
    /// Reads it. A changed UIDVALIDITY is marked first, so that a crash half-way does not forget that it changed.
    pub(super) async fn read(held: &Held, uid_validity: u32) -> Result<Self, DbErr> {
        let (db, account, name) = (&held.app.db, held.account.id, &held.inbound.folder);
        let row = folder::Entity::find_by_id((account, name.clone())).one(db.read()).await?;
        let same = row.as_ref().is_none_or(|row| row.uid_validity == i64::from(uid_validity));
        if !same {
            tracing::info!(account = %account, "the UIDVALIDITY changed: the folder is compared as a whole");
            set_reconciled(held, row.as_ref().map_or(0, |row| row.uid_validity), Timestamp::ZERO).await?;
        }
        let finished = row.as_ref().is_some_and(|row| same && row.reconciled_at > Timestamp::ZERO);
        let older = source::Entity::find()
            .filter(source::Column::AccountId.eq(account))
            .filter(source::Column::Folder.eq(name))
            .filter(source::Column::UidValidity.ne(i64::from(uid_validity)));
        let renumbered = !finished && older.limit(1).one(db.read()).await?.is_some();
        let last_uid = row.filter(|_| same).map_or(0, |row| u32::try_from(row.last_uid).unwrap_or(0));
        Ok(Self { last_uid, renumbered })
    }
}

fn sources(held: &Held, uid_validity: u32) -> Select<source::Entity> {
    source::Entity::find()
        .filter(source::Column::AccountId.eq(held.account.id))
        .filter(source::Column::Folder.eq(&held.inbound.folder))
        .filter(source::Column::UidValidity.eq(i64::from(uid_validity)))
}

/// The UIDs that are taken in.
pub(super) async fn known_uids(held: &Held, uid_validity: u32) -> Result<HashSet<i64>, DbErr> {
    let select = sources(held, uid_validity).select_only().column(source::Column::Uid);
    let uids: Vec<i64> = select.into_tuple().all(held.app.db.read()).await?;
    Ok(uids.into_iter().collect())
}

/// The UIDs of messages with which something is still to be done on the server.
///
/// # Errors
/// `RecordNotUpdated` when they may be another session's, which means another server's messages by them.
pub(super) async fn due_uids(held: &Held, uid_validity: u32) -> Result<Vec<u32>, DbErr> {
    // Without `= true`, as the index on them has it.
    let select = sources(held, uid_validity).filter(source::Column::AfterFetchDue.into_simple_expr());
    let select = select.order_by_asc(source::Column::Uid).select_only().column(source::Column::Uid);
    let uids: Vec<i64> = select.into_tuple().all(held.app.db.read()).await?;
    if !uids.is_empty() {
        held.begin().await?.rollback().await?;
    }
    Ok(uids.into_iter().filter_map(|uid| u32::try_from(uid).ok()).collect())
}

/// Notes that nothing more is to be done with these messages on the server.
pub(super) async fn clear_due(held: &Held, uid_validity: u32, uids: &[u32]) -> Result<(), DbErr> {
    let tx = held.begin().await?;
    for uids in uids.chunks(IN_LIST) {
        let uids = uids.iter().copied().map(i64::from);
        source::Entity::update_many()
            .col_expr(source::Column::AfterFetchDue, Expr::value(false))
            .filter(source::Column::AccountId.eq(held.account.id))
            .filter(source::Column::Folder.eq(&held.inbound.folder))
            .filter(source::Column::UidValidity.eq(i64::from(uid_validity)))
            .filter(Expr::col(source::Column::Uid).is_in(uids))
            .exec(&*tx)
            .await?;
    }
    tx.commit().await
}

/// Notes when the whole folder was compared that has this UIDVALIDITY on record; zero while it has to be.
pub(super) async fn set_reconciled(held: &Held, uid_validity: i64, at: Timestamp) -> Result<(), DbErr> {
    let change = folder::ActiveModel { reconciled_at: Set(at), ..Default::default() };
    let tx = held.begin().await?;
    folder::Entity::update_many()
        .set(change)
        .filter(folder::Column::AccountId.eq(held.account.id))
        .filter(folder::Column::Folder.eq(&held.inbound.folder))
        .filter(folder::Column::UidValidity.eq(uid_validity))
        .exec(&*tx)
        .await?;
    tx.commit().await
}
