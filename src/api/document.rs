//! The OpenAPI document: collected from the handlers, completed with what holds for every operation.

use std::collections::BTreeSet;

use actix_web::App as ActixApp;
use serde_json::{Map, Value, json};
use utoipa::OpenApi;
use utoipa_actix_web::{AppExt, scope};

use super::told;
use crate::{
    access::matrix::Access,
    agents::api::AgentSettingsCreate,
    http::{contract::all_is_optional, problem::ProblemBody},
};

/// POSTs that take no `Idempotency-Key`: a repeat finds the state that it wants, or does no harm.
const WITHOUT_KEY: &[&str] = &[
    "cancel_broadcast",
    "pause_broadcast",
    "preflight_broadcast",
    "resume_broadcast",
    "retry_failed_broadcast",
    "start_broadcast",
    "activate_account",
    "activate_dkim_key",
    "activate_script_version",
    "advance_sandbox_clock",
    "archive_template",
    "backfill_account",
    "cancel_import",
    "cancel_message",
    "change_password",
    "check_account",
    "check_dkim_key",
    "check_outgoing_server",
    "clear_customer_callback",
    "close_conversation",
    "create_event_ticket",
    "disable_account",
    "erase_customer",
    "import_suppressions",
    "lock_script_version",
    "pause_account",
    "pause_outgoing_server",
    "poll_account",
    "preview_template",
    "preview_text",
    "publish_template",
    "redial_customer",
    "resume_account",
    "resume_campaign",
    "resume_outgoing_server",
    "retire_dkim_key",
    "revoke_api_key",
    "set_customer_callback",
    "simulate_script_version",
    "start_campaign",
    "stop_campaign",
    "suspend_campaign",
    "terminate_customer",
    "unlock_script_version",
    "validate_script_version",
];

/// Changes of what has no version, so that there is no ETag to compare.
const WITHOUT_ETAG: &[&str] =
    &["delete_captured_messages", "delete_suppression", "delete_upload", "put_import_rows"];

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Postroom",
        description = "The e-mail side of a contact centre: accounts receive mail, scripts route it, queues hold it, \
            agents are offered it and answer it.\n\nEvery error is `application/problem+json` (RFC 9457) with a stable `code`; \
            `GET /v1/problems` lists them. Every POST that creates, sends or moves work takes an \
            `Idempotency-Key`. Configuration resources carry an `ETag`; `PUT`, `PATCH` and `DELETE` honour `If-Match`.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
        contact(name = "Postroom"),
    ),
    servers((url = "/", description = "This server")),
    components(schemas(ProblemBody, AgentSettingsCreate)),
    tags(
        (name = "service", description = "Is it alive, is it ready, what can go wrong."),
        (name = "access", description = "Logging in, users, API keys, the audit log."),
        (name = "accounts", description = "Mailboxes we receive at and send from."),
        (name = "outgoing server", description = "The one SMTP server that all accounts share."),
        (name = "DKIM keys", description = "Keys that sign the mail of our domains."),
        (name = "scripts", description = "Routing: scripts and their versions, calendars, global variables."),
        (name = "templates", description = "Texts for automatic answers, sends and broadcasts."),
        (name = "campaigns", description = "What is sent to customers when something happens to them, and what was tried with them."),
        (name = "broadcasts", description = "One template to many customers, with a ledger of what became of each."),
        (name = "outcomes", description = "What can come of trying to reach a customer."),
        (name = "lists", description = "Lists of customers, and files that they are read from and written to."),
        (name = "customers", description = "The persons to contact."),
        (name = "unsubscribe", description = "The link in a mail, for its recipient."),
        (name = "suppressions", description = "Addresses that we may not send to."),
        (name = "classes", description = "What kind of contact this is."),
        (name = "skills", description = "What agents can do."),
        (name = "agent groups", description = "Who serves queues, and how work is offered to them."),
        (name = "agents", description = "Agents, their state, skills and capacity."),
        (name = "queues", description = "Where work waits."),
        (name = "work items", description = "Pieces of work for agents, and what can be done with them."),
        (name = "offers", description = "Work held out to one agent for a limited time."),
        (name = "conversations", description = "Threads of messages with customers, and notes on them."),
        (name = "messages", description = "Single messages, their raw source, attachments and delivery."),
        (name = "events", description = "Everything that happens, in order: as a list and as a stream."),
        (name = "sandbox", description = "Only in the sandbox: its clock."),
    ),
)]
struct Base;

/// The document as JSON.
///
/// # Errors
/// When an operation is missing in the role matrix, or the document cannot be written.
pub fn document() -> anyhow::Result<Value> {
    Ok(published(whole()?))
}

/// Of [`whole`] what others are told.
pub(super) fn published(mut whole: Value) -> Value {
    drop_unused_schemas(&mut whole);
    whole
}

