//! What hostile HTML may cost, and that ordinary HTML costs less.

use proptest::prelude::*;

use super::*;
use crate::mail::sanitise::{Images, html, text_from_html};

const DEPTH: usize = 400;

fn numbered(times: usize, tag: impl Fn(usize) -> String) -> String {
    (0..times).map(tag).collect()
}

#[test]
fn what_grows_with_the_square_of_its_length_is_not_parsed_to_its_end() {
    let formatting = numbered(190, |i| format!("<b a={i}>"));
    let cases = [
        ("formatting in every paragraph", format!("<p>{formatting}{}", "<p>x".repeat(5_000))),
        (
            "long styles in every paragraph",
            format!("<p><font style=\"{}\">{}", "color:red;".repeat(1_000), "<p>x".repeat(1_000)),
        ),
        ("end tags of nothing", "<div></x>".repeat(30_000)),
        ("paragraphs moved out of a table", format!("<table>{}", "<p>x".repeat(20_000))),
        ("attributes of one tag", format!("<p {}>", numbered(40_000, |i| format!("a{i} ")))),
        ("attributes of an end tag", format!("<p></p {}>", numbered(40_000, |i| format!("a{i} ")))),
        ("nothing but paragraphs", "<p>".repeat(200_000)),
    ];
    for (name, raw) in cases {
        assert!(page(&raw, usize::MAX).is_none(), "{name}");
        assert!(!is_fragment(&raw, usize::MAX), "{name}");
    }
}

#[test]
fn what_is_small_as_a_tree_but_large_as_text_is_not_rendered() {
    let cases = [
        ("columns in every row", format!("<table><tr>{}{}", "<td>".repeat(2_000), "<tr><td>".repeat(2_000))),
        ("lines in many quotes", format!("{}<pre>{}", "<blockquote>".repeat(70), "x\n".repeat(50_000))),
        ("cells in cells", format!("{}{}", "<table><tr><td>".repeat(70), "<p>x".repeat(20_000))),
        ("quotes in quotes", format!("{}deep", "<blockquote>".repeat(100))),
    ];
    for (name, raw) in cases {
        assert!(page(&raw, DEPTH).is_none(), "{name}");
    }
}

#[test]
fn columns_that_nothing_stands_in_are_not_laid_out() {
    let wide = numbered(2_000, |i| format!("<tr><td colspan={}>a<td rowspan=60000>b", i + 1));
    assert_eq!(text_from_html(&format!("<table>{wide}</table>")).lines().count(), 4_000);
}

#[test]
fn a_small_mail_is_never_a_large_answer() {
    let formatting = numbered(190, |i| format!("<b a={i}>"));
    for raw in [
        format!("<p>{formatting}{}", "<p>x".repeat(3_000)),
        format!("<p>{formatting}{}", "<table>x".repeat(1_000)),
        format!("{formatting}{}", "<div></b>x".repeat(1_000)),
    ] {
        let clean = html(&raw, Images::Blocked, |_| None).html;
        assert!(clean.len() <= BUILT_RATIO * raw.len() + BUILT_FREE, "{} became {}", raw.len(), clean.len());
        assert!(clean.contains('x'), "the words stay");
        assert!(text_from_html(&raw).contains('x'), "the words stay");
    }
}

#[test]
fn ordinary_mails_are_parsed() {
    let item = "<table width=600><tbody><tr><td style=\"padding:4px\"><p><b>Item</b> <a href=\"https://x.example/1\">more</a></p></td></tr></tbody></table>\n";
    let cases = [
        ("a newsletter", format!("{}{}", "<table><tr><td>".repeat(12), item.repeat(500))),
        (
            "a report",
            format!("<table>{}</table>", "<tr><td>1234</td><td>abc</td><td>1.00</td></tr>\n".repeat(2_000)),
        ),
        (
            "a long exchange",
            format!("{}{}", "<blockquote><div>".repeat(30), "<div>line</div>\n".repeat(1_000)),
        ),
        (
            "a comment of Word's",
            format!(
                "<!--[if gte mso 9]><xml>{}</xml><![endif]--><p>x",
                "<w:X Locked=\"false\" Name=\"y\"/>\n".repeat(1_000)
            ),
        ),
        ("formatting left open", "<p><font face=Arial><b>Words.<p>Words.".repeat(20)),
    ];
    for (name, raw) in cases {
        assert!(page(&raw, DEPTH).is_some(), "{name}");
        assert!(is_fragment(&raw, 1000), "{name}");
    }
}

/// Tags in any order, each many times.
fn tag_soup() -> impl Strategy<Value = String> {
    const TAGS: [&str; 24] = [
        "<p>x",
        "<b a=1>",
        "<i>",
        "<font size=1>",
        "</b>",
        "</p>",
        "</x>",
        "<div>",
        "<table>",
        "<tr>",
        "<td>",
        "</table>",
        "<select>",
        "<option>",
        "<svg>",
        "<math><mi>",
        "<template>",
        "<blockquote>",
        "<ul><li>",
        "<h1>",
        "<nobr>",
        "<button>",
        "<!-- ",
        "<style>",
    ];
    let run = (0..TAGS.len(), 1..300_usize).prop_map(|(at, times)| TAGS[at].repeat(times));
    prop::collection::vec(run, 1..8).prop_map(|runs| runs.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_order_of_tags_makes_much_of_little(raw in tag_soup()) {
        let clean = html(&raw, Images::Blocked, |_| None).html;
        prop_assert!(clean.len() <= 2 * BUILT_RATIO * raw.len() + BUILT_FREE, "{} became {}", raw.len(), clean.len());
        prop_assert!(text_from_html(&raw).len() <= 200 * raw.len() + 1000);
        if let Some(page) = page(&raw, DEPTH) {
            prop_assert!(Shape::of(&page).nodes <= WORK_MAX / CHANGE);
        }
    }
}
