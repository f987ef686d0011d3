//! Marketing to single persons: how it can be unsubscribed from, and that it stops then.

use postroom::clock::Clock;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    campaigns::{Desk, said, template as rule_template},
    inbound::account,
    on_both,
    support::{
        Backend, Client, TestApp,
        dkim::{BOTH, genuine, sign_for, signed_by},
        one_click::{FORMS, click, link},
        outbound::{send, state, use_sink},
        smtp_sink::{Behaviour, Received, SmtpSink},
    },
};

async fn template(admin: &Client, name: &str, members: Value) -> String {
    let mut body = json!({
        "name": name, "purpose": "general", "category": "marketing", "subject": "An offer",
        "text": "Buy. No more: {{ unsubscribe_url }}",
        "html": "<p>Buy. <a href=\"{{ unsubscribe_url }}\">No more</a></p>"
    });
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    let id = admin.post("/v1/templates", body).await.ok()["id"].as_str().unwrap().to_owned();
    admin.post(&format!("/v1/templates/{id}/publish"), json!({})).await.ok();
    id
}

fn of(template: &str, address: &str) -> Value {
    json!({ "to": { "address": address }, "template_id": template })
}

/// The one mail that went to the address.
fn mail_to(sink: &SmtpSink, address: &str) -> Received {
    let mut mails: Vec<_> = sink.received().into_iter().filter(|mail| mail.to == [address]).collect();
    assert_eq!(mails.len(), 1, "{address}");
    mails.remove(0)
}

/// That the mail offers its link in the header and in both parts; gives it.
fn offered(raw: &[u8]) -> String {
    let link = link(raw).unwrap();
    let mail = mail_parser::MessageParser::default().parse(raw).unwrap();
    assert!(mail.body_text(0).unwrap().contains(&link));
    assert!(
        mail.body_html(0).unwrap().contains(&link.replace('/', "&#x2f;"))
            || mail.body_html(0).unwrap().contains(&link)
    );
    assert_eq!(mail.header("Precedence").and_then(|value| value.as_text()), Some("bulk"));
    link
}

async fn suppressions(admin: &Client) -> Vec<(String, String)> {
    let page = admin.get("/v1/suppressions").await.ok();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (text(&row["address"]), text(&row["reason"])))
        .collect()
}

