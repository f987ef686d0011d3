//! Cuts bytes as they come in into rows. No I/O.

use csv_core::ReadRecordResult;
use serde_json::{Map, Value};

use super::{Content, Fault, ROW_MAX, Row, RowFormat};

/// The byte order mark that some programs begin a file with.
const BOM: &[u8] = b"\xef\xbb\xbf";
/// Most cells of a row.
const CELLS_MAX: usize = 1000;

/// What the bytes that are there make.
pub(super) enum Cut {
    Row(Row),
    NeedsMore,
    End,
}

/// Holds what came in and is not cut yet.
pub(super) struct Cutter {
    format: RowFormat,
    csv: Csv,
    buffer: Vec<u8>,
    /// Bytes at the buffer's beginning that were read: of rows that were given out, and of the present one.
    consumed: usize,
    /// Bytes before the buffer.
    before: u64,
    /// The line on which the next byte is.
    line: u64,
    /// Where the present row began; none between rows.
    begun: Option<Begun>,
    /// The rest of a line that is too long is passed over.
    is_skipping: bool,
}

#[derive(Clone, Copy)]
struct Begun {
    line: u64,
    at: u64,
}

impl Cutter {
    pub(super) fn new(format: RowFormat, delimiter: u8) -> Self {
        Self {
            format,
            csv: Csv::new(delimiter),
            buffer: Vec::new(),
            consumed: 0,
            before: 0,
            line: 1,
            begun: None,
            is_skipping: false,
        }
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The bytes of rows that were given out whole.
    pub(super) fn bytes_settled(&self) -> u64 {
        match self.begun {
            // The rest of a line that is too long may be of any length, and is not kept.
            Some(begun) if !self.is_skipping => begun.at,
            _ => self.bytes_read(),
        }
    }

    fn bytes_read(&self) -> u64 {
        self.before + self.consumed as u64
    }

    /// Gives the bytes of whole rows away and forgets them.
    pub(super) fn take_settled(&mut self, mut give: impl FnMut(&[u8])) {
        let count = usize::try_from(self.bytes_settled().saturating_sub(self.before)).unwrap_or(0);
        give(&self.buffer[..count]);
        self.buffer.drain(..count);
        self.before += count as u64;
        self.consumed -= count;
    }

    /// Passes over bytes up to this position of the whole body, and says where it stands.
    pub(super) fn skip_to(&mut self, position: u64) -> u64 {
        let left = usize::try_from(position.saturating_sub(self.bytes_read())).unwrap_or(usize::MAX);
        self.consume(left.min(self.ahead().len()));
        self.bytes_read()
    }

    /// The next row of what is there; `is_all` says that nothing comes any more.
    pub(super) fn cut(&mut self, is_all: bool) -> Cut {
        if self.bytes_read() == 0 {
            if self.ahead().len() < BOM.len() && !is_all {
                return Cut::NeedsMore;
            }
            if self.ahead().starts_with(BOM) {
                self.consume(BOM.len());
            }
        }
        let begun = match self.begun {
            Some(begun) => begun,
            None => {
                // Empty lines are no rows; so the second half of CR LF is none either.
                let blank = self.ahead().iter().take_while(|byte| matches!(**byte, b'\r' | b'\n')).count();
                self.consume(blank);
                if self.ahead().is_empty() {
                    return if is_all { Cut::End } else { Cut::NeedsMore };
                }
                let begun = Begun { line: self.line, at: self.bytes_read() };
                *self.begun.insert(begun)
            }
        };
        let content = match self.format {
            _ if self.is_skipping => self.skip_line(is_all),
            RowFormat::Csv => self.cut_csv(begun, is_all),
            RowFormat::Ndjson => self.cut_line(is_all),
        };
        let Some(content) = content else { return Cut::NeedsMore };
        self.begun = None;
        Cut::Row(Row { line: begun.line, bytes: self.bytes_read() - begun.at, content })
    }

    fn cut_csv(&mut self, begun: Begun, is_all: bool) -> Option<Result<Content, Fault>> {
        loop {
            if self.ahead().is_empty() && !is_all {
                return None;
            }
            let (read, taken) = self.csv.read(&self.buffer[self.consumed..]);
            self.consume(taken);
            if self.bytes_read() - begun.at > ROW_MAX as u64 || matches!(read, CsvRead::TooMany) {
                self.csv.reset();
                return self.give_up_line(is_all);
            }
            if matches!(read, CsvRead::Row) {
                return Some(self.csv.cells().map(Content::Cells));
            }
        }
    }

    fn cut_line(&mut self, is_all: bool) -> Option<Result<Content, Fault>> {
        let ahead = self.ahead();
        let end = ahead.iter().take(ROW_MAX + 1).position(|byte| *byte == b'\n');
        match end {
            Some(end) => {
                let content = object(&ahead[..end]);
                self.consume(end + 1);
                Some(content)
            }
            None if ahead.len() > ROW_MAX => self.give_up_line(is_all),
            None if is_all => {
                let content = object(ahead);
                self.consume(ahead.len());
                Some(content)
            }
            None => None,
        }
    }

    fn give_up_line(&mut self, is_all: bool) -> Option<Result<Content, Fault>> {
        self.is_skipping = true;
        self.skip_line(is_all)
    }

    fn skip_line(&mut self, is_all: bool) -> Option<Result<Content, Fault>> {
        let end = self.ahead().iter().position(|byte| *byte == b'\n');
        self.consume(end.map_or(self.ahead().len(), |end| end + 1));
        if end.is_none() && !is_all {
            return None;
        }
        self.is_skipping = false;
        Some(Err(Fault::TooLong))
    }

    fn ahead(&self) -> &[u8] {
        &self.buffer[self.consumed..]
    }

    fn consume(&mut self, count: usize) {
        let newlines = self.ahead()[..count].iter().filter(|byte| **byte == b'\n').count();
        self.line += newlines as u64;
        self.consumed += count;
    }
}

fn object(line: &[u8]) -> Result<Content, Fault> {
    let text = std::str::from_utf8(line).map_err(|_| Fault::NotUtf8)?;
    let object: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| Fault::NotJson(without_place(&error)))?;
    // A NUL can only be there as the escape for it.
    if text.contains("\\u0000") && object.iter().any(|(name, value)| name.contains('\0') || holds_nul(value))
    {
        return Err(Fault::Nul);
    }
    Ok(Content::Object(object))
}

