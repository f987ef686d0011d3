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
        fields: json!([]),
        state: TemplateState::Published,
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
    let rendered =
        preview(&template("Hi {{ name }}", "{{ a.b.c }}!", None), &json!({ "name": "Kim" })).unwrap();
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
