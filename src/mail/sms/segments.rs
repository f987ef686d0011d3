//! How many messages a text takes: the GSM 7-bit alphabet (3GPP TS 23.038) when it holds every character, else UCS-2.
//!
//! A text that does not fit one message is cut into segments of 140 bytes, of which 6 say how they belong together
//! (3GPP TS 23.040 section 9.2.3.24.1). A character is never cut in two.

use serde::Serialize;
use utoipa::ToSchema;

/// The alphabet that a text is sent in.
///
/// - `gsm7`: the GSM 7-bit alphabet; a unit is a septet.
/// - `ucs2`: 16 bits a character, because one is not in that alphabet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SmsEncoding)]
pub enum Encoding {
    /// The GSM 7-bit default alphabet with its extension table; a unit is a septet.
    Gsm7,
    /// 16 bits a character, and two such units for those beyond U+FFFF.
    Ucs2,
}

impl Encoding {
    /// Units in a message on its own, and in each segment of a longer one.
    const fn limits(self) -> (usize, usize) {
        match self {
            Self::Gsm7 => (160, 153),
            Self::Ucs2 => (70, 67),
        }
    }

    fn units(self, c: char) -> usize {
        match self {
            Self::Gsm7 => septets(c).unwrap_or(1),
            Self::Ucs2 => c.len_utf16(),
        }
    }
}

/// What a text takes to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = SmsSegments)]
pub struct Segments {
    /// The alphabet.
    pub encoding: Encoding,
    /// Units of the alphabet that the text has, without those that stay empty at the end of a segment.
    #[schema(minimum = 0, examples(42))]
    pub units: usize,
    /// Messages that are sent and paid for; none for an empty text.
    #[schema(minimum = 0, examples(1))]
    pub segments: usize,
    /// Units that can be added before one more segment is needed.
    #[schema(minimum = 0, examples(118))]
    pub units_left_in_last: usize,
    /// The first character that is not in the GSM alphabet, and so the reason for UCS-2.
    #[schema(value_type = Option<String>, examples("’"))]
    pub first_not_gsm: Option<char>,
}

/// Counts a text as it is given: a line end that is CRLF counts as two characters.
pub fn measure(text: &str) -> Segments {
    let first_not_gsm = text.chars().find(|&c| septets(c).is_none());
    let encoding = if first_not_gsm.is_some() { Encoding::Ucs2 } else { Encoding::Gsm7 };
    let units = text.chars().map(|c| encoding.units(c)).sum();
    let (alone, each) = encoding.limits();
    let (segments, units_left_in_last) = match units {
        0 => (0, alone),
        _ if units <= alone => (1, alone - units),
        _ => {
            let (segments, used) = text.chars().fold((1, 0), |(segments, used), c| {
                let wanted = encoding.units(c);
                if used + wanted > each { (segments + 1, wanted) } else { (segments, used + wanted) }
            });
            (segments, each - used)
        }
    };
    Segments { encoding, units, segments, units_left_in_last, first_not_gsm }
}