/// What is wrong and at which column; the line is always the first.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or_default();
    format!("{} at column {}", what.split('`').next().unwrap_or(what).trim(), error.column())
}

fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(members) => members.iter().any(|(name, value)| name.contains('\0') || holds_nul(value)),
        _ => false,
    }
}

/// The state of reading one record of CSV.
struct Csv {
    reader: csv_core::Reader,
    output: Vec<u8>,
    written: usize,
    ends: Vec<usize>,
    ended: usize,
}

enum CsvRead {
    More,
    Row,
    TooMany,
}

impl Csv {
    fn new(delimiter: u8) -> Self {
        let reader = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
        Self { reader, output: vec![0; 1024], written: 0, ends: vec![0; 32], ended: 0 }
    }

    /// Reads on, and says how many bytes it took; no bytes mean the end of the file.
    fn read(&mut self, input: &[u8]) -> (CsvRead, usize) {
        let (result, taken, written, ended) =
            self.reader.read_record(input, &mut self.output[self.written..], &mut self.ends[self.ended..]);
        self.written += written;
        self.ended += ended;
        let read = match result {
            ReadRecordResult::Record | ReadRecordResult::End => CsvRead::Row,
            ReadRecordResult::InputEmpty => CsvRead::More,
            ReadRecordResult::OutputFull => {
                // Bounded by the row's length: cells are never longer than what they are written as.
                self.output.resize(self.output.len() * 2, 0);
                CsvRead::More
            }
            ReadRecordResult::OutputEndsFull if self.ends.len() > CELLS_MAX => CsvRead::TooMany,
            ReadRecordResult::OutputEndsFull => {
                self.ends.resize(self.ends.len() * 2, 0);
                CsvRead::More
            }
        };
        (read, taken)
    }

