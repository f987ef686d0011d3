//! Who would get a broadcast now, and who would not and why. Changes nothing.

use std::collections::HashSet;

use actix_web::web;
use sea_orm::ConnectionTrait;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    entity::broadcast,
    gather::{self, Excluded, Exclusion, Sieve, reach},
    print::Printer,
    settings,
};
use crate::{
    accounts::entity::Channel, app::App, conversations::texts::segments, customers::entity::customer,
    http::Problem, id::MessageId, suppressions::AddressKeys,
};

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
    /// What its texts take together, of a broadcast by SMS.
    pub segments: Option<BroadcastSegments>,
    /// Whether all customers were looked at; of very long lists only the first 200,000 are.
    pub complete: bool,
    /// What keeps it from being begun.
    pub obstacles: Vec<BroadcastObstacle>,
}

/// What the texts of a broadcast take.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct BroadcastSegments {
    /// The segments of all texts that can be sent: what is paid for.
    #[schema(minimum = 0, examples(240))]
    pub total: u64,
    /// The most that one text takes.
    #[schema(minimum = 0, examples(2))]
    pub most: usize,
    /// How many recipients would get no text, because it takes more segments than the account allows.
    #[schema(minimum = 0, examples(0))]
    pub too_long: u64,
    /// How many recipients would get no text, because the template cannot be filled in for them.
    #[schema(minimum = 0, examples(0))]
    pub failed: u64,
}

impl BroadcastSegments {
    /// Counts what one page of customers would get; no I/O.
    fn count(mut self, printer: &Printer, page: &[customer::Model], like: MessageId) -> Self {
        for customer in page {
            let Some(number) = reach(Channel::Sms, customer).0 else { continue };
            match printer.parts(customer, number, printer.unsubscribe_url(like)) {
                Err(_) => self.failed += 1,
                Ok(parts) => match segments(printer.account(), &parts.text) {
                    Err(_) => self.too_long += 1,
                    Ok(found) => {
                        self.total += found.segments as u64;
                        self.most = self.most.max(found.segments);
                    }
                },
            }
        }
        self
    }
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
    let mut texts = match row.channel {
        Channel::Email => None,
        // What it refers to may be gone, which the obstacles say.
        Channel::Sms => {
            Printer::of(app, row).await.ok().map(|printer| (printer, BroadcastSegments::default()))
        }
    };
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
        let mut taken = sieved.taken;
        taken.retain(|customer| {
            let is_new = seen.insert(reach(row.channel, customer).1.unwrap_or_default().to_owned());
            if !is_new {
                *excluded.entry(Exclusion::Duplicate).or_default() += 1;
            }
            is_new
        });
        if let Some((printer, counted)) = texts.take() {
            let like = MessageId(row.id.uuid());
            texts = Some(
                web::block(move || {
                    let counted = BroadcastSegments::count(counted, &printer, &taken, like);
                    (printer, counted)
                })
                .await
                .map_err(Problem::internal)?,
            );
        }
    }
    let segments = texts.map(|(_, counted)| counted);
    let obstacles = obstacles(app, db, row).await?;
    Ok(BroadcastPreflight { found, recipients: seen.len() as u64, excluded, segments, complete, obstacles })
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
