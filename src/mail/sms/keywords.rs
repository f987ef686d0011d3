//! The words by which people leave, come back and ask for help, as a whole message.
//!
//! `YES` is not among the words to come back: people answer questions with it, and a yes to an appointment is no consent
//! to further texts. An account whose texts ask for a YES can name it.

use std::collections::HashMap;

/// What a message that is one such word asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Keyword {
    /// To get no more texts.
    Stop,
    /// To get texts again.
    Start,
    /// To be told who sends and how to stop.
    Help,
}

/// The words that mean stopping unless an account says otherwise.
pub const STOP: [&str; 6] = ["STOP", "STOPALL", "UNSUBSCRIBE", "END", "QUIT", "CANCEL"];
/// The words that mean coming back.
pub const START: [&str; 2] = ["START", "UNSTOP"];
/// The words that ask for help.
pub const HELP: [&str; 2] = ["HELP", "INFO"];

/// The words and what they ask for.
#[derive(Debug, Clone, Default)]
pub struct Keywords {
    words: HashMap<String, Keyword>,
}

/// Why a word cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeywordError {
    /// It is empty, has punctuation at an end, or more than one word.
    #[error("{0:?} is not one word")]
    NotAWord(String),
    /// It asks for something else already.
    #[error("{0:?} has another meaning already")]
    Ambiguous(String),
}

impl Keywords {
    /// Adds a word in any language and case, such as `STOPP`.
    ///
    /// # Errors
    /// [`KeywordError`] when it is not one word, or has another meaning already.
    pub fn add(&mut self, word: &str, keyword: Keyword) -> Result<(), KeywordError> {
        let only = only_word(word).filter(|only| only.len() == word.len());
        let only = only.ok_or_else(|| KeywordError::NotAWord(word.to_owned()))?.to_lowercase();
        match self.words.insert(only, keyword) {
            Some(known) if known != keyword => Err(KeywordError::Ambiguous(word.to_owned())),
            _ => Ok(()),
        }
    }

    /// What a message asks for when it is exactly one of the words, in any case, with punctuation around it or not.
    pub fn meaning(&self, text: &str) -> Option<Keyword> {
        self.words.get(&only_word(text)?.to_lowercase()).copied()
    }
}

/// The text without white space and punctuation around it, when that is one word.
fn only_word(text: &str) -> Option<&str> {
    let word = text.trim_matches(|c: char| !c.is_alphanumeric());
    (!word.is_empty() && !word.contains(char::is_whitespace)).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usual() -> Keywords {
        let mut words = Keywords::default();
        for (list, keyword) in
            [(&STOP[..], Keyword::Stop), (&START[..], Keyword::Start), (&HELP[..], Keyword::Help)]
        {
            list.iter().for_each(|word| words.add(word, keyword).unwrap());
        }
        words
    }

    #[test]
    fn a_message_that_is_one_known_word_is_understood() {
        let cases = [
            ("STOP", Keyword::Stop),
            ("stop", Keyword::Stop),
            (" Stop. ", Keyword::Stop),
            ("\"STOP!\"\r\n", Keyword::Stop),
            ("stop 🙏", Keyword::Stop),
            ("STOPALL", Keyword::Stop),
            ("Unsubscribe", Keyword::Stop),
            ("END", Keyword::Stop),
            ("quit", Keyword::Stop),
            ("Cancel", Keyword::Stop),
            ("START", Keyword::Start),
            ("unstop", Keyword::Start),
            ("Help?", Keyword::Help),
            ("info", Keyword::Help),
        ];
        for (text, expected) in cases {
            assert_eq!(usual().meaning(text), Some(expected), "{text:?}");
        }
    }

    #[test]
    fn anything_more_or_else_is_an_ordinary_message() {
        for text in [
            "",
            "  ",
            "...",
            "please stop",
            "stop it",
            "STOP ALL",
            "stop\nstop",
            "stopping",
            "stop,help",
            "don't",
            "YES",
            "yes",
            "unsubscribe me",
            "STOP2",
        ] {
            assert_eq!(usual().meaning(text), None, "{text:?}");
        }
    }

    #[test]
    fn words_can_be_added_in_any_language() {
        let mut words = usual();
        words.add("ARRÊT", Keyword::Stop).unwrap();
        words.add("Yes", Keyword::Start).unwrap();
        words.add("стоп", Keyword::Stop).unwrap();
        words.add("stop", Keyword::Stop).unwrap();
        for (text, expected) in [
            ("arrêt!", Keyword::Stop),
            ("YES", Keyword::Start),
            ("СТОП", Keyword::Stop),
            ("stop", Keyword::Stop),
        ] {
            assert_eq!(words.meaning(text), Some(expected), "{text}");
        }
        assert_eq!(usual().meaning("arrêt"), None);
    }

    #[test]
    fn a_word_with_two_meanings_or_that_is_none_is_refused() {
        let mut words = usual();
        assert_eq!(words.add("Stop", Keyword::Start), Err(KeywordError::Ambiguous("Stop".to_owned())));
        for word in ["", " ", "!", "stop it", "stopp!", " stopp"] {
            assert_eq!(
                words.add(word, Keyword::Stop),
                Err(KeywordError::NotAWord(word.to_owned())),
                "{word:?}"
            );
        }
    }
}
