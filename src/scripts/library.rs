//! What is in force: active versions compiled, calendars and global variables, kept in memory and never stale.
//!
//! Every change of scripts, calendars and variables gives the table `routing_stamp` a new value in its own
//! transaction. [`Library::snapshot`] reads that one row and, unless it changed, answers from memory: a reader sees
//! exactly what is committed, in every replica, for the price of one primary-key read in each of its transactions.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter,
};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::calendar::Calendar;
use super::definition::Definition;
use super::entity::{ScriptVersionState, calendar, script, stamp, variable, version};
use super::evaluate::Compiled;
use super::problem::Problem;
use crate::clock::Timestamp;
use crate::db::among;
use crate::id::{ScriptId, ScriptVersionId, new_uuid};

const STAMP_ROW: i32 = 1;
/// Most compiled versions kept; beyond that all but those in force are compiled anew when they are needed.
const MAX_VERSIONS: usize = 1_000;
const IDS_PER_QUERY: usize = 500;

/// A version, ready to run.
#[derive(Debug)]
pub struct Loaded {
    /// The script.
    pub script_id: ScriptId,
    /// The version: what a `Run` is started with.
    pub version_id: ScriptVersionId,
    /// The version's number.
    pub number: i32,
    /// The definition, compiled.
    pub compiled: Compiled,
}

/// Everything in force at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    stamp: Uuid,
    /// The active version of each script that has one; `None` when it does not compile.
    active: HashMap<ScriptId, Option<Arc<Loaded>>>,
    default_script: Option<ScriptId>,
    calendars: HashMap<Uuid, Arc<Calendar>>,
    globals: BTreeMap<String, Json>,
}

impl Snapshot {
    /// What new items of an account run: the active version of its `script_id`, or of the default script when it
    /// names none or its script has no active version.
    ///
    /// `None` when there is nothing to run; the item belongs into the account's fallback queue then.
    pub fn active_for(&self, script_id: Option<ScriptId>) -> Option<Arc<Loaded>> {
        let own = script_id.and_then(|id| self.active.get(&id));
        let default = || self.default_script.and_then(|id| self.active.get(&id));
        own.or_else(default)?.clone()
    }

    /// The calendar of this id.
    pub fn calendar(&self, id: Uuid) -> Option<Arc<Calendar>> {
        self.calendars.get(&id).cloned()
    }

    /// The global variables by name, as `Facts::globals` wants them.
    pub fn globals(&self) -> &BTreeMap<String, Json> {
        &self.globals
    }
}

/// The process's memory of scripts, calendars and variables.
#[derive(Debug, Default)]
pub struct Library {
    current: Mutex<Option<Arc<Snapshot>>>,
    versions: Mutex<HashMap<ScriptVersionId, Arc<Loaded>>>,
}

