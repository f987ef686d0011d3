//! What the document says in words that are made from tables: who may call an operation, and which events there are.

use serde_json::{Value, json};

use crate::{access::matrix::Access, events::vocabulary};

/// Says who may call an operation: as the last line of its description, and as the extension `x-roles`.
pub fn name_callers(operation: &mut Value, access: Access) {
    let roles = access.roles();
    operation["x-roles"] = json!(roles);
    let said = match (access, access.scope()) {
        (Access::Public, _) => "Roles: none; everybody may call it, without a token.".to_owned(),
        (_, Some(scope)) => format!("Roles: {}; or an API key with the scope {scope}.", roles.join(", ")),
        _ => format!("Roles: {}.", roles.join(", ")),
    };
    append(&mut operation["description"], &said);
}

/// Says which events there are, where events are listed and described.
pub fn name_events(document: &mut Value) {
    let table = vocabulary::table();
    append(&mut document["paths"]["/v1/events"]["get"]["description"], &table);
    append(&mut document["components"]["schemas"]["Event"]["properties"]["type"]["description"], &table);
}

fn append(description: &mut Value, paragraph: &str) {
    *description = match description.as_str().filter(|text| !text.is_empty()) {
        Some(before) => format!("{before}\n\n{paragraph}").into(),
        None => paragraph.into(),
    };
}
