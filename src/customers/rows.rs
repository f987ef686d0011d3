//! Reading and writing rows of the table `customers`.

use std::collections::HashSet;

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, EntityTrait, ExprTrait, QueryFilter,
    QueryOrder, QuerySelect, QueryTrait,
    sea_query::{Expr, OnConflict, Query},
};
use serde_json::{Map, Value, json};

use super::entity::{
    CustomerStatus,
    customer::{ActiveModel, Column, Entity, Model},
    customer_list,
};
use crate::{
    clock::Timestamp,
    db::among,
    events::NewEvent,
    http::Problem,
    id::{CustomerId, ListId},
};

/// The customer of this id.
///
/// # Errors
/// `not_found`.
pub async fn find(db: &impl ConnectionTrait, id: CustomerId) -> Result<Model, Problem> {
    Entity::find_by_id(id).one(db).await?.ok_or_else(|| Problem::not_found("customer"))
}

/// The same, locked until the transaction ends.
///
/// # Errors
/// `not_found`.
pub async fn find_locked(tx: &DatabaseTransaction, id: CustomerId) -> Result<Model, Problem> {
    let found = Entity::find_by_id(id).lock_exclusive().one(tx).await?;
    found.ok_or_else(|| Problem::not_found("customer"))
}

/// Which of these customers are gone, or erased; the others stay as they are while the transaction runs.
///
/// # Errors
/// Whatever the database says.
pub async fn gone_among(
    tx: &DatabaseTransaction,
    ids: impl IntoIterator<Item = CustomerId>,
) -> Result<HashSet<CustomerId>, DbErr> {
    let mut ids: HashSet<CustomerId> = ids.into_iter().collect();
    if ids.is_empty() {
        return Ok(ids);
    }
    let rows: Vec<(CustomerId, Option<Timestamp>)> = Entity::find()
        .select_only()
        .columns([Column::Id, Column::ErasedAt])
        .filter(among(Column::Id, ids.iter().copied()))
        .order_by_asc(Column::Id)
        .lock_shared()
        .into_tuple()
        .all(tx)
        .await?;
    for (id, _) in rows.iter().filter(|(_, erased_at)| erased_at.is_none()) {
        ids.remove(id);
    }
    Ok(ids)
}

/// Whether a body's `list_id` names a list.
///
/// # Errors
/// `unknown_reference`.
pub async fn check_list(db: &impl ConnectionTrait, id: ListId) -> Result<(), Problem> {
    let list = customer_list::Entity::find_by_id(id).one(db).await?;
    list.map(|_| ()).ok_or_else(|| Problem::unknown_reference("/list_id", "list"))
}

/// A new customer with these columns: not tried yet.
pub fn fresh(columns: ActiveModel, now: Timestamp) -> ActiveModel {
    ActiveModel {
        id: Set(CustomerId::new(now)),
        status: Set(CustomerStatus::Unused),
        attempt_count: Set(0),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
        ..columns
    }
}

/// Changes a customer, unless somebody else did since the row was read.
///
/// # Errors
/// `DbErr::RecordNotUpdated`, or whatever the database says.
pub async fn change(
    tx: &DatabaseTransaction,
    now: Timestamp,
    row: &Model,
    columns: ActiveModel,
) -> Result<Model, DbErr> {
    let columns = ActiveModel { version: Set(row.version + 1), updated_at: Set(now), ..columns };
    let guarded = Entity::update_many()
        .set(columns)
        .filter(Column::Id.eq(row.id))
        .filter(Column::Version.eq(row.version));
    guarded.exec_with_returning(tx).await?.pop().ok_or(DbErr::RecordNotUpdated)
}

/// Makes customers or changes those whom a `ref` names already, in one statement. `changed` are the columns that it
/// writes to those; where they stand is left as it is. Of `data` it may write some `members` alone: they become what the row
/// has for them, or are gone when it has nothing. All rows have a `ref` of their own.
///
/// # Errors
/// Whatever the database says; nothing is written then.
pub async fn upsert(
    tx: &DatabaseTransaction,
    now: Timestamp,
    rows: Vec<ActiveModel>,
    changed: &[Column],
    members: &[String],
) -> Result<Upserted, DbErr> {
    let count = rows.len();
    if count == 0 {
        return Ok(Upserted::default());
    }
    let mut again = OnConflict::column(Column::Ref);
    again.update_columns(changed.iter().copied().chain([Column::ListId, Column::UpdatedAt]));
    again.value(Column::Version, Expr::col((Entity, Column::Version)).add(1));
    if !members.is_empty() {
        again.value(Column::Data, merged(tx.get_database_backend(), members));
    }
    let rows = rows.into_iter().map(|columns| fresh(columns, now));
    let mut insert = Entity::insert_many(rows).on_conflict(again).into_query();
    insert.returning(Query::returning().column(Column::Version));
    let versions = tx.query_all(&insert).await?;
    let mut created = 0;
    for row in &versions {
        // Only a row that was not there before has its first version.
        created += usize::from(row.try_get_by_index::<i64>(0)? == 1);
    }
    Ok(Upserted { created, updated: count - created })
}

/// The `data` of a customer who is there already, without these members, and with those that the new row has.
fn merged(backend: DbBackend, members: &[String]) -> Expr {
    let nothing: Map<String, Value> = members.iter().map(|name| (name.clone(), Value::Null)).collect();
    let sql = match backend {
        DbBackend::Postgres => {
            "(customers.data - ARRAY(SELECT jsonb_object_keys(CAST($1 AS JSONB)))) || excluded.data"
        }
        // RFC 7396: what is null is taken away.
        _ => "json_patch(json_patch(customers.data, ?), excluded.data)",
    };
    Expr::cust_with_values(sql, [Value::Object(nothing).to_string()])
}

/// What an upsert did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upserted {
    /// Customers made.
    pub created: usize,
    /// Customers changed.
    pub updated: usize,
}

/// An event of a customer: ids and the new state.
pub fn told(kind: &'static str, row: &Model) -> NewEvent {
    let data = json!({ "id": row.id, "list_id": row.list_id, "status": row.status });
    NewEvent::new(kind, row.id.uuid(), &data).for_supervisors()
}
