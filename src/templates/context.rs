//! What templates of the purpose `general` read besides their own fields.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::id::CampaignId;

/// The names that a template is given, so that none of its fields may have them.
pub const ROOTS: [&str; 5] = ["customer", "campaign", "to", "account", "unsubscribe_url"];

/// What there is below the names; `*` stands for anything.
const PATHS: [&str; 16] = [
    "customer.id",
    "customer.ref",
    "customer.name",
    "customer.email",
    "customer.sms_number",
    "customer.locale",
    "customer.status",
    "customer.callback_at",
    "customer.attempts",
    "customer.data.*",
    "campaign.id",
    "campaign.name",
    "to.name",
    "to.address",
    "account.address",
    "account.display_name",
];

/// Whether a dotted path is, or leads to, something that templates are given.
pub fn is_known(path: &str) -> bool {
    let leads = |known: &&str| match known.strip_suffix(".*") {
        Some(open) if path.starts_with(open) => matches!(path[open.len()..].chars().next(), None | Some('.')),
        _ => known.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')),
    };
    path == "unsubscribe_url" || PATHS.iter().any(leads)
}

/// `campaign` in templates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CampaignContext {
    /// The campaign.
    pub id: CampaignId,
    /// Its name.
    pub name: String,
}

/// `to` in templates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecipientContext {
    /// The name, where it is known.
    pub name: Option<String>,
    /// The address or number.
    pub address: String,
}

/// What a template of the purpose `general` is given; what is none is not there.
#[derive(Clone, Debug, Default, Serialize)]
pub struct GeneralContext {
    /// `crate::customers::context::of` the customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<Value>,
    /// The campaign that it is sent for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign: Option<CampaignContext>,
    /// Who gets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<RecipientContext>,
    /// The account that it is sent from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<super::render::AccountContext>,
    /// Where the recipient can say that they want no more of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsubscribe_url: Option<String>,
}

impl GeneralContext {
    /// As names and values.
    pub fn into_map(self) -> Map<String, Value> {
        match json!(self) {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_known_and_nothing_else() {
        for known in
            ["customer", "customer.name", "customer.data", "customer.data.a.b", "to", "unsubscribe_url"]
        {
            assert!(is_known(known), "{known}");
        }
        for unknown in [
            "customers",
            "customer.nam",
            "customer.name.x",
            "customer.database",
            "message",
            "unsubscribe_url.x",
            "",
        ] {
            assert!(!is_known(unknown), "{unknown}");
        }
    }
}
