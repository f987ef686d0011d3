//! Which templates and partials include a partial.

use std::collections::{BTreeSet, HashMap};

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter,
    QuerySelect,
};
use serde_json::Value;

use super::{
    bodies::{PartialUser, PartialUserKind},
    entity::{partial, partial_include, template_include},
    freeze::Frozen,
};
use crate::{
    db::among,
    id::{PartialId, TemplateId},
    templates::entity::{self as template, TemplateState},
};

/// Notes what a template includes, instead of what was noted before.
///
/// # Errors
/// Whatever the database says.
pub async fn note_template(
    tx: &DatabaseTransaction,
    id: TemplateId,
    names: BTreeSet<String>,
) -> Result<(), DbErr> {
    use template_include::{ActiveModel, Column, Entity};
    Entity::delete_many().filter(Column::TemplateId.eq(id)).exec(tx).await?;
    if names.is_empty() {
        return Ok(());
    }
    let rows = names.into_iter().map(|name| ActiveModel { template_id: Set(id), name: Set(name) });
    Entity::insert_many(rows).exec_without_returning(tx).await?;
    Ok(())
}

/// Notes what a partial includes, instead of what was noted before.
///
/// # Errors
/// Whatever the database says.
pub async fn note_partial(
    tx: &DatabaseTransaction,
    id: PartialId,
    names: BTreeSet<String>,
) -> Result<(), DbErr> {
    use partial_include::{ActiveModel, Column, Entity};
    Entity::delete_many().filter(Column::PartialId.eq(id)).exec(tx).await?;
    if names.is_empty() {
        return Ok(());
    }
    let rows = names.into_iter().map(|name| ActiveModel { partial_id: Set(id), name: Set(name) });
    Entity::insert_many(rows).exec_without_returning(tx).await?;
    Ok(())
}

/// Who includes each of these partials: templates first, in the order of their names.
///
/// # Errors
/// Whatever the database says.
pub async fn users(
    db: &impl ConnectionTrait,
    partials: &[partial::Model],
) -> Result<HashMap<String, Vec<PartialUser>>, DbErr> {
    let mut users: HashMap<String, Vec<PartialUser>> = HashMap::new();
    if partials.is_empty() {
        return Ok(users);
    }
    let names = || partials.iter().map(|row| row.name.clone());
    let including = template_include::Entity::find()
        .filter(among(template_include::Column::Name, names()))
        .all(db)
        .await?;
    let templates = templates(db, including.iter().map(|one| one.template_id).collect()).await?;
    for one in including {
        let Some((name, state, frozen)) = templates.get(&one.template_id) else { continue };
        let now = partials.iter().find(|row| row.name == one.name);
        let frozen = frozen.get(&one.name).zip(now);
        let outdated = *state == TemplateState::Published
            && frozen.is_some_and(|(then, now)| then.text != now.text || then.html != now.html);
        users.entry(one.name).or_default().push(PartialUser {
            kind: PartialUserKind::Template,
            id: one.template_id.uuid(),
            name: name.clone(),
            state: Some(*state),
            outdated,
        });
    }
    let including: Vec<(String, PartialId, String)> = partial_include::Entity::find()
        .select_only()
        .column(partial_include::Column::Name)
        .column(partial::Column::Id)
        .column_as(partial::Column::Name, "including")
        .join_rev(
            sea_orm::JoinType::InnerJoin,
            partial::Entity::belongs_to(partial_include::Entity)
                .from(partial::Column::Id)
                .to(partial_include::Column::PartialId)
                .into(),
        )
        .filter(among(partial_include::Column::Name, names()))
        .into_tuple()
        .all(db)
        .await?;
    for (included, id, name) in including {
        let (kind, state, outdated) = (PartialUserKind::Partial, None, false);
        users.entry(included).or_default().push(PartialUser { kind, id: id.uuid(), name, state, outdated });
    }
    for users in users.values_mut() {
        users.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    }
    Ok(users)
}

type Known = HashMap<TemplateId, (String, TemplateState, Frozen)>;

async fn templates(db: &impl ConnectionTrait, ids: BTreeSet<TemplateId>) -> Result<Known, DbErr> {
    if ids.is_empty() {
        return Ok(Known::new());
    }
    let rows: Vec<(TemplateId, String, TemplateState, Value)> = template::Entity::find()
        .select_only()
        .columns([
            template::Column::Id,
            template::Column::Name,
            template::Column::State,
            template::Column::Partials,
        ])
        .filter(among(template::Column::Id, ids))
        .into_tuple()
        .all(db)
        .await?;
    let known = rows.into_iter().map(|(id, name, state, partials)| {
        (id, (name, state, serde_json::from_value(partials).unwrap_or_default()))
    });
    Ok(known.collect())
}
