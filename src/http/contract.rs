//! The OpenAPI document at work: finds the operation of a request and holds parameters and bodies against their schemas.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use actix_web::http::{Method, header::HeaderMap};
use jsonschema::{Validator, error::ValidationErrorKind};
use serde_json::{Map, Value, json};

use super::problem::{Code, FieldError, Problem};

/// The most errors that one answer lists.
const MAX_ERRORS: usize = 50;

/// One operation of the document.
#[derive(Debug)]
pub struct Operation {
    /// Its `operationId`.
    pub id: String,
    query: HashMap<String, Value>,
    headers: HashMap<String, Value>,
}

/// The document, prepared for checking requests.
#[derive(Debug)]
pub struct Contract {
    schemas: Map<String, Value>,
    /// By path and method.
    operations: HashMap<String, HashMap<Method, Operation>>,
    routes: matchit::Router<String>,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

impl Contract {
    /// Prepares a document (OpenAPI 3.1, so its schemas are JSON Schema 2020-12).
    ///
    /// # Errors
    /// When two of its paths cannot be told apart.
    pub fn new(document: &Value) -> Result<Self, matchit::InsertError> {
        let mut operations: HashMap<String, HashMap<Method, Operation>> = HashMap::new();
        for (path, item) in document["paths"].as_object().into_iter().flatten() {
            for (method, operation) in item.as_object().into_iter().flatten() {
                let Ok(method) = Method::from_bytes(method.to_ascii_uppercase().as_bytes()) else { continue };
                operations.entry(path.clone()).or_default().insert(method, Operation::read(operation));
            }
        }
        let mut routes = matchit::Router::new();
        for path in operations.keys() {
            routes.insert(path, path.clone())?;
        }
        let schemas = document["components"]["schemas"].as_object().cloned().unwrap_or_default();
        Ok(Self { schemas, operations, routes, validators: Mutex::default() })
    }

    /// The path of the document that a request's path, as it is routed (without escapes), means.
    pub fn pattern(&self, path: &str) -> Option<&str> {
        self.routes.at(path).ok().map(|found| found.value.as_str())
    }

    /// The operation behind a method and a route pattern.
    pub fn operation(&self, method: &Method, pattern: &str) -> Option<&Operation> {
        self.operations.get(pattern)?.get(method)
    }

    /// The methods that a path supports, in alphabetical order; none when it is not a path of the document.
    pub fn methods(&self, pattern: &str) -> Vec<&str> {
        let of_path = self.operations.get(pattern).into_iter().flat_map(HashMap::keys);
        let mut methods: Vec<_> = of_path.map(Method::as_str).collect();
        methods.sort_unstable();
        methods
    }

    /// All `operationId`s.
    pub fn operation_ids(&self) -> impl Iterator<Item = &str> {
        self.operations.values().flat_map(HashMap::values).map(|operation| operation.id.as_str())
    }

    /// Whether the document has a schema of this name.
    pub fn has_schema(&self, name: &str) -> bool {
        self.schemas.contains_key(name)
    }

    /// Whether `{}` stands for a body of this schema that was left out.
    pub fn may_be_left_out(&self, schema: &str) -> bool {
        self.schemas.get(schema).is_some_and(all_is_optional)
    }

    /// Holds a body against the named schema.
    ///
    /// # Errors
    /// `validation_failed` with every error found, up to 50.
    pub fn check(&self, schema: &str, body: &Value) -> Result<(), Problem> {
        let reference = json!({ "$ref": format!("#/components/schemas/{schema}") });
        let errors = self.errors(schema, &reference, body)?;
        if errors.is_empty() { Ok(()) } else { Err(Problem::validation(errors)) }
    }

    /// Holds a query string against the operation's parameters.
    ///
    /// # Errors
    /// `unknown_parameter` or `invalid_parameter`.
    pub fn check_query(&self, operation: &Operation, query: &str) -> Result<(), Problem> {
        let pairs: Vec<(String, String)> = serde_urlencoded::from_str(query)
            .map_err(|error| Problem::new(Code::InvalidParameter, error.to_string()))?;
        for (name, text) in pairs {
            let Some(schema) = operation.query.get(&name) else {
                return Err(Problem::new(
                    Code::UnknownParameter,
                    format!("the parameter {name:?} is not known"),
                ));
            };
            let value = coerce(schema, &text);
            let cache_key = format!("?{}?{name}", operation.id);
            let mut errors = self.errors(&cache_key, schema, &value)?;
            if text.contains('\0') {
                errors.push(FieldError::new("", "nul_character", "text must not hold U+0000"));
            }
            if let Some(first) = errors.first() {
                let detail = format!("{name}: {}", first.detail);
                for error in &mut errors {
                    error.pointer.clone_from(&name);
                }
                return Err(Problem { errors, ..Problem::new(Code::InvalidParameter, detail) });
            }
        }
        Ok(())
    }

