//! The document: committed as generated, complete, and with examples that fit their schemas.

use std::{collections::BTreeMap, fs, path::Path};

use postroom::{api, events::vocabulary::VOCABULARY};
use regex::Regex;
use serde_json::{Value, json};

use crate::{architecture::sources, on_both};

fn operations(document: &Value) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            found.push((format!("{} {path}", method.to_uppercase()), operation));
        }
    }
    found
}

#[test]
fn the_committed_document_is_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/openapi.json");
    let committed: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert!(committed == api::document().unwrap(), "openapi/openapi.json is out of date: run `make openapi`");
}

on_both! {
    async fn the_service_itself_serves_the_document_and_a_page_that_shows_it(app) {
        let anybody = app.anonymous();
        assert!(anybody.get("/v1/openapi.json").await.ok() == api::document().unwrap());
        let page = anybody.request(reqwest::Method::GET, "/swagger-ui/").send().await.unwrap();
        assert_eq!(page.status(), 200);
        for short in ["/", "/swagger-ui"] {
            let led_to = anybody.request(reqwest::Method::GET, short).send().await.unwrap();
            assert_eq!((led_to.status().as_u16(), led_to.url().path()), (200, "/swagger-ui/"), "{short}");
        }
    }
}

#[test]
fn every_operation_says_who_may_call_it() {
    let document = api::document().unwrap();
    for (place, operation) in operations(&document) {
        let roles: Vec<_> =
            operation["x-roles"].as_array().unwrap().iter().map(|role| role.as_str().unwrap()).collect();
        let last = operation["description"].as_str().unwrap().lines().last().unwrap();
        let open = operation["security"] == json!([]);
        assert_eq!(roles.is_empty(), open, "{place}");
        let said = if open { "Roles: none;".to_owned() } else { format!("Roles: {}", roles.join(", ")) };
        assert!(last.starts_with(&said), "{place}: {last}");
        if let Some(scope) = operation["security"][0]["password"][0].as_str() {
            assert!(last.ends_with(&format!("; or an API key with the scope {scope}.")), "{place}: {last}");
        }
    }
    let of = |path: &str, method: &str| document["paths"][path][method]["x-roles"].clone();
    assert_eq!(of("/v1/queues", "post"), json!(["admin", "supervisor"]));
    assert_eq!(of("/v1/users", "post"), json!(["admin"]));
    assert_eq!(of("/v1/work-items/{id}/complete", "post"), json!(["admin", "supervisor", "agent"]));
}

#[test]
fn every_type_of_event_and_every_state_is_described() {
    let document = api::document().unwrap();
    let schemas = &document["components"]["schemas"];
    let list = &document["paths"]["/v1/events"]["get"]["description"];
    for described in [list, &schemas["Event"]["properties"]["type"]["description"]] {
        for (name, sentence, _) in VOCABULARY {
            assert!(described.as_str().unwrap().contains(&format!("| `{name}` | {sentence} |")), "{name}");
        }
    }
    for name in ["WorkState", "MessageState", "Distribution", "Protocol", "Role"] {
        let described = schemas[name]["description"].as_str().unwrap();
        for value in schemas[name]["enum"].as_array().unwrap() {
            assert!(described.contains(&format!("\n- `{}`: ", value.as_str().unwrap())), "{name}: {value}");
        }
    }
    assert!(!document.to_string().contains("DESIGN"));
}

#[test]
fn every_operation_is_named_and_described() {
    let document = api::document().unwrap();
    let name = Regex::new("^[a-z]+(_[a-z]+)+$").unwrap();
    let mut ids = Vec::new();
    for (place, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(name.is_match(id), "{place}: {id} is not verb_resource");
        assert!(!operation["summary"].as_str().unwrap_or_default().is_empty(), "{place} has no summary");
        assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1), "{place} needs one tag");
        assert!(operation["security"].is_array(), "{place} says nothing of its security");
        let tag = &operation["tags"][0];
        assert!(
            document["tags"].as_array().unwrap().iter().any(|known| known["name"] == *tag),
            "{place}: tag {tag}"
        );
        assert!(
            operation["responses"].as_object().unwrap().keys().any(|status| status.starts_with('2')),
            "{place}"
        );
        ids.push(id);
    }
    ids.sort_unstable();
    let count = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), count, "an operationId is used twice");
}

/// The parameters of every handler in the sources, by the handler's name.
fn handlers() -> BTreeMap<String, String> {
    let signature = Regex::new(r"(?s)pub async fn (\w+)\s*\((.*?)\)\s*->").unwrap();
    let mut found = BTreeMap::new();
    for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let text = fs::read_to_string(path).unwrap();
        // What gives a handler's answer: a function of the same name inside a feature does not.
        for part in text.split("#[utoipa::path(").skip(1) {
            if let Some(handler) = signature.captures(part) {
                found.insert(handler[1].to_owned(), handler[2].to_owned());
            }
        }
    }
    found
}

