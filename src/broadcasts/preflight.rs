//! Who would get a broadcast now, and who would not and why. Changes nothing.

use std::collections::HashSet;

use sea_orm::ConnectionTrait;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    entity::broadcast,
    gather::{self, Excluded, Exclusion, Sieve},
    settings,
};
use crate::{app::App, http::Problem, suppressions::AddressKeys};

/// More customers than this are not looked at while a caller waits.
const MOST: u64 = 200_000;

/// What a broadcast would do.
#[derive(Debug, Serialize, ToSchema)]
pub struct BroadcastPreflight {
    /// How many customers were looked at.
    pub found: u64,
    /// How many of them would get it.
    pub recipients: u64,
    /// How many would not, by reason.
    #[schema(value_type = Object, example = json!({ "status": 12, "suppressed": 3 }))]
    pub excluded: Excluded,
    /// Whether all customers were looked at; of very long lists only the first 200,000 are.
    pub complete: bool,
    /// What keeps it from being begun.
    pub obstacles: Vec<BroadcastObstacle>,
}

/// Something that keeps a broadcast from being begun.
#[derive(Debug, Serialize, ToSchema)]
pub struct BroadcastObstacle {
    /// The member that it is about, as a JSON pointer (RFC 6901).
    #[schema(examples("/template_id"))]
    pub pointer: String,
    /// What it is, for programs.
    #[schema(examples("wrong_state"))]
    pub code: String,
    /// What it is, in words.
    #[schema(examples("the template is not published"))]
    pub detail: String,
}

/// Looks at all customers as preparing it would.
///
/// # Errors
/// `validation_failed` for an expression that cannot be used any more.
pub(super) async fn look(app: &App, row: &broadcast::Model) -> Result<BroadcastPreflight, Problem> {
    let db = app.db.read();
    let keys = AddressKeys::of(app);
    let sieve = Sieve::of(row, keys)
        .map_err(|detail| Problem::invalid("/filter/expression", "invalid_expression", detail))?;
    let lists = gather::lists(db, row).await?;
    let (mut found, mut excluded, mut after) = (0_u64, Excluded::new(), None);
    let mut seen = HashSet::new();
    let mut complete = lists.is_empty();
    while !complete && found < MOST {
        let page = gather::page(db, &lists, after).await?;
        let Some(last) = page.last() else {
            complete = true;
            break;
        };
        after = Some(last.id);
        found += page.len() as u64;
        let sieved = sieve.sieve(db, page, app.clock.now()).await?;
        for (why, count) in sieved.excluded {
            *excluded.entry(why).or_default() += count;
        }
        for customer in sieved.taken {
            if !seen.insert(customer.email_key.unwrap_or_default()) {
                *excluded.entry(Exclusion::Duplicate).or_default() += 1;
            }
        }
    }
    let obstacles = obstacles(app, db, row).await?;
    Ok(BroadcastPreflight { found, recipients: seen.len() as u64, excluded, complete, obstacles })
}

async fn obstacles(
    app: &App,
    db: &impl ConnectionTrait,
    row: &broadcast::Model,
) -> Result<Vec<BroadcastObstacle>, Problem> {
    let found = settings::obstacles(app, db, row).await?;
    let shown = |error: crate::http::problem::FieldError| BroadcastObstacle {
        pointer: error.pointer,
        code: error.code,
        detail: error.detail,
    };
    Ok(found.into_iter().map(shown).collect())
}
