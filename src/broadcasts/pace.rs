//! How fast a broadcast goes.

use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QuerySelect, sea_query::Expr,
};

use super::{
    dispatch::is_running,
    entity::broadcast::{Column, Entity, Model},
};
use crate::{clock::Timestamp, outgoing::rate::Rate};

impl Model {
    /// The places under its rate.
    pub fn rate(&self) -> Rate {
        Rate::new(self.rate_per_minute, self.next_slot_us)
    }
}

/// A running broadcast as it is now, locked if it has a rate: two replicas would count on the same places otherwise. None
/// when it does not run any more.
///
/// # Errors
/// Whatever the database says.
pub async fn hold(tx: &DatabaseTransaction, row: Model) -> Result<Option<Model>, DbErr> {
    if row.rate_per_minute.is_none() {
        return Ok(Some(row));
    }
    Entity::find_by_id(row.id).filter(is_running()).lock_exclusive().one(tx).await
}

/// Uses up `count` places under the rate of a broadcast that [`hold`] gave.
///
/// # Errors
/// Whatever the database says.
pub async fn take(tx: &DatabaseTransaction, row: &Model, now: Timestamp, count: usize) -> Result<(), DbErr> {
    if row.rate_per_minute.is_none() {
        return Ok(());
    }
    Entity::update_many()
        .col_expr(Column::NextSlotUs, Expr::value(row.rate().after(now, count)))
        .filter(Column::Id.eq(row.id))
        .exec(tx)
        .await?;
    Ok(())
}
