//! What operations on DKIM keys take and give.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::entity::{DkimAlgorithm, DkimKeyState, Model};
use crate::{access::matrix::Access, clock::Timestamp, http::Caller, id::DkimKeyId};

/// Longest string of a TXT record in bytes (RFC 1035 section 3.3).
const TXT_STRING: usize = 255;

/// What the caller may do with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DkimKeyAction {
    /// See whether it works and is published.
    Check,
    /// Sign with it.
    Activate,
    /// Sign with it no more.
    Retire,
    /// Delete it.
    Delete,
}

/// A key that signs the mail of a domain. Its private half is never shown.
#[derive(Debug, Serialize, ToSchema)]
pub struct DkimKey {
    /// The key's id.
    pub id: DkimKeyId,
    /// The domain that it signs for, and those below it that have no active key of their own.
    #[schema(examples("example.com"))]
    pub domain: String,
    /// Under which name in the domain its public half is published.
    #[schema(examples("postroom1"))]
    pub selector: String,
    /// The algorithm.
    pub algorithm: DkimAlgorithm,
    /// Whether mail is signed with it.
    pub state: DkimKeyState,
    /// The name of the TXT record to publish.
    #[schema(examples("postroom1._domainkey.example.com"))]
    pub dns_name: String,
    /// The record's text.
    #[schema(examples("v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="))]
    pub dns_record: String,
    /// The same in strings of at most 255 bytes, for zone files and providers that want them so.
    #[schema(max_items = 10)]
    pub dns_strings: Vec<String>,
    /// What the caller may do now.
    pub allowed_actions: Vec<DkimKeyAction>,
    /// Since when, or when last, mail was signed with it.
    pub activated_at: Option<Timestamp>,
    /// When that ended.
    pub retired_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl DkimKey {
    /// As the caller sees it.
    pub(super) fn new(row: Model, caller: &Caller) -> Self {
        let strings = row.dns_record.as_bytes().chunks(TXT_STRING);
        Self {
            allowed_actions: allowed_actions(row.state, caller),
            dns_name: format!("{}._domainkey.{}", row.selector, row.domain),
            dns_strings: strings.map(|string| String::from_utf8_lossy(string).into_owned()).collect(),
            id: row.id,
            domain: row.domain,
            selector: row.selector,
            algorithm: row.algorithm,
            state: row.state,
            dns_record: row.dns_record,
            activated_at: row.activated_at,
            retired_at: row.retired_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

fn allowed_actions(state: DkimKeyState, caller: &Caller) -> Vec<DkimKeyAction> {
    use DkimKeyAction::{Activate, Check, Delete, Retire};
    let is_active = state == DkimKeyState::Active;
    let actions = [
        (Check, true, "check_dkim_key"),
        (Activate, !is_active, "activate_dkim_key"),
        (Retire, is_active, "retire_dkim_key"),
        (Delete, !is_active, "delete_dkim_key"),
    ];
    let may = |operation: &str| Access::of(operation).is_some_and(|access| access.allows(caller));
    let allowed = actions.into_iter().filter(|(_, fits, operation)| *fits && may(operation));
    allowed.map(|(action, ..)| action).collect()
}

/// A key to be made, or one that there is already.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "domain": "example.com", "selector": "postroom1", "algorithm": "ed25519" }))]
pub struct DkimKeyCreate {
    /// The domain whose mail it signs, and that of all domains below it that have no active key of their own.
    #[schema(min_length = 3, max_length = 253, pattern = r"^[^\s\x00-\x20@;]+$", examples("example.com"))]
    pub domain: String,
    /// Under which name in the domain its public half is published: letters, digits, hyphens and dots. Each key has its own.
    #[schema(
        min_length = 1,
        max_length = 63,
        pattern = r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$",
        examples("postroom1")
    )]
    pub selector: String,
    /// The algorithm of a key that is to be made; `rsa` when it is left out. Of a given key it is read from it.
    #[serde(default)]
    pub algorithm: Option<DkimAlgorithm>,
    /// A private key that there is already: unencrypted PEM, PKCS#8 (RSA with 2048 to 4096 bits, or Ed25519) or PKCS#1
    /// (RSA). It is stored sealed and never shown. When it is left out, a key is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 50, max_length = 10000, write_only)]
    pub private_key: Option<String>,
}

impl std::fmt::Debug for DkimKeyCreate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { domain, selector, algorithm, .. } = self;
        let mut shown = f.debug_struct("DkimKeyCreate");
        shown.field("domain", domain).field("selector", selector).field("algorithm", algorithm);
        shown.finish_non_exhaustive()
    }
}

/// One page of keys.
#[derive(Debug, Serialize, ToSchema)]
pub struct DkimKeyList {
    /// The keys.
    pub items: Vec<DkimKey>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}
