use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::id::TemplateId;
use crate::templates::entity::{TemplateCategory, TemplateChannel, TemplatePurpose, TemplateState};

fn template(subject: &str, text: &str, html: Option<&str>) -> Model {
    Model {
        id: TemplateId(Uuid::nil()),
        name: "t".into(),
        description: String::new(),
        channel: TemplateChannel::Email,
        purpose: TemplatePurpose::Receipt,
        category: TemplateCategory::Transactional,
        subject: subject.into(),
        text: text.into(),
        html: html.map(Into::into),
        variants: json!([]),
        fields: json!([]),
        partials: json!({}),
        attachments: json!([]),
        revision: 0,
        revises: None,
        state: TemplateState::Draft,
        version: 1,
        created_at: Timestamp::ZERO,
        updated_at: Timestamp::ZERO,
    }
}

fn context(subject: &str) -> Context {
    Context {
        message: MessageContext {
            subject: subject.into(),
            from: PersonContext { name: "<b>Kim</b>".into(), address: "kim@example.com".into() },
            received_at: Timestamp::ZERO,
        },
        account: AccountContext { address: "info@example.org".into(), display_name: "Info".into() },
        conversation: ConversationContext { id: ConversationId(Uuid::nil()) },
    }
}

#[test]
fn values_are_escaped_in_html_and_nowhere_else() {
    let name = "{{ message.from.name }}";
    let rendered = render(&template(name, name, Some(name)), &context("Hi")).unwrap();
    assert_eq!((rendered.subject.as_str(), rendered.text.as_str()), ("<b>Kim</b>", "<b>Kim</b>"));
    assert_eq!(rendered.html.as_deref(), Some("&lt;b&gt;Kim&lt;&#x2f;b&gt;"));
}

#[test]
fn a_line_break_never_gets_into_the_subject() {
    let answering = template("Re: {{ message.subject }}", "Hello", None);
    for subject in ["Hi\r\nBcc: all@example.com", "Hi\nthere", "Hi\rthere", "Hi\0"] {
        let failed = render(&answering, &context(subject)).unwrap_err();
        assert_eq!((failed.part, failed.code), (Part::Subject, "control_character"));
    }
}

#[test]
fn what_is_not_there_is_an_error_with_its_part_and_line() {
    let failed = render(&template("Hi", "one\n{{ message.weight }}", None), &context("Hi")).unwrap_err();
    assert_eq!((failed.part, failed.code), (Part::Text, "render_failed"));
    assert!(failed.detail.contains("line 2"), "{}", failed.detail);
}

#[test]
fn a_preview_leaves_out_what_is_not_there() {
    let compiled = Compiled::lenient(&template("Hi {{ name }}", "{{ a.b.c }}!", None)).unwrap();
    let rendered = compiled.render(None, json!({ "name": "Kim" })).unwrap();
    assert_eq!((rendered.subject.as_str(), rendered.text.as_str()), ("Hi Kim", "!"));
}

#[test]
fn work_without_end_is_cut_by_fuel() {
    let items = "[1,2,3,4,5,6,7,8,9,10]";
    let nested = (0..12).map(|i| format!("{{% for i{i} in {items} %}}")).collect::<String>();
    let loops = format!("{nested}{}", "{% endfor %}".repeat(12));
    let doubling = format!("{{% set x = 'aaaaaaaa' %}}{}{{{{ x }}}}", "{% set x = x ~ x %}".repeat(60));
    let recursion = "{% macro again() %}{{ again() }}{{ again() }}{% endmacro %}{{ again() }}".to_owned();
    for source in [loops, doubling, recursion] {
        let failed = render(&template("Hi", &source, None), &context("Hi")).unwrap_err();
        assert_eq!((failed.part, failed.code), (Part::Text, "render_failed"), "{}", failed.detail);
    }
}

#[test]
fn an_output_is_not_longer_than_a_mail_should_be() {
    let source = format!("{{% for i in {:?} %}}{}{{% endfor %}}", vec![0; 30], "x".repeat(60_000));
    let failed = render(&template("Hi", &source, None), &context("Hi")).unwrap_err();
    assert_eq!(failed.code, "output_too_long");
}

#[test]
fn a_template_reaches_nothing_but_its_context() {
    for source in
        ["{% include 'x' %}", "{% import 'x' as y %}", "{% extends 'x' %}", "{{ range(3) }}", "{{ debug() }}"]
    {
        assert!(render(&template("Hi", source, None), &context("Hi")).is_err(), "{source}");
    }
}

fn including(text: &str, html: &str, partials: serde_json::Value) -> Model {
    Model { partials, ..template("Hi", text, Some(html)) }
}

#[test]
fn a_partial_is_escaped_as_the_part_that_includes_it() {
    let partials = json!({ "sign": { "text": "-- {{ name }}", "html": "<i>{{ name }}</i>{% include 'end' %}" }, "end": { "text": "", "html": "<br>{{ name }}" } });
    let include = "{% include 'sign' %}";
    let rendered = render(&including(include, include, partials), &json!({ "name": "<K>" })).unwrap();
    assert_eq!(
        (rendered.text.as_str(), rendered.html.as_deref()),
        ("-- <K>", Some("<i>&lt;K&gt;</i><br>&lt;K&gt;"))
    );
}

#[test]
fn what_fails_in_a_partial_is_said_with_its_name_and_line() {
    let partials = json!({ "sign": { "text": "one\n{{ nobody }}", "html": null } });
    let failed = render(&including("\n\n{% include 'sign' %}", "", partials), &json!({})).unwrap_err();
    assert!(failed.detail.contains("(partial `sign`, line 2)"), "{}", failed.detail);
}

#[test]
fn partials_share_one_fuel_and_do_not_go_round_for_ever() {
    let round = json!({ "a": { "text": "{% include 'a' %}", "html": null } });
    assert_eq!(
        render(&including("{% include 'a' %}", "", round), &json!({})).unwrap_err().code,
        "render_failed"
    );
    let items = "[1,2,3,4,5,6,7,8,9,10]";
    let nested = |inner: &str| {
        format!("{}{inner}{}", format!("{{% for i in {items} %}}").repeat(4), "{% endfor %}".repeat(4))
    };
    let many = json!({ "a": { "text": nested("x"), "html": null } });
    let failed = render(&including(&nested("{% include 'a' %}"), "", many), &json!({})).unwrap_err();
    assert!(failed.detail.contains("fuel"), "{}", failed.detail);
}

#[test]
fn the_language_that_serves_best_is_rendered() {
    let variants = json!([{ "locale": "de", "subject": "Hallo", "text": "Guten Tag", "html": null }, { "locale": "de-CH", "subject": "Salü", "text": "Grüezi", "html": "<b>Grüezi</b>" }]);
    let compiled =
        Compiled::new(&Model { variants, ..template("Hi", "Hello", Some("<b>Hello</b>")) }).unwrap();
    let spoken = |locale: Option<&str>| {
        let Rendered { subject, html, variant, .. } = compiled.render(locale, json!({})).unwrap();
        (subject, html, variant)
    };
    assert_eq!(spoken(Some("de-AT")), ("Hallo".into(), None, Some("de".into())));
    assert_eq!(spoken(Some("DE-ch")), ("Salü".into(), Some("<b>Grüezi</b>".into()), Some("de-CH".into())));
    for other in [None, Some("fr"), Some("d"), Some("")] {
        assert_eq!(spoken(other), ("Hi".into(), Some("<b>Hello</b>".into()), None));
    }
}