/// The document with the schemas that only the service itself uses: the writable forms that a patch must result in.
///
/// # Errors
/// As [`document`].
pub(super) fn whole() -> anyhow::Result<Value> {
    let mut app = ActixApp::new().into_utoipa_app().openapi(Base::openapi());
    for mount in super::ROOT {
        app = app.configure(mount);
    }
    // One after the other: each brings every schema as often as it is named.
    for mount in super::V1 {
        app = app.configure(|config| {
            config.service(scope::scope("/v1").configure(mount));
        });
    }
    let (_, collected) = app.split_for_parts();
    let mut document = serde_json::to_value(collected)?;
    add_patch_schemas(&mut document);
    add_security_schemes(&mut document);
    add_shared_answers(&mut document);
    told::name_events(&mut document);
    for (path, item) in document["paths"].as_object_mut().into_iter().flatten() {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            complete(path, method, operation)?;
        }
    }
    let_bodies_be_left_out(&mut document);
    add_path_examples(&mut document);
    Ok(document)
}

/// What holds for an operation because of its method, path, body and row in the matrix.
fn complete(path: &str, method: &str, operation: &mut Value) -> anyhow::Result<()> {
    let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
    let access =
        Access::of(&id).ok_or_else(|| anyhow::anyhow!("operation {id} is missing in the role matrix"))?;
    told::name_callers(operation, access);
    // Every operation refuses a query parameter that it does not know.
    let mut answers = vec!["400", "500", "503"];
    operation["security"] = match access {
        Access::Public => json!([]),
        _ => {
            answers.extend(["401", "403"]);
            let scopes: Vec<&str> = access.scope().into_iter().collect();
            json!([{ "password": scopes }, { "bearer": [] }])
        }
    };
    if path.contains('{') {
        answers.push("404");
    }
    if operation.get("requestBody").is_some() {
        answers.extend(["413", "415", "422"]);
    }
    match method {
        "post" => {
            answers.extend(["409", "422"]);
            // A key belongs to a caller.
            if access != Access::Public && !WITHOUT_KEY.contains(&id.as_str()) {
                add_header(
                    operation,
                    "Idempotency-Key",
                    "A key of the caller's choice: a repeat with the same key and body gets the stored answer.",
                    255,
                    "^[\\x21-\\x7e]+$",
                );
            }
        }
        "put" | "patch" | "delete" => {
            if let Some(body) = operation.get_mut("requestBody") {
                body["required"] = true.into();
            }
            answers.push("409");
            if WITHOUT_ETAG.contains(&id.as_str()) {
                return add_answers(&id, operation, &answers);
            }
            answers.push("412");
            add_header(
                operation,
                "If-Match",
                "The ETag that the change is based on, with its quotes; 412 when the resource has another one now.",
                200,
                "^[\\x21-\\x7e]([\\x20-\\x7e]*[\\x21-\\x7e])?$",
            );
        }
        _ => {}
    }
    add_answers(&id, operation, &answers)
}

fn add_answers(id: &str, operation: &mut Value, statuses: &[&str]) -> anyhow::Result<()> {
    let Some(responses) = operation["responses"].as_object_mut() else {
        anyhow::bail!("{id} has no responses")
    };
    for status in statuses {
        responses
            .entry(*status)
            .or_insert_with(|| json!({ "$ref": format!("#/components/responses/Problem{status}") }));
    }
    Ok(())
}

fn add_header(operation: &mut Value, name: &str, description: &str, max_length: u32, pattern: &str) {
    let header = json!({
        "in": "header", "name": name, "required": false, "description": description,
        "schema": { "type": "string", "minLength": 1, "maxLength": max_length, "pattern": pattern },
    });
    match operation["parameters"].as_array_mut() {
        Some(parameters) => parameters.push(header),
        None => operation["parameters"] = json!([header]),
    }
}

/// A POST whose body has only optional members may come without one.
fn let_bodies_be_left_out(document: &mut Value) {
    let schemas = document["components"]["schemas"].as_object();
    let optional: BTreeSet<String> = schemas
        .into_iter()
        .flatten()
        .filter(|(_, schema)| all_is_optional(schema))
        .map(|(name, _)| format!("#/components/schemas/{name}"))
        .collect();
    for item in document["paths"].as_object_mut().into_iter().flat_map(|paths| paths.values_mut()) {
        let Some(body) = item.get_mut("post").and_then(|post| post.get_mut("requestBody")) else { continue };
        let schema = body["content"]["application/json"]["schema"]["$ref"].as_str();
        if schema.is_some_and(|schema| optional.contains(schema)) {
            body["required"] = false.into();
        }
    }
}