    /// Holds the headers that the operation names against their schemas.
    ///
    /// # Errors
    /// `invalid_header`.
    pub fn check_headers(&self, operation: &Operation, headers: &HeaderMap) -> Result<(), Problem> {
        for (name, schema) in &operation.headers {
            for value in headers.get_all(name.as_str()) {
                let text = value
                    .to_str()
                    .map_err(|_| Problem::new(Code::InvalidHeader, format!("{name} is not text")))?;
                let cache_key = format!("{}#{name}", operation.id);
                let errors = self.errors(&cache_key, schema, &coerce(schema, text))?;
                if let Some(first) = errors.first() {
                    return Err(Problem::new(Code::InvalidHeader, format!("{name}: {}", first.detail)));
                }
            }
        }
        Ok(())
    }

    fn errors(&self, cache_key: &str, schema: &Value, value: &Value) -> Result<Vec<FieldError>, Problem> {
        let validator = self.validator(cache_key, schema)?;
        Ok(validator
            .iter_errors(value)
            .take(MAX_ERRORS)
            .flat_map(|error| explain(&error))
            .take(MAX_ERRORS)
            .collect())
    }

    fn validator(&self, cache_key: &str, schema: &Value) -> Result<Arc<Validator>, Problem> {
        let poisoned = |_| Problem::internal("a validator was being made when its thread panicked");
        if let Some(known) = self.validators.lock().map_err(poisoned)?.get(cache_key) {
            return Ok(Arc::clone(known));
        }
        // Only what the schema leads to: the validator keeps what it is given, and there are hundreds of them.
        let mut whole = json!({ "components": { "schemas": reachable(schema, &self.schemas) } });
        if let (Some(whole), Some(schema)) = (whole.as_object_mut(), schema.as_object()) {
            whole.extend(schema.clone());
        }
        let options = jsonschema::draft202012::options().should_validate_formats(true);
        let made = Arc::new(options.build(&whole).map_err(Problem::internal)?);
        let mut validators =
            self.validators.lock().map_err(|_| Problem::internal("the validators are poisoned"))?;
        validators.insert(cache_key.to_owned(), Arc::clone(&made));
        Ok(made)
    }
}

/// Whether a schema is that of an object of which nothing has to be given.
pub fn all_is_optional(schema: &Value) -> bool {
    let none_required = schema["required"].as_array().is_none_or(Vec::is_empty);
    let one_form = ["oneOf", "anyOf", "allOf"].iter().all(|kind| schema.get(kind).is_none());
    schema["type"] == "object" && none_required && one_form
}

impl Operation {
    fn read(operation: &Value) -> Self {
        let parameters_in = |place: &str| {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let of_place = parameters.filter(|parameter| parameter["in"] == place);
            of_place
                .filter_map(|one| Some((one["name"].as_str()?.to_owned(), one["schema"].clone())))
                .collect()
        };
        let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
        Self { id, query: parameters_in("query"), headers: parameters_in("header") }
    }
}

/// The schemas that a schema leads to by `$ref`, through each other too.
fn reachable(schema: &Value, schemas: &Map<String, Value>) -> Map<String, Value> {
    let (mut found, mut ahead) = (Map::new(), vec![schema]);
    while let Some(value) = ahead.pop() {
        match value {
            Value::Object(members) => {
                let reference = members.get("$ref").and_then(Value::as_str);
                let path = reference.and_then(|reference| reference.strip_prefix("#/components/schemas/"));
                // What stands behind the name is a place within the schema.
                let name = path.and_then(|path| path.split('/').next()).unwrap_or_default();
                if let Some(named) = schemas.get(name).filter(|_| !found.contains_key(name)) {
                    found.insert(name.to_owned(), named.clone());
                    ahead.push(named);
                }
                ahead.extend(members.values());
            }
            Value::Array(items) => ahead.extend(items),
            _ => {}
        }
    }
    found
}

/// A query value is text; read it as what its schema says, so that bounds apply.
fn coerce(schema: &Value, text: &str) -> Value {
    let is = |wanted: &str| match &schema["type"] {
        Value::String(name) => name == wanted,
        Value::Array(names) => names.iter().any(|name| name == wanted),
        _ => false,
    };
    if is("integer") {
        text.parse::<i64>().map_or_else(|_| text.into(), Value::from)
    } else if is("boolean") {
        text.parse::<bool>().map_or_else(|_| text.into(), Value::from)
    } else {
        text.into()
    }
}

/// One schema error in our words; of a `oneOf`, the errors of the branch that came closest.
fn explain(error: &jsonschema::ValidationError<'_>) -> Vec<FieldError> {
    use ValidationErrorKind as Kind;
    let at = error.instance_path().to_string();
    let code = match error.kind() {
        Kind::OneOfNotValid { context } | Kind::AnyOf { context } => {
            let closest = context
                .iter()
                .filter(|branch| !branch.is_empty() && !branch.iter().any(|error| is_other_type(error, &at)))
                .max_by_key(|branch| {
                    let of_another_shape = branch.iter().any(|error| {
                        matches!(error.kind(), Kind::Type { .. }) && error.instance_path().to_string() == at
                    });
                    let depth = branch
                        .iter()
                        .map(|error| error.instance_path().to_string().matches('/').count())
                        .max();
                    (!of_another_shape, depth, usize::MAX - branch.len())
                });
            if closest.is_none() && context.iter().flatten().any(|error| is_other_type(error, &at)) {
                return vec![FieldError::new(format!("{at}/type"), "unknown_value", "there is no such type")];
            }
            return match closest {
                Some(branch) => branch.iter().flat_map(explain).collect(),
                None => {
                    vec![FieldError::new(at, "no_variant", "the value fits none of the allowed forms")]
                }
            };
        }
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            let unknown = |name: &String| {
                FieldError::new(
                    format!("{at}/{name}"),
                    "unknown_member",
                    format!("{name:?} is not a known member"),
                )
            };
            return unexpected.iter().map(unknown).collect();
        }
        Kind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            return vec![FieldError::new(format!("{at}/{name}"), "required", format!("{name:?} is missing"))];
        }
        Kind::Type { .. } => "type",
        Kind::Enum { .. } | Kind::Constant { .. } => "unknown_value",
        Kind::MaxLength { .. } | Kind::MaxItems { .. } | Kind::MaxProperties { .. } => "too_long",
        Kind::MinLength { .. } | Kind::MinItems { .. } | Kind::MinProperties { .. } => "too_short",
        Kind::Maximum { .. } | Kind::ExclusiveMaximum { .. } => "too_large",
        Kind::Minimum { .. } | Kind::ExclusiveMinimum { .. } => "too_small",
        Kind::Format { .. } => "format",
        Kind::Pattern { .. } => "pattern",
        Kind::UniqueItems => "not_unique",
        _ => "invalid",
    };
    vec![FieldError::new(at, code, detail(error))]
}