    /// The cells of the record that was read to its end.
    fn cells(&mut self) -> Result<Vec<String>, Fault> {
        let mut from = 0;
        let (output, ends) = (&self.output, &self.ends[..self.ended]);
        let cells = ends.iter().map(|&end| {
            let cell = std::str::from_utf8(&output[from..end]).map_err(|_| Fault::NotUtf8)?;
            from = end;
            if cell.contains('\0') { Err(Fault::Nul) } else { Ok(cell.to_owned()) }
        });
        let cells = cells.collect();
        (self.written, self.ended) = (0, 0);
        cells
    }

    fn reset(&mut self) {
        self.reader.reset();
        (self.written, self.ended) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All rows of a text that comes in pieces of this length.
    fn rows(format: RowFormat, text: &[u8], piece: usize) -> Vec<(u64, Result<Content, Fault>)> {
        let mut cutter = Cutter::new(format, b',');
        let (mut found, mut pieces) = (Vec::new(), text.chunks(piece));
        let (mut is_all, mut total) = (false, Vec::new());
        loop {
            match cutter.cut(is_all) {
                Cut::Row(row) => found.push((row.line, row.content)),
                Cut::End => break,
                Cut::NeedsMore => match pieces.next() {
                    Some(piece) => cutter.add(piece),
                    None => is_all = true,
                },
            }
            cutter.take_settled(|bytes| total.extend_from_slice(bytes));
        }
        assert!(total == text, "every byte is counted");
        found
    }

    fn cells(cells: &[&str]) -> Result<Content, Fault> {
        Ok(Content::Cells(cells.iter().map(|cell| (*cell).to_owned()).collect()))
    }

    #[test]
    fn csv_is_cut_the_same_in_pieces_of_any_size() {
        let text = "\u{feff}ref,name\r\n1,\"Anna, \"\"A\"\"\"\r\n\r\n2,\"two\r\nlines\"\n3,last".as_bytes();
        for piece in [1, 2, 3, 7, 1000] {
            let found = rows(RowFormat::Csv, text, piece);
            let expected = [
                (1, cells(&["ref", "name"])),
                (2, cells(&["1", "Anna, \"A\""])),
                (4, cells(&["2", "two\r\nlines"])),
                (6, cells(&["3", "last"])),
            ];
            assert_eq!(found, expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_bad_row_of_csv_is_told_and_the_next_one_is_read() {
        let mut text = b"a\n\xff\nb\0\n\"".to_vec();
        text.extend(vec![b'x'; ROW_MAX]);
        text.extend(b"\nrest of it\nc\n");
        for piece in [1000, 1 << 20] {
            let found = rows(RowFormat::Csv, &text, piece);
            let expected = [
                (1, cells(&["a"])),
                (2, Err(Fault::NotUtf8)),
                (3, Err(Fault::Nul)),
                (4, Err(Fault::TooLong)),
            ];
            assert_eq!(found[..4], expected, "in pieces of {piece}");
            assert_eq!(found.last(), Some(&(6, cells(&["c"]))), "in pieces of {piece}");
        }
    }

    #[test]
    fn a_line_of_json_is_an_object_or_a_fault() {
        let text = b"{\"a\":1}\r\n\n[1]\n{\"b\":\"\\u0000\"}\n{\"c\":\"\xff\"}\n{\"d\":2}";
        for piece in [1, 5, 1000] {
            let found = rows(RowFormat::Ndjson, text, piece);
            let codes: Vec<_> = found
                .iter()
                .map(|(line, content)| (*line, content.as_ref().map_or_else(Fault::code, |_| "ok")))
                .collect();
            let expected = [(1, "ok"), (3, "not_json"), (4, "nul_character"), (5, "not_utf8"), (6, "ok")];
            assert_eq!(codes, expected);
        }
    }

    #[test]
    fn a_line_of_json_that_is_too_long_is_passed_over() {
        let mut text = b"{\"a\":\"".to_vec();
        text.extend(vec![b'x'; 2 * ROW_MAX]);
        text.extend(b"\"}\n{}\n");
        let found = rows(RowFormat::Ndjson, &text, 1000);
        assert_eq!(found[0], (1, Err(Fault::TooLong)));
        assert_eq!(found[1..], [(2, Ok(Content::Object(Map::new())))]);
    }
}