on_both! {
    async fn one_click_on_a_single_send_ends_marketing_to_the_address_and_nothing_else(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        account(&app, "support@example.com").await;
        let zone = sign_for(&admin, "example.com").await;
        let (offer, order) = (
            template(&admin, "Offer", json!({})).await,
            template(&admin, "Order", json!({ "category": "transactional", "text": "It left.", "html": "<p>It left.</p>" })).await,
        );
        for (number, form) in FORMS.into_iter().enumerate() {
            let address = format!("c{number}@example.net");
            let made = admin.post("/v1/messages", of(&offer, &address)).await.ok();
            assert_eq!((&made["state"], &made["category"]), (&json!("queued"), &json!("marketing")));
            send(&app).await;
            let mail = mail_to(&sink, &address);
            let link = offered(&mail.raw);
            assert!(made["text"].as_str().unwrap().contains(&link), "the answer shows what is sent");
            // RFC 8058 section 4: the signature covers both fields; here also against a second one of either.
            assert_eq!(signed_by(&mail.raw, &zone, "example.com"), BOTH);
            for tags in genuine(&mail.raw, &zone) {
                for name in ["list-unsubscribe", "list-unsubscribe-post"] {
                    assert_eq!(tags["h"].split(':').filter(|one| *one == name).count(), 2, "{name}");
                }
            }
            let page = app.anonymous().get(&link[link.find("/u/").unwrap()..]).await;
            assert_eq!(page.status, 200);
            assert_eq!(suppressions(&admin).await.len(), number, "looking changes nothing");
            // One that waits already is held back too.
            let waiting = admin.post("/v1/messages", of(&offer, &address)).await.ok();
            assert_eq!(waiting["state"], "queued");
            assert_eq!([click(&link, form).await, click(&link, form).await], [200, 200]);
            assert!(suppressions(&admin).await.contains(&(address.clone(), "unsubscribed".to_owned())));
            send(&app).await;
            assert_eq!(state(&admin, waiting["id"].as_str().unwrap().parse().unwrap()).await, "suppressed");
            let next = admin.post("/v1/messages", of(&offer, &address)).await.ok();
            assert_eq!((&next["state"], &next["suppressed_by"]), (&json!("suppressed"), &json!("unsubscribed")));
            send(&app).await;
            assert_eq!(mail_to(&sink, &address).message_id, mail.message_id, "nothing more went there");
            let order = admin.post("/v1/messages", of(&order, &address)).await.ok();
            assert_eq!((&order["state"], &order["suppressed_by"]), (&json!("queued"), &Value::Null));
            send(&app).await;
            let mails: Vec<_> = sink.received().into_iter().filter(|mail| mail.to == [address.as_str()]).collect();
            assert_eq!((mails.len(), link_of(&mails[1])), (2, None), "what people asked for offers no unsubscribing");
        }
    }

    async fn a_batch_sends_marketing_with_a_link_for_each(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        account(&app, "support@example.com").await;
        let offer = template(&admin, "Offer", json!({})).await;
        admin.post("/v1/suppressions", json!({ "address": "c2@example.net", "reason": "unsubscribed" })).await.ok();
        let messages: Vec<Value> = (0..3).map(|number| of(&offer, &format!("c{number}@example.net"))).collect();
        let batch = admin.post("/v1/messages/batch", json!({ "messages": messages })).await.ok();
        let states: Vec<&Value> = batch["items"].as_array().unwrap().iter().map(|one| &one["message"]["state"]).collect();
        assert_eq!(states, ["queued", "queued", "suppressed"]);
        send(&app).await;
        let [first, second] = [0, 1].map(|number| offered(&mail_to(&sink, &format!("c{number}@example.net")).raw));
        assert_ne!(first, second);
        assert_eq!(click(&second, FORMS[0]).await, 200);
        let mut barred: Vec<String> = suppressions(&admin).await.into_iter().map(|(address, _)| address).collect();
        barred.sort_unstable();
        assert_eq!(barred, ["c1@example.net", "c2@example.net"]);
        assert_eq!(sink.received().len(), 2);
    }

    async fn marketing_in_words_of_the_callers_own_has_the_link_where_it_says(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        account(&app, "support@example.com").await;
        let say = |content: Value| json!({ "to": { "address": "a@example.net" }, "category": "marketing", "content": content });
        for (content, pointers) in [
            (json!({ "subject": "s", "text": "Buy" }), vec!["/content/text"]),
            (json!({ "subject": "s", "text": "Buy", "html": "<p>Buy</p>" }), vec!["/content/text", "/content/html"]),
            (json!({ "subject": "s", "html": "<p>Buy</p>" }), vec!["/content/html"]),
        ] {
            let refused = admin.post("/v1/messages", say(content.clone())).await;
            assert_eq!((refused.status, refused.pointers()), (422, pointers), "{content}");
            assert_eq!(refused.body["errors"][0]["code"], "missing_unsubscribe");
        }
        let content = json!({ "subject": "s", "html": "<p>Buy. <a href=\"{{ unsubscribe_url }}\">No more</a> {{ x }}</p>", "text": "{{unsubscribe_url}} {{ x }}" });
        admin.post("/v1/messages", say(content)).await.ok();
        send(&app).await;
        let raw = mail_to(&sink, "a@example.net").raw;
        assert_eq!(click(&offered(&raw), FORMS[1]).await, 200);
        let mail = mail_parser::MessageParser::default().parse(&raw).unwrap();
        assert!(mail.body_text(0).unwrap().contains("{{ x }}"), "all else stays as it is");
        assert_eq!(suppressions(&admin).await, [("a@example.net".to_owned(), "unsubscribed".to_owned())]);
    }

    async fn a_dry_run_and_a_test_show_the_link(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        account(&app, "support@example.com").await;
        let offer = template(&admin, "Offer", json!({})).await;
        let link = |text: &Value| text.as_str().unwrap().split("No more: ").nth(1).unwrap().trim().to_owned();
        let mut dry = of(&offer, "a@example.net");
        dry["dry_run"] = json!(true);
        let shown = admin.post("/v1/messages", dry).await.ok();
        assert!(link(&shown["text"]).starts_with(&format!("{}/u/", app.app.config.public_url())));
        // It belongs to no mail, so that nobody is barred by it.
        assert_eq!(click(&link(&shown["text"]), FORMS[0]).await, 404);
        let preview = admin.post(&format!("/v1/templates/{offer}/preview"), json!({})).await.ok();
        assert!(preview["text"].as_str().unwrap().contains("/u/"));
        let test = json!({ "to": { "address": "editor@example.org" } });
        admin.post(&format!("/v1/templates/{offer}/test-send"), test).await.ok();
        send(&app).await;
        assert_eq!(click(&offered(&mail_to(&sink, "editor@example.org").raw), FORMS[0]).await, 200);
        assert_eq!(suppressions(&admin).await, [("editor@example.org".to_owned(), "unsubscribed".to_owned())]);
    }

    async fn a_campaigns_rule_sends_marketing_until_its_recipient_has_enough(app) {
        let desk = Desk::new(&app, async |admin| {
            let members = json!({ "category": "marketing", "text": "Sorry. No more: {{ unsubscribe_url }}" });
            let advert = rule_template(admin, "Advert", members).await;
            let notice = rule_template(admin, "Notice", json!({})).await;
            json!([
                { "name": "Advert", "trigger": "outcome", "match": { "outcome_codes": ["no_answer"] }, "once": false, "template_id": advert },
                { "name": "Notice", "trigger": "outcome", "match": { "outcome_codes": ["no_answer"] }, "once": false, "template_id": notice },
            ])
        })
        .await;
        let sink = SmtpSink::start(Behaviour::default()).await;
        use_sink(&desk.admin, &sink).await;
        let zone = sign_for(&desk.admin, "example.com").await;
        let outcome = json!({ "outcome_code": "no_answer" });
        let first = desk.try_once("1", outcome.clone()).await;
        assert_eq!(said(&first), (vec!["Advert".to_owned(), "Notice".to_owned()], vec![]));
        send(&app).await;
        let mails = sink.received();
        assert_eq!(mails.len(), 2);
        for mail in &mails {
            assert_eq!(signed_by(&mail.raw, &zone, "example.com"), BOTH);
        }
        let links: Vec<String> = mails.iter().filter_map(link_of).collect();
        assert_eq!(links.len(), 1, "only the advertisement offers it");
        assert_eq!(click(&links[0], FORMS[0]).await, 200);
        let second = desk.try_once("2", outcome).await;
        assert_eq!(said(&second), (vec!["Notice".to_owned()], vec![("Advert".to_owned(), "suppressed".to_owned())]));
        assert_eq!(second["skipped"][0]["suppressed_by"], "unsubscribed");
    }

    async fn only_a_genuine_link_does_anything(app) {
        let admin = app.admin().await;
        let base = app.app.config.public_url();
        for token in ["preview".to_owned(), "a".repeat(52), "%00".to_owned()] {
            assert_eq!(click(&format!("{base}/u/{token}"), FORMS[0]).await, 404, "{token}");
        }
        let put = app.anonymous().request(Method::PUT, "/u/preview");
        assert_eq!(app.anonymous().send(put).await.status, 405);
        assert_eq!(suppressions(&admin).await, []);
    }
}

fn link_of(mail: &Received) -> Option<String> {
    link(&mail.raw)
}

/// RFC 8058 section 3.1 wants https: a link that receivers ignore is not offered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_https_marketing_is_refused_with_the_reason() {
    let settings = "[http]\npublic_url = \"http://mail.example.com\"";
    let app = TestApp::with(Backend::Sqlite, Clock::system(), settings).await;
    let admin = app.admin().await;
    account(&app, "support@example.com").await;
    let offer = template(&admin, "Offer", json!({})).await;
    for dry_run in [false, true] {
        let mut body = of(&offer, "a@example.net");
        body["dry_run"] = json!(dry_run);
        let refused = admin.post("/v1/messages", body).await;
        assert_eq!((refused.status, refused.pointers()), (422, vec!["/template_id"]));
        assert_eq!(refused.body["errors"][0]["code"], "no_unsubscribe_link");
    }
}
