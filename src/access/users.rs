//! What holds whenever a user is made, changed or deleted, whoever does it.

use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, sea_query::OnConflict,
};
use serde_json::json;

use super::{
    entity::user::{ActiveModel, Column, Entity, Model},
    refresh,
};
use crate::{
    agents::entity::{AgentState, agent, agent_skill, group_member},
    clock::Timestamp,
    events::{self, NewEvent},
    http::{
        caller::Role,
        problem::{Code, Problem},
    },
    id::UserId,
};

/// A user to be made.
#[derive(Debug)]
pub struct NewUser {
    /// The login name, in lower case.
    pub username: String,
    /// The name that others see.
    pub display_name: String,
    /// An address for notices.
    pub email: Option<String>,
    /// What the user may do; never `Integration`.
    pub role: Role,
    /// argon2id, in PHC form: `app.access.hashing.hash(…)`, computed before the transaction begins.
    pub password_hash: String,
    /// Whether the password was given by somebody else and must be changed.
    pub must_change_password: bool,
    /// Whether logging in is refused.
    pub disabled: bool,
}

/// Makes a user, and the agent's desk of agents and supervisors; tells it in the event log.
///
/// # Errors
/// `already_exists` at `/username`.
pub async fn insert(tx: &DatabaseTransaction, now: Timestamp, new: NewUser) -> Result<Model, Problem> {
    let row = ActiveModel {
        id: Set(UserId::new(now)),
        username: Set(new.username),
        display_name: Set(new.display_name),
        email: Set(new.email),
        role: Set(new.role),
        password_hash: Set(new.password_hash),
        must_change_password: Set(new.must_change_password),
        disabled: Set(new.disabled),
        last_login_at: Set(None),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
        deleted_at: Set(None),
    };
    let user = Entity::insert(row).exec_with_returning(tx).await?;
    keep_desk(tx, now, &user).await?;
    events::append(tx, now, vec![event("user.created", &user)]).await?;
    Ok(user)
}

/// Gives agents and supervisors a desk, and takes everybody off it who may not log in or has no desk any more: what
/// they have goes back to its queue.
///
/// # Errors
/// Whatever the database says.
pub async fn keep_desk(tx: &DatabaseTransaction, now: Timestamp, user: &Model) -> Result<(), DbErr> {
    let for_good = user.deleted_at.is_some() || user.role == Role::Admin;
    if for_good {
        forget_desk(tx, user.id).await?;
    }
    if for_good || user.disabled {
        return leave_desk(tx, now, user.id).await;
    }
    let desk = agent::ActiveModel {
        id: Set(user.id),
        state: Set(AgentState::LoggedOff),
        reason: Set(None),
        state_changed_at: Set(now),
        idle_since: Set(now),
        last_offered_at: Set(now),
        capacity_email: Set(None),
        capacity_sms: Set(None),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
    };
    let once = OnConflict::column(agent::Column::Id).do_nothing().to_owned();
    agent::Entity::insert(desk).on_conflict(once).exec_without_returning(tx).await?;
    Ok(())
}

/// Whoever has no desk any more is in no group and has no skill; the row of the desk stays, because offers refer to it.
async fn forget_desk(tx: &DatabaseTransaction, id: UserId) -> Result<(), DbErr> {
    group_member::Entity::delete_many().filter(group_member::Column::AgentId.eq(id)).exec(tx).await?;
    agent_skill::Entity::delete_many().filter(agent_skill::Column::AgentId.eq(id)).exec(tx).await?;
    Ok(())
}

async fn leave_desk(tx: &DatabaseTransaction, now: Timestamp, id: UserId) -> Result<(), DbErr> {
    let Some(desk) = agent::Entity::find_by_id(id).one(tx).await? else { return Ok(()) };
    let change = agent::ActiveModel {
        state: Set(AgentState::LoggedOff),
        reason: Set(None),
        state_changed_at: Set(now),
        version: Set(desk.version + 1),
        updated_at: Set(now),
        ..Default::default()
    };
    let left = agent::Entity::update_many()
        .set(change)
        .filter(agent::Column::Id.eq(id))
        .filter(agent::Column::State.ne(AgentState::LoggedOff))
        .exec(tx)
        .await?;
    if left.rows_affected == 1 {
        let data = json!({ "agent_id": id, "state": AgentState::LoggedOff });
        events::append(tx, now, vec![NewEvent::new("agent.state_changed", id.uuid(), &data).for_agent(id)])
            .await?;
    }
    // Also when the desk was left before: work stays with an agent who only logs off.
    crate::work::agent_left(tx, id, now, true).await
}

/// Refuses a change after which no active administrator would be left besides `id`.
///
/// The rows of the administrators are locked, so that two of them cannot demote each other at the same moment.
///
/// # Errors
/// `last_admin`.
pub async fn keep_an_admin(tx: &DatabaseTransaction, id: UserId) -> Result<(), Problem> {
    let admins = Entity::find()
        .filter(Column::Role.eq(Role::Admin))
        .filter(Column::Disabled.eq(false))
        .filter(Column::DeletedAt.is_null())
        .order_by_asc(Column::Id)
        .lock_exclusive()
        .all(tx)
        .await?;
    if admins.iter().any(|admin| admin.id != id) {
        return Ok(());
    }
    Err(Problem::new(Code::LastAdmin, "make another administrator first"))
}

/// Deletes a user softly: the row stays under another name, because work and audit entries refer to it.
///
/// # Errors
/// `last_admin`, `concurrent_change`.
pub async fn delete(tx: &DatabaseTransaction, now: Timestamp, user: &Model) -> Result<(), Problem> {
    if user.role == Role::Admin && !user.disabled {
        keep_an_admin(tx, user.id).await?;
    }
    let change = ActiveModel {
        // The login name is free for somebody else.
        username: Set(format!("{}~{}", user.username, user.id)),
        password_hash: Set(String::new()),
        disabled: Set(true),
        deleted_at: Set(Some(now)),
        ..Default::default()
    };
    let gone = update(tx, now, user, change).await?;
    refresh::revoke_user(tx, user.id, now).await?;
    keep_desk(tx, now, &gone).await?;
    events::append(tx, now, vec![event("user.deleted", &gone)]).await?;
    Ok(())
}

/// Writes a change of a row that nobody else changed meanwhile, under the next version.
///
/// # Errors
/// `RecordNotUpdated` when somebody did.
pub async fn update(
    tx: &DatabaseTransaction,
    now: Timestamp,
    user: &Model,
    change: ActiveModel,
) -> Result<Model, DbErr> {
    let change = ActiveModel { version: Set(user.version + 1), updated_at: Set(now), ..change };
    let guarded = Entity::update_many()
        .set(change)
        .filter(Column::Id.eq(user.id))
        .filter(Column::Version.eq(user.version))
        .filter(Column::DeletedAt.is_null());
    guarded.exec_with_returning(tx).await?.pop().ok_or(DbErr::RecordNotUpdated)
}

/// An event about a user, for administrators.
pub fn event(kind: &'static str, user: &Model) -> NewEvent {
    let data = json!({ "user_id": user.id, "role": user.role, "disabled": user.disabled });
    NewEvent::new(kind, user.id.uuid(), &data).for_admins()
}