#[test]
fn a_header_is_in_the_document_exactly_where_the_handler_reads_it() {
    let document = api::document().unwrap();
    let handlers = handlers();
    let mut wrong = Vec::new();
    for (place, operation) in operations(&document) {
        let parameters = &handlers[operation["operationId"].as_str().unwrap()];
        for (header, extractor) in [("Idempotency-Key", ": Idempotency"), ("If-Match", ": IfMatch")] {
            let mut named = operation["parameters"].as_array().into_iter().flatten();
            let documented = named.any(|one| one["in"] == "header" && one["name"] == header);
            if documented != parameters.contains(extractor) {
                wrong.push(format!("{place}: {header} in the document: {documented}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_example_fits_its_schema() {
    let document = api::document().unwrap();
    let components = &document["components"];
    let mut checked = 0;
    let mut wrong = Vec::new();
    for (name, schema) in components["schemas"].as_object().unwrap() {
        check(schema, &format!("#/components/schemas/{name}"), components, &mut checked, &mut wrong);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(checked > 20, "only {checked} examples were found");
}

#[test]
fn the_body_that_a_page_shows_to_be_sent_fits_its_schema() {
    let document = api::document().unwrap();
    let mut wrong = Vec::new();
    let mut shown = 0;
    for (place, operation) in operations(&document) {
        for (kind, content) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
            if kind != "application/json" && !kind.ends_with("+json") {
                continue;
            }
            let name = content["schema"]["$ref"].as_str().unwrap_or_default();
            let schema = document.pointer(name.trim_start_matches('#')).unwrap();
            // The order in which Swagger UI looks; without any of them it makes a body up, which is seldom accepted.
            let example = content.get("example").or(schema.get("example")).or(schema["examples"].get(0));
            let Some(example) = example else {
                wrong.push(format!("{place}: {name} has no example"));
                continue;
            };
            let whole = json!({ "$ref": name, "components": document["components"] });
            let options = jsonschema::draft202012::options().should_validate_formats(true);
            if let Err(error) = options.build(&whole).unwrap().validate(example) {
                wrong.push(format!("{place}: {error}"));
            }
            shown += 1;
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(shown > 40, "only {shown} bodies were found");
}

#[test]
fn an_outcome_has_one_form_wherever_it_is_set() {
    let schemas = &api::document().unwrap()["components"]["schemas"];
    let bounds = |schema: &str, member: &str| {
        let property = &schemas[schema]["properties"][member];
        ["minLength", "maxLength", "pattern"].map(|bound| property[bound].clone())
    };
    let form = bounds("WorkItemOutcome", "code");
    assert_eq!(form[1], 64);
    for body in ["WorkItemComplete", "WorkItemReply", "WorkItemForward"] {
        assert_eq!(bounds(body, "outcome_code"), form, "{body}");
    }
}

/// Holds the examples of a schema, and of all schemas inside it, against the schema that carries them.
fn check(schema: &Value, place: &str, components: &Value, checked: &mut usize, wrong: &mut Vec<String>) {
    match schema {
        Value::Object(members) => {
            let examples = members.get("examples").and_then(Value::as_array).into_iter().flatten();
            for example in examples.chain(members.get("example")) {
                *checked += 1;
                let mut whole = schema.clone();
                whole["components"] = components.clone();
                let validator =
                    jsonschema::draft202012::options().should_validate_formats(true).build(&whole).unwrap();
                if let Err(error) = validator.validate(example) {
                    wrong.push(format!("{place}: {error}"));
                }
            }
            for (name, inner) in members.iter().filter(|(name, _)| *name != "examples" && *name != "example")
            {
                check(inner, &format!("{place}/{name}"), components, checked, wrong);
            }
        }
        Value::Array(items) => {
            for (index, inner) in items.iter().enumerate() {
                check(inner, &format!("{place}/{index}"), components, checked, wrong);
            }
        }
        _ => {}
    }
}

#[test]
fn no_schema_asks_for_two_types_at_once() {
    let document = api::document().unwrap();
    let mut wrong = Vec::new();
    contradictions(&document["components"]["schemas"], "", &mut wrong);
    assert!(wrong.is_empty(), "no value can fit:\n{}", wrong.join("\n"));
}

fn contradictions(schema: &Value, place: &str, wrong: &mut Vec<String>) {
    if let Some(parts) = schema["allOf"].as_array() {
        let mut kinds: Vec<_> = parts.iter().filter_map(|part| part["type"].as_str()).collect();
        kinds.dedup();
        if kinds.len() > 1 {
            wrong.push(format!("{place}: {kinds:?}"));
        }
    }
    match schema {
        Value::Object(members) => {
            for (name, inner) in members {
                contradictions(inner, &format!("{place}/{name}"), wrong);
            }
        }
        Value::Array(items) => items.iter().for_each(|inner| contradictions(inner, place, wrong)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let document = api::document().unwrap();
    let text = document.to_string();
    for reference in Regex::new(r##""\$ref":"#(/[^"]+)""##).unwrap().captures_iter(&text) {
        assert!(document.pointer(&reference[1]).is_some(), "{} dangles", &reference[1]);
    }
}

#[test]
fn every_body_is_bounded() {
    let document = api::document().unwrap();
    let mut wrong = Vec::new();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        if name.ends_with("Create") || name.ends_with("Patch") || name.ends_with("Change") {
            unbounded(schema, name, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "unbounded:\n{}", wrong.join("\n"));
}

fn unbounded(schema: &Value, place: &str, wrong: &mut Vec<String>) {
    let is = |kind: &str| {
        schema["type"] == kind || schema["type"].as_array().is_some_and(|kinds| kinds.contains(&json!(kind)))
    };
    if is("string")
        && schema.get("maxLength").is_none()
        && schema.get("enum").is_none()
        && schema.get("format").is_none()
    {
        wrong.push(format!("{place}: string without maxLength"));
    }
    if is("integer") && schema.get("maximum").is_none() && schema.get("enum").is_none() {
        wrong.push(format!("{place}: integer without maximum"));
    }
    if is("array") && schema.get("maxItems").is_none() {
        wrong.push(format!("{place}: array without maxItems"));
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        unbounded(inner, &format!("{place}.{name}"), wrong);
    }
    if schema["items"].is_object() {
        unbounded(&schema["items"], &format!("{place}[]"), wrong);
    }
    for kind in ["oneOf", "anyOf", "allOf"] {
        for inner in schema[kind].as_array().into_iter().flatten() {
            unbounded(inner, place, wrong);
        }
    }
}