/// Shows in each path the id that the examples of bodies name.
fn add_path_examples(document: &mut Value) {
    let examples: Map<String, Value> = document["components"]["schemas"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, schema)| Some((name.clone(), schema["examples"].get(0)?.clone())))
        .collect();
    let operations = document["paths"].as_object_mut().into_iter().flat_map(|paths| paths.values_mut());
    let operations = operations.filter_map(Value::as_object_mut).flat_map(|path| path.values_mut());
    let parameters = operations.filter_map(|operation| operation.get_mut("parameters")?.as_array_mut());
    for parameter in parameters.flatten().filter_map(Value::as_object_mut) {
        let schema = parameter.get("schema").and_then(|schema| schema["$ref"].as_str()).unwrap_or_default();
        let example = examples.get(schema.trim_start_matches("#/components/schemas/")).cloned();
        if let Some(example) = example.filter(|_| parameter.get("in").is_some_and(|place| place == "path")) {
            parameter.entry("example").or_insert(example);
        }
    }
}

/// `XPatch` is `XCreate` with every member optional (RFC 7396: null removes what is optional).
fn add_patch_schemas(document: &mut Value) {
    let Some(schemas) = document["components"]["schemas"].as_object_mut() else { return };
    let patches: Map<String, Value> = schemas
        .iter()
        .filter_map(|(name, schema)| {
            let stem = name.strip_suffix("Create")?;
            // A feature may say itself what its patch looks like.
            if schemas.contains_key(&format!("{stem}Patch")) {
                return None;
            }
            let mut patch = schema.clone();
            let members = patch.as_object_mut()?;
            members.remove("required");
            let examples = [members.remove("example"), members.remove("examples")];
            if let Some(change) = examples.into_iter().flatten().find_map(smallest_change) {
                members.insert("example".into(), change);
            }
            members.insert(
                "description".into(),
                format!("A JSON merge patch (RFC 7396) of `{name}`: only what changes.").into(),
            );
            for property in members.get_mut("properties")?.as_object_mut()?.values_mut() {
                property.as_object_mut()?.remove("default");
            }
            Some((format!("{stem}Patch"), patch))
        })
        .collect();
    schemas.extend(patches);
}

/// Of the example (or the first of the examples) of a whole resource its last member: what a patch may look like.
fn smallest_change(example: Value) -> Option<Value> {
    let whole = match example {
        Value::Array(examples) => examples.into_iter().next()?,
        example => example,
    };
    let (name, value) = whole.as_object()?.iter().next_back()?;
    Some(json!({ name: value }))
}

/// Leaves out the schemas that no operation leads to.
fn drop_unused_schemas(document: &mut Value) {
    let mut used = BTreeSet::new();
    let mut ahead = vec![&document["paths"], &document["components"]["responses"]];
    while let Some(value) = ahead.pop() {
        match value {
            Value::Object(members) => ahead.extend(members.values()),
            Value::Array(items) => ahead.extend(items),
            Value::String(text) => {
                if let Some(name) = text.strip_prefix("#/components/schemas/")
                    && used.insert(name.to_owned())
                {
                    ahead.push(&document["components"]["schemas"][name]);
                }
            }
            _ => {}
        }
    }
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        schemas.retain(|name, _| used.contains(name));
    }
}

fn add_security_schemes(document: &mut Value) {
    document["components"]["securitySchemes"] = json!({
        "password": {
            "type": "oauth2",
            "description": "User name and password, or an API key's id and secret as client credentials.",
            "flows": {
                "password": { "tokenUrl": "/v1/auth/token", "refreshUrl": "/v1/auth/token", "scopes": scopes() },
                "clientCredentials": { "tokenUrl": "/v1/auth/token", "scopes": scopes() },
            },
        },
        "bearer": { "type": "http", "scheme": "bearer", "description": "An access token, or an API key (`prk_…`)." },
    });
}

fn scopes() -> Value {
    let scopes = Access::scopes().into_iter();
    let named = scopes.map(|scope| (scope.to_owned(), format!("Operations of the scope {scope}").into()));
    Value::Object(named.collect())
}

fn add_shared_answers(document: &mut Value) {
    let answers = [
        ("400", "A parameter, header or the body's JSON is not valid."),
        ("401", "No valid access token or API key was given."),
        ("403", "The caller may not do this."),
        ("404", "There is no such resource."),
        ("409", "The state of the resource, or a concurrent request, does not allow it."),
        ("412", "The resource was changed since the given ETag."),
        ("413", "The body is too large."),
        ("415", "The body's media type is not supported."),
        ("422", "The body does not fit its schema or its rules."),
        ("500", "Something went wrong on our side."),
        ("503", "The service cannot answer right now."),
    ];
    let schema = json!({ "$ref": "#/components/schemas/Problem" });
    let shared = answers.into_iter().map(|(status, description)| {
        let content = json!({ "application/problem+json": { "schema": schema } });
        (format!("Problem{status}"), json!({ "description": description, "content": content }))
    });
    document["components"]["responses"] = Value::Object(shared.collect());
}
