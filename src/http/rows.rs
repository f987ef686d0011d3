//! Bodies and answers of many rows, as CSV or as one JSON object a line, read and written without holding them whole.

mod cut;
mod write;

use std::{
    future::{Ready, ready},
    str::FromStr,
};

use actix_web::{
    FromRequest, HttpMessage, HttpRequest,
    dev::Payload,
    http::header::{CONTENT_LENGTH, CONTENT_TYPE},
    web::Bytes,
};
use futures::{Stream, StreamExt};
use sea_orm::{DeriveActiveEnum, EnumIter};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::problem::{Code, Problem};
use cut::{Cut, Cutter};
pub use write::{CsvLine, download, written};

/// The longest row, in bytes.
pub const ROW_MAX: usize = 128 << 10;

/// What rows are written in.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    ToSchema,
    EnumIter,
    DeriveActiveEnum,
)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum RowFormat {
    /// Comma-separated values (RFC 4180) in UTF-8, with a header line: `text/csv`.
    Csv,
    /// One JSON object on each line, in UTF-8: `application/x-ndjson`.
    Ndjson,
}

impl RowFormat {
    /// Its media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv",
            Self::Ndjson => "application/x-ndjson",
        }
    }

    /// The end of a file's name.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
        }
    }
}

impl FromStr for RowFormat {
    type Err = ();

    fn from_str(media_type: &str) -> Result<Self, ()> {
        match media_type.to_ascii_lowercase().as_str() {
            "text/csv" => Ok(Self::Csv),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(Self::Ndjson),
            _ => Err(()),
        }
    }
}

/// Rows as text.
#[derive(Debug, ToSchema)]
#[schema(value_type = String)]
pub struct Rows(pub String);

/// A body of rows that is read while it comes in.
pub struct RowBody {
    /// What it is written in.
    pub format: RowFormat,
    /// Its length, where the sender says it.
    pub size_bytes: Option<i64>,
    /// The bytes.
    pub payload: Payload,
}

impl FromRequest for RowBody {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        ready(announced(request).map(|(format, size_bytes)| Self {
            format,
            size_bytes,
            payload: payload.take(),
        }))
    }
}

fn announced(request: &HttpRequest) -> Result<(RowFormat, Option<i64>), Problem> {
    let wrong = |detail: &str| Problem::new(Code::UnsupportedMediaType, detail);
    let format = request.content_type().parse();
    let format = format.map_err(|()| wrong("send text/csv or application/x-ndjson"))?;
    let whole = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let charset = whole.split(';').skip(1).find_map(|part| part.trim().strip_prefix("charset="));
    if charset.is_some_and(|charset| {
        !["utf-8", "us-ascii"].contains(&charset.trim_matches('"').to_lowercase().as_str())
    }) {
        return Err(wrong("send the rows in UTF-8"));
    }
    let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    Ok((format, length))
}

/// One row.
#[derive(Debug, PartialEq)]
pub struct Row {
    /// The line that it begins on, from 1.
    pub line: u64,
    /// The bytes that it takes.
    pub bytes: u64,
    /// What it holds, or why that cannot be read.
    pub content: Result<Content, Fault>,
}

/// What a row holds.
#[derive(Debug, PartialEq)]
pub enum Content {
    /// The cells of a line of CSV.
    Cells(Vec<String>),
    /// A line's JSON object.
    Object(Map<String, Value>),
}

/// Why a row cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is longer than [`ROW_MAX`]: mostly a quotation mark is missing. Reading goes on with the next line.
    #[error("the row is longer than {ROW_MAX} bytes; perhaps a quotation mark is missing")]
    TooLong,
    /// It is not UTF-8.
    #[error("the row is not valid UTF-8")]
    NotUtf8,
    /// It is no JSON object.
    #[error("the line is not a JSON object: {0}")]
    NotJson(String),
    /// It holds U+0000, which the database cannot store.
    #[error("text must not hold U+0000")]
    Nul,
}

impl Fault {
    /// What is wrong, for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong => "row_too_long",
            Self::NotUtf8 => "not_utf8",
            Self::NotJson(_) => "not_json",
            Self::Nul => "nul_character",
        }
    }
}

/// The body ended before its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body broke off: {0}")]
pub struct BrokeOff(pub String);

/// Reads rows from a body, of which it holds one row at most and what came in beyond it.
pub struct RowReader<S> {
    body: S,
    cutter: Cutter,
    digest: Sha256,
    has_ended: bool,
}

impl<S, E> RowReader<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::fmt::Display,
{
    /// At the beginning of a body; `delimiter` separates the cells of CSV.
    pub fn new(body: S, format: RowFormat, delimiter: u8) -> Self {
        Self { body, cutter: Cutter::new(format, delimiter), digest: Sha256::new(), has_ended: false }
    }

    /// The next row; none at the end. What was waited for is not lost when this future is dropped.
    ///
    /// # Errors
    /// When the body breaks off.
    pub async fn next(&mut self) -> Result<Option<Row>, BrokeOff> {
        loop {
            match self.cutter.cut(self.has_ended) {
                Cut::Row(row) => return Ok(Some(row)),
                Cut::End => return Ok(None),
                Cut::NeedsMore => self.fill().await?,
            }
            self.cutter.take_settled(|bytes| self.digest.update(bytes));
        }
    }

    /// Reads on, without looking, until this many bytes of the body are behind.
    ///
    /// # Errors
    /// When the body breaks off; false when it ends before.
    pub async fn skip_to(&mut self, bytes: u64) -> Result<bool, BrokeOff> {
        while self.cutter.skip_to(bytes) < bytes {
            if self.has_ended {
                return Ok(false);
            }
            self.fill().await?;
            self.cutter.take_settled(|bytes| self.digest.update(bytes));
        }
        Ok(true)
    }

    async fn fill(&mut self) -> Result<(), BrokeOff> {
        match self.body.next().await {
            Some(Ok(bytes)) => self.cutter.add(&bytes),
            Some(Err(error)) => return Err(BrokeOff(error.to_string())),
            None => self.has_ended = true,
        }
        Ok(())
    }

    /// How many bytes the rows take that were read.
    pub fn bytes_read(&self) -> u64 {
        self.cutter.bytes_settled()
    }

    /// SHA-256 of these bytes, in hexadecimal.
    pub fn digest(&mut self) -> String {
        self.cutter.take_settled(|bytes| self.digest.update(bytes));
        hex::encode(self.digest.clone().finalize())
    }
}
