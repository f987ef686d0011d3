//! What a part of a template includes, followed to the end.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    partials::freeze::{Frozen, MAX_DEPTH},
    render::Part,
    words::includes,
};

/// Why a part of a template cannot include what it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// `unknown_partial`, `circular_include`, `no_html` or `too_deep`.
    pub code: &'static str,
    /// A sentence for a person that begins with the place.
    pub detail: String,
}

/// The names of all partials that `source` includes, by whatever way.
///
/// # Errors
/// The first that cannot be included.
pub(super) fn reached(part: Part, source: &str, partials: &Frozen) -> Result<BTreeSet<String>, Fault> {
    let mut walk = Walk { part, partials, heights: BTreeMap::new(), trail: Vec::new() };
    walk.follow(source)?;
    Ok(walk.heights.into_keys().map(str::to_owned).collect())
}

struct Walk<'a> {
    part: Part,
    partials: &'a Frozen,
    /// How deep what each partial includes goes, itself counted.
    heights: BTreeMap<&'a str, usize>,
    /// The partials that are being followed.
    trail: Vec<&'a str>,
}

impl<'a> Walk<'a> {
    /// Follows what a source includes; gives how deep it goes.
    fn follow(&mut self, source: &str) -> Result<usize, Fault> {
        let mut deepest = 0;
        for include in includes(source).unwrap_or_default() {
            let place = match self.trail.last() {
                Some(partial) => format!("partial `{partial}`, {}", include.place),
                None => include.place,
            };
            let height = self.height(include.name, &place)?;
            if height > MAX_DEPTH {
                let detail = format!("{place}: partials include each other more than {MAX_DEPTH} deep");
                return Err(Fault { code: "too_deep", detail });
            }
            deepest = deepest.max(height);
        }
        Ok(deepest)
    }

    fn height(&mut self, name: &str, place: &str) -> Result<usize, Fault> {
        if let Some(known) = self.heights.get(name) {
            return Ok(*known);
        }
        let fault = |code, detail: String| Err(Fault { code, detail: format!("{place}: {detail}") });
        if let Some(at) = self.trail.iter().position(|one| *one == name) {
            let way = format!("{} → {name}", self.trail[at..].join(" → "));
            return fault("circular_include", format!("the partial `{name}` includes itself: {way}"));
        }
        let Some((name, partial)) = self.partials.get_key_value(name) else {
            return fault("unknown_partial", format!("there is no partial `{name}`"));
        };
        let Some(source) = partial.source(self.part) else {
            return fault("no_html", format!("the partial `{name}` has no HTML"));
        };
        self.trail.push(name);
        let height = self.follow(source)? + 1;
        self.trail.pop();
        self.heights.insert(name, height);
        Ok(height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::templates::partials::freeze::PartialText;

    fn partials(sources: &[(&str, &str)]) -> Frozen {
        let texts = sources
            .iter()
            .map(|(name, text)| ((*name).to_owned(), PartialText { text: (*text).to_owned(), html: None }));
        texts.collect()
    }

    fn fault(source: &str, sources: &[(&str, &str)]) -> (&'static str, String) {
        let fault = reached(Part::Text, source, &partials(sources)).unwrap_err();
        (fault.code, fault.detail)
    }

    #[test]
    fn all_that_is_included_is_reached_once() {
        let sources =
            [("a", "{% include 'b' %}{% include 'c' %}"), ("b", "{% include 'c' %}"), ("c", "x"), ("d", "")];
        let found = reached(Part::Text, "{% include 'a' %}{% include 'a' %}", &partials(&sources)).unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn what_cannot_be_included_is_said_with_its_place() {
        let circle = [("a", "x\n  {% include 'b' %}"), ("b", "{% include 'a' %}")];
        assert_eq!(
            fault("{% include 'a' %}", &circle),
            (
                "circular_include",
                "partial `b`, line 1, column 1: the partial `a` includes itself: a → b → a".to_owned()
            )
        );
        assert_eq!(
            fault("\n {% include 'z' %}", &[]),
            ("unknown_partial", "line 2, column 2: there is no partial `z`".to_owned())
        );
        let html = reached(Part::Html, "{% include 'a' %}", &partials(&[("a", "")])).unwrap_err();
        assert_eq!(html.code, "no_html");
    }

    #[test]
    fn partials_go_four_deep_whatever_is_looked_at_first() {
        let chain = [
            ("a", "{% include 'b' %}"),
            ("b", "{% include 'c' %}"),
            ("c", "{% include 'd' %}"),
            ("d", "{% include 'e' %}"),
            ("e", ""),
        ];
        assert!(reached(Part::Text, "{% include 'b' %}", &partials(&chain)).is_ok());
        assert_eq!(fault("{% include 'b' %}{% include 'a' %}", &chain).0, "too_deep");
    }
}
