//! Telephone numbers that texts go to.

use std::fmt;

/// Fewest and most digits: the shortest numbers with a country code that are in use, and E.164 section 6.2.1.
const DIGITS: std::ops::RangeInclusive<usize> = 6..=15;

/// A number with its country code: `+` and 6 to 15 digits (ITU-T E.164).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Number(String);

/// Why a text is not a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// The country code is missing.
    #[error("a number begins with + or 00 and the country code")]
    Country,
    /// Something in it is neither a digit nor a separator.
    #[error("a number has digits, spaces, dashes, dots and parentheses only")]
    Character,
    /// It has fewer than 6 or more than 15 digits.
    #[error("a number has 6 to 15 digits")]
    Length,
}

impl Number {
    /// Reads a number as people write it: spaces, dashes, dots and parentheses are left out, `00` at the beginning
    /// stands for `+`, and so is the `(0)` that people write after a country code.
    ///
    /// # Errors
    /// When it is not a whole number.
    pub fn parse(text: &str) -> Result<Self, NumberError> {
        let bare = bare(text);
        let digits = match bare.strip_prefix('+').or_else(|| bare.strip_prefix("00")) {
            Some(digits) => digits,
            None if bare.bytes().all(|b| b.is_ascii_digit()) => return Err(NumberError::Country),
            None => return Err(NumberError::Character),
        };
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NumberError::Character);
        }
        if digits.starts_with('0') {
            return Err(NumberError::Country);
        }
        if !DIGITS.contains(&digits.len()) {
            return Err(NumberError::Length);
        }
        Ok(Self(format!("+{digits}")))
    }

    /// Reads a number as gateways write it: with its country code, but mostly without `+`. One that begins with a single
    /// `0` is of the country whose code (digits only) is given.
    ///
    /// # Errors
    /// When it is not a whole number, or is of a country that is not known.
    pub fn of_gateway(text: &str, country: Option<&str>) -> Result<Self, NumberError> {
        let bare = bare(text);
        if bare.starts_with('+') || bare.starts_with("00") || !bare.bytes().all(|b| b.is_ascii_digit()) {
            return Self::parse(text);
        }
        match (bare.strip_prefix('0'), country) {
            (Some(national), Some(country)) => Self::parse(&format!("+{country}{national}")),
            (Some(_), None) => Err(NumberError::Country),
            (None, _) => Self::parse(&format!("+{bare}")),
        }
    }

    /// The digits without `+`.
    pub fn digits(&self) -> &str {
        &self.0[1..]
    }

    /// `+` and digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Without what people write between digits, and the hyphens and spaces that documents put in for it.
fn bare(text: &str) -> String {
    let is_separator =
        |c: char| c.is_whitespace() || matches!(c, '-' | '.' | '(' | ')' | '\u{2010}'..='\u{2013}');
    let trimmed = text.trim();
    let whole = match trimmed.starts_with('+') || trimmed.starts_with("00") {
        true => trimmed.replacen("(0)", "", 1),
        false => trimmed.to_owned(),
    };
    whole.chars().filter(|c| !is_separator(*c)).collect()
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_as_people_write_it() {
        for written in [
            "+44 20 7946 0018",
            "0044-20-7946.0018",
            "+44 (20) 79460018",
            " +442079460018 ",
            "+44 (0)20 7946 0018",
            "00 44 (0) 20\u{2011}7946\u{a0}0018",
        ] {
            assert_eq!(Number::parse(written).unwrap().as_str(), "+442079460018", "{written}");
        }
    }

    #[test]
    fn a_gateway_needs_no_plus_and_a_countrys_own_number_needs_the_country() {
        for written in ["447700900123", "+447700900123", "00447700900123", "44 7700 900-123"] {
            assert_eq!(Number::of_gateway(written, None).unwrap().digits(), "447700900123", "{written}");
        }
        assert_eq!(Number::of_gateway("07700 900123", Some("44")).unwrap().as_str(), "+447700900123");
        assert_eq!(Number::of_gateway("07700 900123", None), Err(NumberError::Country));
        assert_eq!(Number::of_gateway("", None), Err(NumberError::Length));
        assert_eq!(Number::of_gateway("VODAFONE", Some("44")), Err(NumberError::Character));
        assert_eq!(Number::of_gateway("60606", Some("44")), Err(NumberError::Length));
    }

    #[test]
    fn what_is_no_whole_number_is_refused_with_the_reason() {
        for (written, reason) in [
            ("020 7946 0018", NumberError::Country),
            ("+0207946001", NumberError::Country),
            ("", NumberError::Country),
            ("+44 20x", NumberError::Character),
            ("anna@example.org", NumberError::Character),
            ("+12345", NumberError::Length),
            ("+1234567890123456", NumberError::Length),
            ("++4420794600", NumberError::Character),
        ] {
            assert_eq!(Number::parse(written), Err(reason), "{written}");
        }
    }
}
