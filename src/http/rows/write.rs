//! Writes rows: lines of CSV that no spreadsheet takes for formulas, and answers that are files.

use std::borrow::Cow;

use actix_web::{
    HttpResponse, HttpResponseBuilder,
    http::header::{CONTENT_DISPOSITION, X_CONTENT_TYPE_OPTIONS},
};

use super::RowFormat;

/// What a spreadsheet takes for the beginning of a formula.
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// A line of CSV (RFC 4180) that is being written.
#[derive(Debug)]
pub struct CsvLine<'a> {
    out: &'a mut String,
    is_first: bool,
}

impl<'a> CsvLine<'a> {
    /// At the end of `out`.
    pub fn new(out: &'a mut String) -> Self {
        Self { out, is_first: true }
    }

    /// Writes one cell. One that begins with `=`, `+`, `-`, `@`, a tabulator or CR gets an apostrophe in front, so that a
    /// spreadsheet shows it and does not run it.
    #[must_use]
    pub fn cell(mut self, text: &str) -> Self {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(',');
        }
        let text = if text.starts_with(FORMULA) { Cow::from(format!("'{text}")) } else { text.into() };
        if text.contains([',', '"', '\n', '\r']) {
            self.out.push('"');
            self.out.push_str(&text.replace('"', "\"\""));
            self.out.push('"');
        } else {
            self.out.push_str(&text);
        }
        self
    }

    /// The same for a text that may be missing.
    #[must_use]
    pub fn optional(self, text: Option<impl AsRef<str>>) -> Self {
        self.cell(text.as_ref().map_or("", AsRef::as_ref))
    }

    /// Ends the line.
    pub fn end(self) {
        self.out.push_str("\r\n");
    }
}

/// What a cell says: without the apostrophe that guards it.
pub fn written(cell: &str) -> &str {
    cell.strip_prefix('\'').filter(|rest| rest.starts_with(FORMULA)).unwrap_or(cell)
}

/// The head of an answer that is a file of rows: `name` without its extension.
pub fn download(format: RowFormat, name: &str) -> HttpResponseBuilder {
    let mut answer = HttpResponse::Ok();
    let file = format!("attachment; filename=\"{name}.{}\"", format.extension());
    answer
        .insert_header((CONTENT_DISPOSITION, file))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header(("Cache-Control", "no-store"))
        .content_type(match format {
            RowFormat::Csv => "text/csv; charset=utf-8",
            RowFormat::Ndjson => "application/x-ndjson",
        });
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula_and_every_cell_comes_back_as_it_was() {
        let cells = ["=1+1", "+44", "-5", "@x", "\tx", "plain", "a,\"b\"\nc", ""];
        let mut line = String::new();
        cells.iter().fold(CsvLine::new(&mut line), |line, cell| line.cell(cell)).end();
        assert_eq!(line, "'=1+1,'+44,'-5,'@x,'\tx,plain,\"a,\"\"b\"\"\nc\",\r\n");
        assert_eq!(written("'=1+1"), "=1+1");
        assert_eq!((written("'hello"), written("it's")), ("'hello", "it's"));
    }
}
