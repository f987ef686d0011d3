//! Expressions: the text that people write, compiled once and evaluated often.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use minijinja::Expression;
use minijinja::value::{Value, ValueKind};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::scope::ROOTS;
use crate::language::{ENVIRONMENT, FILTERS};

/// Most characters in one expression.
pub const MAX_EXPRESSION: usize = 2_000;
/// Most characters of a text shown in a trace.
const MAX_SHOWN: usize = 200;

/// A MiniJinja expression over `message`, `account`, `conversation`, `item`, `vars`, `globals` and `now`.
///
/// No functions, loops or I/O; strict: what is not there is an error, unless `default` gives it a value.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Expr {
    source: Box<str>,
    program: OnceLock<Result<Arc<Program>, ExpressionError>>,
}

/// A compiled expression.
pub(super) struct Program {
    expression: Expression<'static, 'static>,
    paths: Vec<String>,
}

/// What is wrong with an expression, and where in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail} (line {line}, column {column})")]
pub struct ExpressionError {
    /// A sentence for a person.
    pub detail: String,
    /// The line, from 1.
    pub line: u32,
    /// The column in the line, in characters from 1.
    pub column: u32,
}

impl Expr {
    /// The expression as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Compiles the expression, unless that has been done.
    pub fn compile(&self) -> Result<(), ExpressionError> {
        self.program().map(|_| ())
    }

    /// Evaluates the expression; a value that is not there is an error.
    pub fn eval(&self, scope: &Value) -> Result<Value, ExpressionError> {
        let value = self.program()?.expression.eval(scope.clone());
        let value = value.map_err(|error| error_in(&self.source, &error))?;
        if value.is_undefined() {
            let detail = "undefined value: the expression reads something that is not there".to_owned();
            return Err(ExpressionError { detail, line: 1, column: 1 });
        }
        Ok(value)
    }

    /// What the expression reads, as dotted paths in alphabetical order; empty if it does not compile.
    pub fn paths(&self) -> &[String] {
        self.program().map_or(&[], |program| &program.paths)
    }

    fn program(&self) -> Result<&Program, ExpressionError> {
        self.program.get_or_init(|| compile(&self.source).map(Arc::new)).as_deref().map_err(Clone::clone)
    }
}

fn compile(source: &str) -> Result<Program, ExpressionError> {
    if source.chars().count() > MAX_EXPRESSION {
        let detail = format!("an expression has at most {MAX_EXPRESSION} characters");
        return Err(ExpressionError { detail, line: 1, column: 1 });
    }
    let expression = ENVIRONMENT.compile_expression_owned(source.to_owned());
    let expression = expression.map_err(|error| error_in(source, &error))?;
    let mut paths: Vec<String> = expression.undeclared_variables(true).into_iter().collect();
    paths.sort_unstable();
    Ok(Program { expression, paths })
}

fn error_in(source: &str, error: &minijinja::Error) -> ExpressionError {
    let detail = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    let (line, column) = match error.range() {
        Some(range) => place(source, &range),
        None => (error.line().and_then(|line| u32::try_from(line).ok()).unwrap_or(1), 1),
    };
    ExpressionError { detail, line, column }
}

fn place(source: &str, range: &Range<usize>) -> (u32, u32) {
    let before = &source[..source.floor_char_boundary(range.start)];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

/// A value for a trace: texts are cut, lists and maps only counted.
pub(super) fn shown(value: &Value) -> Json {
    if let Some(text) = value.as_str() {
        let cut = text.char_indices().nth(MAX_SHOWN);
        return cut.map_or_else(|| Json::from(text), |(end, _)| Json::from(format!("{}…", &text[..end])));
    }
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => Json::Null,
        ValueKind::Bool | ValueKind::Number => serde_json::to_value(value).unwrap_or(Json::Null),
        kind => Json::from(format!("<{kind} of {}>", value.len().unwrap_or(0))),
    }
}

/// The plain value at a dotted path; `None` for lists, maps and what is not there.
pub(super) fn plain_at(scope: &Value, path: &str) -> Option<Json> {
    let mut value = scope.clone();
    for name in path.split('.') {
        value = value.get_attr(name).ok()?;
    }
    let plain =
        matches!(value.kind(), ValueKind::None | ValueKind::Bool | ValueKind::Number | ValueKind::String);
    plain.then(|| shown(&value))
}

impl From<&str> for Expr {
    fn from(source: &str) -> Self {
        Self { source: source.into(), program: OnceLock::new() }
    }
}

impl From<String> for Expr {
    fn from(source: String) -> Self {
        Self { source: source.into(), program: OnceLock::new() }
    }
}

impl From<Expr> for String {
    fn from(expression: Expr) -> Self {
        expression.source.into()
    }
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl PartialSchema for Expr {
    fn schema() -> RefOr<Schema> {
        let about = format!(
            "A MiniJinja expression over {}; without functions, loops or I/O. Filters: {}. `contains`, `startswith` and \
             `endswith` ignore letter case; `matches` takes a regular expression. What is not there is an error, \
             unless `default` gives it a value.",
            ROOTS.join(", "),
            FILTERS.join(", ")
        );
        let text = ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(1))
            .max_length(Some(MAX_EXPRESSION));
        text.description(Some(about)).examples(["message.from.domain == 'example.com'"]).into()
    }
}

impl ToSchema for Expr {
    fn name() -> Cow<'static, str> {
        "Expression".into()
    }
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expr({:?})", self.source)
    }
}
