//! Which language a customer gets: the lookup of RFC 4647 section 3.4.

/// The place of the tag that serves `asked` best: the same one, else one with fewer subtags; none when the default is to
/// serve.
pub fn lookup<'a>(asked: &str, tags: impl Iterator<Item = &'a str> + Clone) -> Option<usize> {
    let mut range = asked.trim();
    while !range.is_empty() {
        if let Some(at) = tags.clone().position(|tag| tag.eq_ignore_ascii_case(range)) {
            return Some(at);
        }
        range = shortened(range);
    }
    None
}

/// Without the last subtag; a single letter or digit before it introduces it, and goes with it.
fn shortened(range: &str) -> &str {
    let Some((rest, _)) = range.rsplit_once('-') else { return "" };
    match rest.rsplit_once('-') {
        Some((shorter, singleton)) if singleton.len() == 1 => shorter,
        _ => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_tag_comes_first_then_shorter_ones_then_the_default() {
        let tags = ["de", "de-CH", "zh-Hant", "fr-FR"];
        let found = |asked: &str| lookup(asked, tags.into_iter()).map(|at| tags[at]);
        assert_eq!(found("de-CH"), Some("de-CH"));
        assert_eq!(found("DE-ch"), Some("de-CH"));
        assert_eq!(found("de-AT"), Some("de"));
        assert_eq!(found("de-CH-1996"), Some("de-CH"));
        assert_eq!(found("zh-Hant-TW"), Some("zh-Hant"));
        assert_eq!(found("zh-Hant-x-private"), Some("zh-Hant"), "a singleton goes with its subtag");
        assert_eq!(found("fr"), None, "a longer tag does not serve a shorter one");
        assert_eq!(found("en-GB"), None);
        assert_eq!(found(""), None);
    }
}
