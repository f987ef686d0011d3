//! Where suppressions become rows: one for each address, campaign and reason, so that no reason hides another and each ends
//! by itself.

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect, sea_query::Expr,
};

use super::entity::{Column, Entity, Model, SuppressionReason};
use crate::{
    clock::Timestamp,
    db::{Gate, among},
    id::CampaignId,
};

/// What became of suppressions that were to be entered; the others were there already, for as long or longer.
#[derive(Debug, Default)]
pub struct Entered {
    /// Those that are new.
    pub created: Vec<Model>,
    /// Those that were there and hold for longer now.
    pub extended: Vec<Model>,
}

/// Enters suppressions. One that is there already for the same reason is extended when it would end before; one that is over
/// makes room. When the transaction commits, no send that they bar begins any more.
///
/// # Errors
/// Whatever the database says.
pub async fn enter(tx: &DatabaseTransaction, now: Timestamp, rows: Vec<Model>) -> Result<Entered, DbErr> {
    // Whoever suppresses shuts it, so nobody else enters the same meanwhile.
    Gate::Sends.shut(tx).await?;
    if rows.is_empty() {
        return Ok(Entered::default());
    }
    let keys: Vec<String> = rows.iter().map(|row| row.address_key.clone()).collect();
    forget_expired(tx, now, keys.clone()).await?;
    let known = Entity::find()
        .filter(among(Column::AddressKey, keys))
        .order_by_asc(Column::Id)
        .lock_exclusive()
        .all(tx)
        .await?;
    let entered = merge(known, rows);
    if !entered.created.is_empty() {
        let rows = entered.created.iter().map(|row| row.clone().into_active_model());
        Entity::insert_many(rows).exec_without_returning(tx).await?;
    }
    for row in &entered.extended {
        Entity::update_many()
            .col_expr(Column::ExpiresAt, Expr::value(row.expires_at))
            .col_expr(Column::Note, Expr::value(row.note.clone()))
            .filter(Column::Id.eq(row.id))
            .exec(tx)
            .await?;
    }
    Ok(entered)
}

/// Removes suppressions of these addresses that are over.
///
/// # Errors
/// Whatever the database says.
pub async fn forget_expired(
    tx: &DatabaseTransaction,
    now: Timestamp,
    keys: Vec<String>,
) -> Result<(), DbErr> {
    let over =
        Entity::delete_many().filter(among(Column::AddressKey, keys)).filter(Column::ExpiresAt.lte(now));
    over.exec(tx).await.map(|_| ())
}

/// Where a suppression stands: no two stand in one place.
type Place = (String, Option<CampaignId>, SuppressionReason);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Is {
    Known,
    Created,
    Extended,
}

/// What of the rows is new beside those that are known, and what extends one of them.
fn merge(known: Vec<Model>, rows: Vec<Model>) -> Entered {
    let mut all: Vec<(Is, Model)> = known.into_iter().map(|row| (Is::Known, row)).collect();
    let mut places: HashMap<Place, usize> =
        all.iter().enumerate().map(|(at, (_, row))| (place(row), at)).collect();
    for row in rows {
        let Some(at) = places.get(&place(&row)).copied() else {
            places.insert(place(&row), all.len());
            all.push((Is::Created, row));
            continue;
        };
        let Some((is, old)) = all.get_mut(at) else { continue };
        if !lasts(old.expires_at, row.expires_at) {
            old.expires_at = row.expires_at;
            old.note = row.note.or(old.note.take());
            if *is == Is::Known {
                *is = Is::Extended;
            }
        }
    }
    let mut entered = Entered::default();
    for (is, row) in all {
        match is {
            Is::Known => {}
            Is::Created => entered.created.push(row),
            Is::Extended => entered.extended.push(row),
        }
    }
    entered
}

fn place(row: &Model) -> Place {
    (row.address_key.clone(), row.campaign_id, row.reason)
}

/// Whether what holds until the first time holds at least until the second; without a time it does not end.
fn lasts(until: Option<Timestamp>, wanted: Option<Timestamp>) -> bool {
    until.is_none_or(|until| wanted.is_some_and(|wanted| until >= wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{accounts::entity::Channel, id::SuppressionId};

    fn row(reason: SuppressionReason, until: Option<i64>) -> Model {
        Model {
            id: SuppressionId::new(Timestamp::ZERO),
            address_key: "k".into(),
            address: Some("a@x.org".into()),
            channel: Channel::Email,
            campaign_id: None,
            reason,
            note: None,
            expires_at: until.map(Timestamp::from_millis),
            created_at: Timestamp::ZERO,
        }
    }

    #[test]
    fn a_reason_is_entered_once_and_for_the_longest_time_that_was_asked() {
        use SuppressionReason::{Manual, Stopped};
        let known = vec![row(Manual, Some(10))];
        let rows = vec![
            row(Manual, Some(5)),
            row(Stopped, Some(7)),
            row(Manual, Some(20)),
            row(Stopped, None),
            row(Stopped, Some(9)),
            row(Manual, Some(15)),
        ];
        let entered = merge(known, rows);
        let told = |rows: &[Model]| rows.iter().map(|row| (row.reason, row.expires_at)).collect::<Vec<_>>();
        assert_eq!(told(&entered.created), [(Stopped, None)]);
        assert_eq!(told(&entered.extended), [(Manual, Some(Timestamp::from_millis(20)))]);
    }
}