impl Library {
    /// Everything in force as `db` (the caller's transaction, or `app.db.read()`) sees it; one small read when nothing
    /// changed since the last call.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn snapshot(&self, db: &impl ConnectionTrait) -> Result<Arc<Snapshot>, DbErr> {
        // The stamp is read first: what is read after it is at least as new.
        let row = stamp::Entity::find_by_id(STAMP_ROW).one(db).await?;
        let stamp = row.map_or_else(Uuid::nil, |row| row.stamp);
        if let Some(current) = held(&self.current).as_ref().filter(|current| current.stamp == stamp) {
            return Ok(Arc::clone(current));
        }
        let made = Arc::new(self.load(db, stamp).await?);
        *held(&self.current) = Some(Arc::clone(&made));
        Ok(made)
    }

    /// A version that is or was in force, for a run under way; `None` when it is gone or does not compile.
    ///
    /// Such a version never changes, so it is read once.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn version(
        &self,
        db: &impl ConnectionTrait,
        id: ScriptVersionId,
    ) -> Result<Option<Arc<Loaded>>, DbErr> {
        if let Some(known) = held(&self.versions).get(&id) {
            return Ok(Some(Arc::clone(known)));
        }
        let select =
            version::Entity::find_by_id(id).filter(version::Column::State.ne(ScriptVersionState::Draft));
        Ok(select.one(db).await?.and_then(|row| self.keep(row)))
    }

    async fn load(&self, db: &impl ConnectionTrait, stamp: Uuid) -> Result<Snapshot, DbErr> {
        let scripts = script::Entity::find().all(db).await?;
        let default_script = scripts.iter().find(|script| script.is_default).map(|script| script.id);
        let mut active = HashMap::new();
        let ids: Vec<_> =
            scripts.iter().filter_map(|script| Some((script.id, script.active_version_id?))).collect();
        for ids in ids.chunks(IDS_PER_QUERY) {
            active.extend(self.load_versions(db, ids).await?);
        }
        let calendars = calendar::Entity::find().all(db).await?;
        let globals = variable::Entity::find().all(db).await?;
        Ok(Snapshot {
            stamp,
            active,
            default_script,
            calendars: calendars.into_iter().filter_map(ready).collect(),
            globals: globals.into_iter().map(|row| (row.name, row.value)).collect(),
        })
    }

    async fn load_versions(
        &self,
        db: &impl ConnectionTrait,
        ids: &[(ScriptId, ScriptVersionId)],
    ) -> Result<HashMap<ScriptId, Option<Arc<Loaded>>>, DbErr> {
        let known = |id: &ScriptVersionId| held(&self.versions).get(id).cloned();
        let mut loaded: HashMap<_, _> =
            ids.iter().filter_map(|(script, id)| Some((*script, Some(known(id)?)))).collect();
        let missing: Vec<_> =
            ids.iter().filter(|(script, _)| !loaded.contains_key(script)).map(|(_, id)| *id).collect();
        if !missing.is_empty() {
            let rows = version::Entity::find().filter(among(version::Column::Id, missing)).all(db).await?;
            loaded.extend(rows.into_iter().map(|row| (row.script_id, self.keep(row))));
        }
        Ok(loaded)
    }

    fn keep(&self, row: version::Model) -> Option<Arc<Loaded>> {
        let id = row.id;
        match compile(&row.definition) {
            Ok(compiled) => {
                let (script_id, number) = (row.script_id, row.number);
                let loaded = Arc::new(Loaded { script_id, version_id: id, number, compiled });
                let mut versions = held(&self.versions);
                if versions.len() >= MAX_VERSIONS {
                    versions.clear();
                }
                versions.insert(id, Arc::clone(&loaded));
                Some(loaded)
            }
            Err(problems) => {
                tracing::error!(version = %id, ?problems, "an activated script version does not compile");
                None
            }
        }
    }
}

/// Makes a stored definition ready to run.
///
/// # Errors
/// What keeps it from being read or compiled, with pointers into the definition.
pub fn compile(definition: &Json) -> Result<Compiled, Vec<Problem>> {
    Definition::parse(definition).and_then(Compiled::new)
}

/// Tells all libraries that scripts, calendars or variables change, when `tx` is committed.
///
/// Called before anything else in the transaction: on PostgreSQL it also makes such transactions wait for each other.
///
/// # Errors
/// Whatever the database says.
pub async fn touch(tx: &DatabaseTransaction, now: Timestamp) -> Result<(), DbErr> {
    let row = stamp::ActiveModel { id: Set(STAMP_ROW), stamp: Set(new_uuid(now)) };
    let replace = OnConflict::column(stamp::Column::Id).update_column(stamp::Column::Stamp).to_owned();
    stamp::Entity::insert(row).on_conflict(replace).exec_without_returning(tx).await?;
    Ok(())
}

fn ready(row: calendar::Model) -> Option<(Uuid, Arc<Calendar>)> {
    let id = row.id;
    match stored_calendar(row) {
        Ok(calendar) => Some((id.uuid(), Arc::new(calendar))),
        Err(error) => {
            tracing::error!(calendar = %id, %error, "a stored calendar cannot be read");
            None
        }
    }
}

/// The rules of a stored calendar.
pub fn stored_calendar(row: calendar::Model) -> serde_json::Result<Calendar> {
    serde_json::from_value(json!({ "timezone": row.timezone, "entries": row.entries }))
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