/// Septets that a character takes in the GSM alphabet; `None` when it is not in it.
fn septets(c: char) -> Option<usize> {
    match c {
        // Section 6.2.1, the default alphabet.
        '\n' | '\r' | ' '..='#' | '%'..='?' | 'A'..='Z' | 'a'..='z' => Some(1),
        '@' | '£' | '$' | '¥' | 'è' | 'é' | 'ù' | 'ì' | 'ò' | 'Ç' | 'Ø' | 'ø' | 'Å' | 'å' => {
            Some(1)
        }
        'Δ' | '_' | 'Φ' | 'Γ' | 'Λ' | 'Ω' | 'Π' | 'Ψ' | 'Σ' | 'Θ' | 'Ξ' => Some(1),
        'Æ' | 'æ' | 'ß' | 'É' | '¤' | '¡' | 'Ä' | 'Ö' | 'Ñ' | 'Ü' | '§' | '¿' => Some(1),
        'ä' | 'ö' | 'ñ' | 'ü' | 'à' => Some(1),
        // Section 6.2.1.1, the extension table: an escape comes first.
        '\u{c}' | '^' | '{' | '}' | '\\' | '[' | '~' | ']' | '|' | '€' => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Encoding::*, *};

    /// Encoding, units, segments and what is left.
    type Expected = (Encoding, usize, usize, usize);

    fn check(text: &str, expected: Expected) {
        let found = measure(text);
        let short: String = text.chars().take(12).collect();
        assert_eq!(
            (found.encoding, found.units, found.segments, found.units_left_in_last),
            expected,
            "{short}… of {} characters",
            text.chars().count()
        );
    }

    fn a(times: usize) -> String {
        "a".repeat(times)
    }

    fn zh(times: usize) -> String {
        "你".repeat(times)
    }

    #[test]
    fn texts_in_the_gsm_alphabet_are_counted_in_septets() {
        let cases: [(String, Expected); 12] = [
            (String::new(), (Gsm7, 0, 0, 160)),
            (a(1), (Gsm7, 1, 1, 159)),
            (a(159), (Gsm7, 159, 1, 1)),
            (a(160), (Gsm7, 160, 1, 0)),
            (a(161), (Gsm7, 161, 2, 145)),
            (a(2 * 153), (Gsm7, 306, 2, 0)),
            (a(2 * 153 + 1), (Gsm7, 307, 3, 152)),
            (a(3 * 153), (Gsm7, 459, 3, 0)),
            (a(3 * 153 + 1), (Gsm7, 460, 4, 152)),
            ("€".into(), (Gsm7, 2, 1, 158)),
            ("€".repeat(80), (Gsm7, 160, 1, 0)),
            ("a\r\nb".into(), (Gsm7, 4, 1, 156)),
        ];
        for (text, expected) in cases {
            check(&text, expected);
        }
    }

    #[test]
    fn an_extension_character_is_never_cut_in_two() {
        let cases: [(String, Expected); 6] = [
            // The 160th septet is an escape, so the text takes two segments.
            (a(159) + "€", (Gsm7, 161, 2, 145)),
            // It ends the first segment exactly.
            (a(151) + "€" + &a(10), (Gsm7, 163, 2, 143)),
            // One septet of the first segment stays empty.
            (a(152) + "€" + &a(10), (Gsm7, 164, 2, 141)),
            // 306 septets, which would fit two segments if it could be cut.
            (a(152) + "€" + &a(152), (Gsm7, 306, 3, 152)),
            (a(152) + "€" + &a(151), (Gsm7, 305, 2, 0)),
            // 76 to a segment, since the odd septet stays empty in each.
            ("€".repeat(153), (Gsm7, 306, 3, 151)),
        ];
        for (text, expected) in cases {
            check(&text, expected);
        }
    }

    #[test]
    fn other_texts_are_counted_in_16_bit_units() {
        let cases: [(String, Expected); 8] = [
            (zh(1), (Ucs2, 1, 1, 69)),
            (zh(70), (Ucs2, 70, 1, 0)),
            (zh(71), (Ucs2, 71, 2, 63)),
            (zh(2 * 67), (Ucs2, 134, 2, 0)),
            (zh(2 * 67 + 1), (Ucs2, 135, 3, 66)),
            // One character beyond the alphabet makes the whole text dear; an extension character is then one unit.
            (a(69) + "ç", (Ucs2, 70, 1, 0)),
            (a(70) + "ç", (Ucs2, 71, 2, 63)),
            ("€ç".into(), (Ucs2, 2, 1, 68)),
        ];
        for (text, expected) in cases {
            check(&text, expected);
        }
    }

    #[test]
    fn a_surrogate_pair_is_never_cut_in_two() {
        let cases: [(String, Expected); 6] = [
            ("😀".repeat(35), (Ucs2, 70, 1, 0)),
            (a(69) + "😀", (Ucs2, 71, 2, 63)),
            // Ends the first segment exactly.
            (a(65) + "😀" + &a(10), (Ucs2, 77, 2, 57)),
            // One unit of the first segment stays empty.
            (a(66) + "😀" + &a(10), (Ucs2, 78, 2, 55)),
            // 134 units, which would fit two segments if it could be cut.
            (a(66) + "😀" + &a(66), (Ucs2, 134, 3, 66)),
            ("😀".repeat(67), (Ucs2, 134, 3, 65)),
        ];
        for (text, expected) in cases {
            check(&text, expected);
        }
    }

    #[test]
    fn every_character_of_the_alphabet_is_known_and_no_look_alike() {
        let default: String = [
            "@£$¥èéùìòÇ\nØø\rÅå",
            "Δ_ΦΓΛΩΠΨΣΘΞÆæßÉ",
            " !\"#¤%&'()*+,-./",
            "0123456789:;<=>?",
            "¡ABCDEFGHIJKLMNO",
            "PQRSTUVWXYZÄÖÑÜ§",
            "¿abcdefghijklmno",
            "pqrstuvwxyzäöñüà",
        ]
        .concat();
        // 128 places, one of which is the escape.
        assert_eq!(default.chars().count(), 127);
        assert!(default.chars().all(|c| septets(c) == Some(1)));
        assert!("\u{c}^{}\\[~]|€".chars().all(|c| septets(c) == Some(2)));
        let known = (0..=0x10_ffff).filter_map(char::from_u32).filter(|&c| septets(c).is_some()).count();
        assert_eq!(known, 127 + 10);
        assert!("çá`\t’“–…\u{a0}АΑ\u{1b}".chars().all(|c| septets(c).is_none()));
    }

    #[test]
    fn the_first_character_that_makes_it_ucs_2_is_named() {
        assert_eq!(measure("It’s 5 € – ok").first_not_gsm, Some('’'));
        assert_eq!(measure("It's 5 €").first_not_gsm, None);
    }

    proptest! {
        #[test]
        fn segments_are_as_many_as_cutting_the_text_gives(text in "[a-z€^{}😀ç]{0,400}") {
            let found = measure(&text);
            let (alone, each) = found.encoding.limits();
            // Cuts the text into pieces, each as long as fits.
            let mut pieces = vec![0];
            for c in text.chars() {
                let units = found.encoding.units(c);
                if pieces.last().unwrap() + units > each { pieces.push(0); }
                *pieces.last_mut().unwrap() += units;
            }
            let expected = if text.is_empty() { 0 } else if found.units <= alone { 1 } else { pieces.len() };
            prop_assert_eq!(found.segments, expected);
        }

        #[test]
        fn what_is_left_can_be_added_and_no_more(text in "[a-z€ç]{1,400}") {
            let found = measure(&text);
            let full = measure(&(text.clone() + &"a".repeat(found.units_left_in_last)));
            prop_assert_eq!((full.segments, full.units_left_in_last), (found.segments, 0));
            let (alone, _) = found.encoding.limits();
            let over = measure(&(text + &"a".repeat(found.units_left_in_last + 1)));
            prop_assert!(over.segments == found.segments + 1 || (found.units > alone && over.segments > found.segments));
        }
    }
}
