//! What routing needs on first start.

use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, SqlErr};

use super::default;
use super::entity::{ScriptVersionState, script, version};
use super::library;
use crate::app::App;
use crate::id::{ScriptId, ScriptVersionId};

/// Makes the default script with an active version, unless there is one; replicas may do this at the same moment.
///
/// It writes no event: on first start nobody has seen the log yet.
///
/// # Errors
/// Whatever the database says.
pub async fn default_script(app: &App) -> Result<(), DbErr> {
    if exists(app.db.read()).await? {
        return Ok(());
    }
    match make(app).await {
        // Another replica was faster.
        Err(error) if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => {
            if exists(app.db.read()).await? { Ok(()) } else { Err(error) }
        }
        made => made,
    }
}

async fn exists(db: &impl ConnectionTrait) -> Result<bool, DbErr> {
    let found = script::Entity::find().filter(script::Column::IsDefault.eq(true)).one(db).await?;
    Ok(found.is_some())
}

async fn make(app: &App) -> Result<(), DbErr> {
    let definition = serde_json::to_value(default::definition())
        .map_err(|error| DbErr::Custom(format!("the default definition cannot be written: {error}")))?;
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    library::touch(&tx, now).await?;
    if exists(&*tx).await? {
        return Ok(());
    }
    let (script_id, version_id) = (ScriptId::new(now), ScriptVersionId::new(now));
    let script = script::ActiveModel {
        id: Set(script_id),
        name: Set(default::NAME.to_owned()),
        description: Set("Puts every item into its account's fallback queue.".to_owned()),
        active_version_id: Set(Some(version_id)),
        is_default: Set(true),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
    };
    let version = version::ActiveModel {
        id: Set(version_id),
        script_id: Set(script_id),
        number: Set(1),
        description: Set(String::new()),
        state: Set(ScriptVersionState::Active),
        locked: Set(false),
        author: Set("postroom".to_owned()),
        definition: Set(definition),
        activated_at: Set(Some(now)),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
    };
    script::Entity::insert(script).exec_without_returning(&*tx).await?;
    version::Entity::insert(version).exec_without_returning(&*tx).await?;
    tx.commit().await
}