/// What is wrong, without the value itself: it may be long, or a secret.
fn detail(error: &jsonschema::ValidationError<'_>) -> String {
    use ValidationErrorKind as Kind;
    match error.kind() {
        Kind::Enum { options } => {
            let options = options.as_array().into_iter().flatten().map(Value::to_string);
            format!("must be one of {}", options.collect::<Vec<_>>().join(", "))
        }
        Kind::MaxLength { limit } => format!("must have at most {limit} characters"),
        Kind::MinLength { limit } => format!("must have at least {limit} characters"),
        Kind::MaxItems { limit } => format!("must have at most {limit} elements"),
        Kind::MinItems { limit } => format!("must have at least {limit} elements"),
        _ => error.masked().to_string(),
    }
}

/// Whether a branch of a `oneOf` is for another `type` than the value at `at` has: then its other errors mean nothing.
fn is_other_type(error: &jsonschema::ValidationError<'_>, at: &str) -> bool {
    matches!(error.kind(), ValidationErrorKind::Enum { .. } | ValidationErrorKind::Constant { .. })
        && error.instance_path().to_string().strip_prefix(at) == Some("/type")
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn contract() -> Contract {
        Contract::new(&json!({
            "paths": { "/v1/things": { "get": { "operationId": "list_things", "parameters": [
                { "in": "query", "name": "limit", "schema": { "type": "integer", "maximum": 200 } } ] } } },
            "components": { "schemas": { "ThingCreate": {
                "type": "object", "required": ["name"], "additionalProperties": false,
                "properties": { "name": { "type": "string", "minLength": 1 }, "size": { "type": "integer" } } } } }
        }))
        .unwrap()
    }

    #[test]
    fn every_error_of_a_body_is_listed_with_its_pointer() {
        let problem = contract().check("ThingCreate", &json!({ "size": "big", "color": 1 })).unwrap_err();
        let mut found: Vec<_> =
            problem.errors.iter().map(|e| (e.pointer.as_str(), e.code.as_str())).collect();
        found.sort_unstable();
        assert_eq!(found, [("/color", "unknown_member"), ("/name", "required"), ("/size", "type")]);
    }

    #[test]
    fn an_error_does_not_repeat_the_value() {
        let schema = json!({ "type": "object", "properties": {
            "secret": { "type": "string", "maxLength": 3 }, "size": { "enum": ["s", "m", "l", "xl", "xxl"] }, "at": { "type": "string", "format": "uuid" },
        } });
        let document = json!({ "components": { "schemas": { "Thing": schema } } });
        let body = json!({ "secret": "hush hush", "size": "huge", "at": "nowhere" });
        let problem = Contract::new(&document).unwrap().check("Thing", &body).unwrap_err();
        let of = |at: &str| problem.errors.iter().find(|e| e.pointer == at).unwrap().detail.clone();
        assert_eq!(of("/secret"), "must have at most 3 characters");
        assert_eq!(of("/size"), r#"must be one of "s", "m", "l", "xl", "xxl""#);
        assert!(!of("/at").contains("nowhere"), "{}", of("/at"));
    }

    #[test]
    fn a_schema_brings_along_what_it_leads_to_and_nothing_else() {
        let to = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
        let document = json!({ "components": { "schemas": {
            "Tree": { "type": "object", "properties": { "children": { "type": "array", "items": to("Tree") }, "leaf": to("Leaf") } },
            "Leaf": { "oneOf": [to("Colour/properties/name"), { "type": "null" }] },
            "Colour": { "type": "object", "properties": { "name": { "type": "string" } } },
            "Other": to("Tree"),
        } } });
        let contract = Contract::new(&document).unwrap();
        let found = reachable(&to("Tree"), &contract.schemas);
        let mut names: Vec<_> = found.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["Colour", "Leaf", "Tree"]);
        let wrong = json!({ "children": [{ "leaf": null }, { "leaf": 1 }] });
        assert_eq!(contract.check("Tree", &wrong).unwrap_err().errors[0].pointer, "/children/1/leaf");
    }

    #[test]
    fn a_header_is_held_against_its_schema_and_others_are_left_alone() {
        let header = json!({ "in": "header", "name": "If-Match", "schema": { "type": "string", "pattern": "^[!-~]+$" } });
        let contract = Contract::new(
            &json!({ "paths": { "/a": { "put": { "operationId": "put_a", "parameters": [header] } } } }),
        )
        .unwrap();
        let operation = contract.operation(&Method::PUT, "/a").unwrap();
        let check = |name: &'static str, value: &'static [u8]| {
            let headers = [(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())];
            contract.check_headers(operation, &headers.into_iter().collect())
        };
        assert!(check("if-match", b"\"1\"").is_ok() && check("x-other", b"").is_ok());
        for wrong in [&b""[..], b"a b", b"\xff"] {
            assert_eq!(check("if-match", wrong).unwrap_err().code, Code::InvalidHeader);
        }
    }

    #[test]
    fn a_path_means_the_one_of_the_document_that_fits_best() {
        let paths = ["/v1/items", "/v1/items/claim", "/v1/items/{id}", "/v1/items/{id}/claim"];
        let operations = paths.map(|path| (path.to_owned(), json!({ "get": { "operationId": path } })));
        let contract = Contract::new(&json!({ "paths": serde_json::Map::from_iter(operations) })).unwrap();
        for (path, wanted) in [
            ("/v1/items", Some("/v1/items")),
            ("/v1/items/claim", Some("/v1/items/claim")),
            ("/v1/items/7", Some("/v1/items/{id}")),
            ("/v1/items/7/claim", Some("/v1/items/{id}/claim")),
            ("/v1/items/", None),
            ("/v1/other", None),
        ] {
            assert_eq!(contract.pattern(path), wanted, "{path}");
        }
    }

    #[test]
    fn a_query_is_held_against_the_parameters_of_its_operation() {
        let contract = contract();
        let operation = contract.operation(&Method::GET, "/v1/things").unwrap();
        assert!(contract.check_query(operation, "limit=200").is_ok());
        assert_eq!(contract.check_query(operation, "limit=201").unwrap_err().code, Code::InvalidParameter);
        assert_eq!(contract.check_query(operation, "limit=x").unwrap_err().code, Code::InvalidParameter);
        assert_eq!(contract.check_query(operation, "colour=red").unwrap_err().code, Code::UnknownParameter);
    }
}
