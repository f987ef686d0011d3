//! Looks up in the database what a definition refers to, and who refers to what.

use std::collections::{HashMap, HashSet};

use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QuerySelect,
};
use uuid::Uuid;

use super::definition::Definition;
use super::entity::{ScriptVersionState, calendar, script, version};
use super::expression::Expr;
use super::library;
use super::steps::{Reference, ReferenceKind};
use super::validate::KnownReferences;
use crate::agents::entity::{agent, skill};
use crate::classes::entity as class;
use crate::clock::Timestamp;
use crate::db::among;
use crate::http::{Code, Problem};
use crate::queues::entity::queue;
use crate::templates::entity::{self as template, TemplateState};

const IDS_PER_QUERY: usize = 500;

/// Everything that `definition` refers to and that exists; of templates, only published ones.
pub(super) async fn references(
    db: &impl ConnectionTrait,
    definition: &Definition,
) -> Result<KnownReferences, DbErr> {
    let mut wanted: HashMap<ReferenceKind, HashSet<Uuid>> = HashMap::new();
    for (_, Reference { kind, id }) in definition.references() {
        wanted.entry(kind).or_default().insert(id);
    }
    let mut known = KnownReferences::default();
    for (kind, ids) in wanted {
        let ids: Vec<Uuid> = ids.into_iter().collect();
        for ids in ids.chunks(IDS_PER_QUERY) {
            if kind == ReferenceKind::Calendar {
                known.calendars.extend(calendars(db, ids).await?);
            } else {
                known.things.extend(existing(db, kind, ids).await?.into_iter().map(|id| (kind, id)));
            }
        }
    }
    Ok(known)
}

async fn existing(db: &impl ConnectionTrait, kind: ReferenceKind, ids: &[Uuid]) -> Result<Vec<Uuid>, DbErr> {
    macro_rules! ids_of {
        ($table:ident) => {
            $table::Entity::find()
                .select_only()
                .column($table::Column::Id)
                .filter(among($table::Column::Id, ids.iter().copied()))
        };
    }
    let ids = match kind {
        ReferenceKind::Queue => ids_of!(queue).into_tuple().all(db).await?,
        ReferenceKind::Agent => ids_of!(agent).into_tuple().all(db).await?,
        ReferenceKind::Class => ids_of!(class).into_tuple().all(db).await?,
        ReferenceKind::Skill => ids_of!(skill).into_tuple().all(db).await?,
        ReferenceKind::Script => ids_of!(script).into_tuple().all(db).await?,
        ReferenceKind::Template => {
            let published = template::Column::State.eq(TemplateState::Published);
            ids_of!(template).filter(published).into_tuple().all(db).await?
        }
        ReferenceKind::Calendar => Vec::new(),
    };
    Ok(ids)
}

async fn calendars(db: &impl ConnectionTrait, ids: &[Uuid]) -> Result<HashMap<Uuid, HashSet<String>>, DbErr> {
    let rows =
        calendar::Entity::find().filter(among(calendar::Column::Id, ids.iter().copied())).all(db).await?;
    let names = |row: &calendar::Model| {
        let entries = row.entries.as_array().into_iter().flatten();
        entries.filter_map(|entry| Some(entry["name"].as_str()?.to_owned())).collect()
    };
    Ok(rows.iter().map(|row| (row.id.uuid(), names(row))).collect())
}

/// The definitions in force that can be read.
async fn in_force(db: &impl ConnectionTrait) -> Result<Vec<Definition>, DbErr> {
    let active = version::Column::State.eq(ScriptVersionState::Active);
    let rows = version::Entity::find().filter(active).all(db).await?;
    Ok(rows.iter().filter_map(|row| Definition::parse(&row.definition).ok()).collect())
}

/// Refuses to delete what an active version of a script refers to. Called before anything else in the transaction: no
/// version is activated until that ends.
///
/// # Errors
/// `in_use`.
pub async fn refuse_deletion(
    tx: &DatabaseTransaction,
    now: Timestamp,
    kind: ReferenceKind,
    id: Uuid,
) -> Result<(), Problem> {
    library::touch(tx, now).await?;
    let thing = Reference { kind, id };
    let mentions =
        |definition: &Definition| definition.references().iter().any(|(_, mention)| *mention == thing);
    if in_force(tx).await?.iter().any(mentions) {
        return Err(Problem::new(Code::InUse, "an active version of a script refers to it"));
    }
    Ok(())
}

/// Whether an expression of an active version reads the global variable.
pub(super) async fn reads_variable(db: &impl ConnectionTrait, name: &str) -> Result<bool, DbErr> {
    let reads = |(_, expression): (String, &Expr)| {
        let members = expression.paths().iter().filter_map(|path| path.strip_prefix("globals."));
        members.map(|path| path.split('.').next()).any(|member| member == Some(name))
    };
    let definitions = in_force(db).await?;
    let mut steps = definitions.iter().flat_map(|definition| definition.steps.values());
    Ok(steps.any(|step| step.kind().expressions().into_iter().any(reads)))
}
