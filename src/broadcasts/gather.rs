//! Who gets a broadcast: the customers of its lists, sieved by status, expression, address and suppression.

use std::collections::BTreeMap;

use minijinja::{
    Expression, context,
    value::{Serde, Value},
};
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{entity::broadcast, turn::statuses};
use crate::{
    accounts::entity::Channel,
    clock::Timestamp,
    customers::{
        self,
        entity::{CustomerStatus, ListState, customer, customer_list},
    },
    db::among,
    id::{CampaignId, CustomerId, ListId},
    language::ENVIRONMENT,
    suppressions::{AddressKeys, Barred},
};

/// How many customers are looked at together.
pub const PAGE: u64 = 500;

/// Why a customer gets no mail of a broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Exclusion {
    /// The customer has another status.
    Status,
    /// The expression does not hold.
    Expression,
    /// The expression cannot be evaluated for the customer.
    ExpressionFailed,
    /// The customer has no address, or no number for texts.
    NoAddress,
    /// The address may not be written to.
    Suppressed,
    /// Another customer of the broadcast has the same address.
    Duplicate,
}

/// How many customers are left out, by reason.
pub type Excluded = BTreeMap<Exclusion, u64>;

/// The lists whose customers get it: one, or those of a campaign that are in use.
///
/// # Errors
/// Whatever the database says.
pub async fn lists(db: &impl ConnectionTrait, row: &broadcast::Model) -> Result<Vec<ListId>, DbErr> {
    let Some(campaign) = row.campaign_id.filter(|_| row.list_id.is_none()) else {
        return Ok(row.list_id.into_iter().collect());
    };
    of_campaign(db, campaign).await
}

async fn of_campaign(db: &impl ConnectionTrait, id: CampaignId) -> Result<Vec<ListId>, DbErr> {
    use customer_list::Column;
    customer_list::Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::CampaignId.eq(id))
        .filter(Column::State.ne(ListState::Inactive))
        .order_by_asc(Column::Id)
        .into_tuple()
        .all(db)
        .await
}

/// The next customers of these lists after `after`, in the order of their ids.
///
/// # Errors
/// Whatever the database says.
pub async fn page(
    db: &impl ConnectionTrait,
    lists: &[ListId],
    after: Option<CustomerId>,
) -> Result<Vec<customer::Model>, DbErr> {
    use customer::Column;
    let mut select = customer::Entity::find();
    select = match lists {
        // One index look-up.
        [one] => select.filter(Column::ListId.eq(*one)),
        many => select.filter(among(Column::ListId, many.iter().copied())),
    };
    if let Some(after) = after {
        select = select.filter(Column::Id.gt(after));
    }
    select.order_by_asc(Column::Id).limit(PAGE).all(db).await
}

/// Where a customer is reached over the channel: the address or number, and the key that suppressions know it by.
pub fn reach(channel: Channel, customer: &customer::Model) -> (Option<&str>, Option<&str>) {
    match channel {
        Channel::Email => (customer.email.as_deref(), customer.email_key.as_deref()),
        Channel::Sms => (customer.sms_number.as_deref(), customer.sms_key.as_deref()),
    }
}

/// Decides who gets a broadcast.
pub struct Sieve {
    channel: Channel,
    statuses: Vec<CustomerStatus>,
    expression: Option<Expression<'static, 'static>>,
    campaign: Option<CampaignId>,
    marketing: bool,
    keys: AddressKeys,
}

impl std::fmt::Debug for Sieve {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sieve").field("statuses", &self.statuses).finish_non_exhaustive()
    }
}

/// Customers who get it, and how many do not.
#[derive(Debug, Default)]
pub struct Sieved {
    /// Who gets it.
    pub taken: Vec<customer::Model>,
    /// How many do not.
    pub excluded: Excluded,
}

impl Sieve {
    /// The sieve of a broadcast.
    ///
    /// # Errors
    /// What is wrong with its expression, as a sentence.
    pub fn of(row: &broadcast::Model, keys: AddressKeys) -> Result<Self, String> {
        let expression = row.expression.as_ref().map(|source| compile(source)).transpose()?;
        let (channel, campaign, marketing) = (row.channel, row.campaign_id, row.marketing);
        Ok(Self { channel, statuses: statuses(row), expression, campaign, marketing, keys })
    }

    /// Sieves one page; who has the address of an earlier customer is found when the rows are written.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn sieve(
        &self,
        db: &impl ConnectionTrait,
        page: Vec<customer::Model>,
        now: Timestamp,
    ) -> Result<Sieved, DbErr> {
        let addresses = page.iter().filter_map(|customer| reach(self.channel, customer).0);
        let barred = Barred::among(db, self.keys.clone(), addresses, now).await?;
        let mut sieved = Sieved::default();
        for customer in page {
            match self.exclusion(&barred, &customer) {
                None => sieved.taken.push(customer),
                Some(why) => *sieved.excluded.entry(why).or_default() += 1,
            }
        }
        Ok(sieved)
    }

    fn exclusion(&self, barred: &Barred, customer: &customer::Model) -> Option<Exclusion> {
        if customer.erased_at.is_some() || !self.statuses.contains(&customer.status) {
            return Some(Exclusion::Status);
        }
        let Some(address) = reach(self.channel, customer).0 else { return Some(Exclusion::NoAddress) };
        if barred.reason(address, self.marketing, self.campaign).is_some() {
            return Some(Exclusion::Suppressed);
        }
        let expression = self.expression.as_ref()?;
        let facts = Value::from(Serde(customers::context::of(customer)));
        match expression.eval(context! { customer => facts }) {
            Ok(holds) if holds.is_true() => None,
            Ok(_) => Some(Exclusion::Expression),
            Err(_) => Some(Exclusion::ExpressionFailed),
        }
    }
}

/// Compiles the expression of a broadcast, which reads `customer` only.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub fn compile(source: &str) -> Result<Expression<'static, 'static>, String> {
    let expression =
        ENVIRONMENT.compile_expression_owned(source.to_owned()).map_err(|error| error.to_string())?;
    let mut unknown = expression.undeclared_variables(false).into_iter().filter(|name| name != "customer");
    match unknown.next() {
        Some(name) => Err(format!("`{name}` is not known here; an expression reads `customer`")),
        None => Ok(expression),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_reads_customers_only() {
        assert!(compile("customer.data.tier == 'gold'").is_ok());
        assert!(compile("customer.data.tier ==").is_err());
        assert_eq!(
            compile("tier == 'gold'").map(|_| ()),
            Err("`tier` is not known here; an expression reads `customer`".to_owned())
        );
    }
}
