//! What a template is made of besides its own words: other languages, partials and files.

use postroom::{
    mail::parse::{Limits, Parsed, attachment, parse},
    workers::Step,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    broadcasts::finish,
    campaigns::{Crowd, Desk},
    inbound::account,
    on_both,
    support::{
        Client, Reply, TestApp,
        customers::{list, person, store},
        outbound::{send, use_sink},
        smtp_sink::{Behaviour, SmtpSink},
    },
};

async fn post(client: &Client, path: &str) -> Reply {
    client.send(client.request(Method::POST, path)).await
}

async fn make(client: &Client, path: &str, body: Value) -> String {
    client.post(path, body).await.header("location").to_owned()
}

fn in_two_languages() -> Value {
    json!({ "name": "Greeting", "subject": "Dear {{ customer.name }}", "text": "Hello", "variants": [
        { "locale": "de", "subject": "Guten Tag {{ customer.name }}", "text": "Hallo", "html": "<p>Hallo</p>" }] })
}

fn errors(reply: &Reply) -> Value {
    let errors = reply.body["errors"].as_array().cloned().unwrap_or_default();
    errors.iter().map(|error| json!([error["pointer"], error["code"]])).collect()
}

const PICTURE: &[u8] = b"\x89PNG not really";

async fn upload(client: &Client, name: &str, kind: &str, bytes: Vec<u8>) -> String {
    let request = client.request(Method::POST, &format!("/v1/uploads?filename={name}"));
    let made = client.send(request.header("content-type", kind).body(bytes)).await.ok();
    made["id"].as_str().unwrap().to_owned()
}

/// A published template with a picture that its HTML shows and a file that is kept in the object store.
pub async fn with_files(admin: &Client) -> String {
    let body = json!({ "name": "Terms", "subject": "Terms", "text": "See below", "html": "<img src=\"cid:logo\">",
        "variants": [{ "locale": "de", "subject": "AGB", "text": "Siehe unten", "html": "<b><img src='cid:logo'></b>" }] });
    let path = make(admin, "/v1/templates", body).await;
    let logo = upload(admin, "logo.png", "image/png", PICTURE.to_vec()).await;
    admin.post(&format!("{path}/attachments"), json!({ "upload_id": logo, "content_id": "logo" })).await.ok();
    let terms = upload(admin, "terms.pdf", "application/pdf", large()).await;
    admin.post(&format!("{path}/attachments"), json!({ "upload_id": terms })).await.ok();
    post(admin, &format!("{path}/publish")).await.ok();
    path.rsplit('/').next().unwrap().to_owned()
}

fn large() -> Vec<u8> {
    (0..200_000_u32).flat_map(|n| n.to_le_bytes()).collect()
}

/// The files of a mail are those of `with_files`.
fn assert_files(raw: &[u8]) {
    let Parsed { attachments, .. } = parse(raw, &Limits::default()).unwrap();
    let shown: Vec<_> =
        attachments.iter().map(|file| (file.filename.as_deref(), file.content_id.as_deref())).collect();
    assert_eq!(shown, [(Some("logo.png"), Some("logo")), (Some("terms.pdf"), None)]);
    assert_eq!(attachment(raw, 0).unwrap().bytes, PICTURE);
    assert_eq!(attachment(raw, 1).unwrap().bytes, large());
}

async fn send_all(app: &TestApp) {
    while let Step::Worked(_) = send(app).await {}
}

on_both! {
    async fn a_customer_is_written_to_in_their_language(app) {
        let admin = app.admin().await;
        let crowd = Crowd::new(&app).await;
        account(&app, "support@example.com").await;
        let customer = crowd.customer("C-1", json!({})).await;
        admin.patch(&format!("/v1/customers/{}", customer.id), json!({ "locale": "de-AT" })).await.ok();
        let path = make(&admin, "/v1/templates", in_two_languages()).await;
        let shown = admin.post(&format!("{path}/preview"), json!({ "customer_id": customer.id })).await.ok();
        assert_eq!((&shown["subject"], &shown["html"], &shown["variant"]), (&json!("Guten Tag Kim C-1"), &json!("<p>Hallo</p>"), &json!("de")));
        let asked = admin.post(&format!("{path}/preview"), json!({ "customer_id": customer.id, "locale": "fr" })).await.ok();
        assert_eq!((&asked["text"], &asked["html"], &asked["variant"]), (&json!("Hello"), &Value::Null, &Value::Null));
        let missing = admin.post(&format!("{path}/preview"), json!({ "locale": "de" })).await.ok();
        assert_eq!((&missing["subject"], &missing["missing"]), (&json!("Guten Tag"), &json!(["customer.name"])));

        let test = admin.post(&format!("{path}/test-send"), json!({ "to": { "address": "editor@example.net" }, "customer_id": customer.id, "locale": "de" })).await;
        assert_eq!((test.status, &test.body["variant"]), (201, &json!("de")), "{}", test.body);
        post(&admin, &format!("{path}/publish")).await.ok();
        let id = path.rsplit('/').next().unwrap();
        let send = |more: Value| {
            let mut body = json!({ "template_id": id, "customer_id": customer.id, "dry_run": true });
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            body
        };
        let dry = admin.post("/v1/messages", send(json!({}))).await.ok();
        assert_eq!((&dry["subject"], &dry["variant"]), (&json!("Guten Tag Kim C-1"), &json!("de")));
        let english = admin.post("/v1/messages", send(json!({ "locale": "en" }))).await.ok();
        assert_eq!((&english["subject"], &english["variant"]), (&json!("Dear Kim C-1"), &Value::Null));
        let sent = admin.post("/v1/messages", send(json!({ "dry_run": false }))).await;
        assert_eq!((sent.status, &sent.body["text"]), (201, &json!("Hallo\n")));
        let given = json!({ "to": { "address": "a@example.net" }, "content": { "subject": "x", "text": "y" }, "locale": "de" });
        assert_eq!(admin.post("/v1/messages", given).await.pointers(), ["/locale"]);
    }

    async fn every_language_is_checked(app) {
        let admin = app.admin().await;
        let variant = |members: Value| {
            let mut one = json!({ "locale": "de", "subject": "Hallo", "text": "x" });
            one.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            one
        };
        for (variants, refused) in [
            (json!([variant(json!({ "text": "{{" }))]), json!([["/variants/0/text", "invalid_template"]])),
            (json!([variant(json!({ "subject": "" }))]), json!([["/variants/0/subject", "required"]])),
            (json!([variant(json!({})), variant(json!({ "locale": "DE" }))]), json!([["/variants/1/locale", "duplicate"]])),
            (json!([variant(json!({ "locale": "german language" }))]), json!([["/variants/0/locale", "pattern"]])),
            (json!([{ "locale": "de" }]), json!([["/variants/0/text", "required"]])),
        ] {
            let mut body = in_two_languages();
            body["variants"] = variants;
            assert_eq!(errors(&admin.post("/v1/templates", body).await), refused);
        }
        let sms = json!({ "name": "S", "channel": "sms", "text": "x", "variants": [variant(json!({ "html": "x" }))] });
        assert_eq!(errors(&admin.post("/v1/templates", sms).await), json!([["/variants/0/subject", "not_for_sms"], ["/variants/0/html", "not_for_sms"]]));

        let advert = json!({ "name": "Advert", "category": "marketing", "subject": "x", "text": "{{ unsubscribe_url }}", "variants": [
            { "locale": "de", "subject": "{{ nobody }}", "text": "Kein Link", "html": "{{ unsubscribe_url }}" },
            { "locale": "fr", "subject": "x", "text": "{{ unsubscribe_url | shout }}", "html": "Rien" }] });
        let path = make(&admin, "/v1/templates", advert).await;
        let refused = post(&admin, &format!("{path}/publish")).await;
        assert_eq!(errors(&refused), json!([["/variants/0/subject", "unknown_name"], ["/variants/0/text", "missing_unsubscribe"],
            ["/variants/1/text", "unknown_filter"], ["/variants/1/html", "missing_unsubscribe"]]));
        assert_eq!(admin.get(&path).await.ok()["variants"][1]["locale"], "fr");
    }

    async fn a_published_template_keeps_its_partials_until_it_is_published_again(app) {
        let admin = app.admin().await;
        let footer = make(&admin, "/v1/template-partials", json!({ "name": "footer", "text": "{% include \"name\" %}, Bath", "html": "<i>{% include 'name' %}</i>" })).await;
        make(&admin, "/v1/template-partials", json!({ "name": "name", "text": "Lantern & Co", "html": "Lantern &amp; Co" })).await;
        let body = json!({ "name": "Letter", "subject": "Hi", "text": "Dear\n{% include \"footer\" %}", "html": "<p>{% include \"footer\" %}</p>" });
        let path = make(&admin, "/v1/templates", body).await;
        let shown = async || admin.post(&format!("{path}/preview"), json!({})).await.ok();
        let draft = shown().await;
        assert_eq!((&draft["text"], &draft["html"]), (&json!("Dear\nLantern & Co, Bath"), &json!("<p><i>Lantern &amp; Co</i></p>")));
        assert_eq!(admin.get(&path).await.ok()["partials"], json!(["footer"]));
        let published = post(&admin, &format!("{path}/publish")).await.ok();
        assert_eq!((&published["partials"], &published["revision"]), (&json!(["footer", "name"]), &json!(1)));

        let changed = admin.patch(&footer, json!({ "text": "{% include \"name\" %}, York" })).await.ok();
        assert_eq!(shown().await["text"], "Dear\nLantern & Co, Bath", "it is frozen");
        let user = &changed["used_by"][0];
        assert_eq!((&user["kind"], &user["name"], &user["outdated"]), (&json!("template"), &json!("Letter"), &json!(true)));
        let again = post(&admin, &format!("{path}/publish")).await.ok();
        assert_eq!((&again["revision"], &shown().await["text"]), (&json!(2), &json!("Dear\nLantern & Co, York")));
        assert_eq!(admin.get(&footer).await.ok()["used_by"][0]["outdated"], false);
        let named = admin.get("/v1/template-partials?name=name").await.ok();
        let users: Vec<&Value> = named["items"][0]["used_by"].as_array().unwrap().iter().map(|user| &user["name"]).collect();
        assert_eq!(users, ["Letter", "footer"], "what includes it by way of another counts");
    }

    async fn a_partial_that_is_included_is_neither_deleted_nor_renamed(app) {
        let admin = app.admin().await;
        let [a, b] = [make(&admin, "/v1/template-partials", json!({ "name": "a", "text": "{% include 'b' %}" })).await,
            make(&admin, "/v1/template-partials", json!({ "name": "b", "text": "x" })).await];
        let path = make(&admin, "/v1/templates", json!({ "name": "Letter", "subject": "Hi", "text": "{% include 'a' %}" })).await;
        admin.delete(&a).await.problem(409, "in_use");
        admin.delete(&b).await.problem(409, "in_use");
        admin.patch(&b, json!({ "name": "c" })).await.problem(409, "in_use");
        admin.post("/v1/template-partials", json!({ "name": "b", "text": "x" })).await.problem(409, "already_exists");
        post(&admin, &format!("{path}/publish")).await.ok();
        post(&admin, &format!("{path}/archive")).await.ok();
        let stale = admin.request(Method::DELETE, &a).header("If-Match", "\"7\"");
        admin.send(stale).await.problem(412, "precondition_failed");
        assert_eq!(admin.delete(&a).await.status, 204, "an archived template does not need it");
        assert_eq!(admin.patch(&b, json!({ "name": "c" })).await.ok()["name"], "c");
        assert_eq!(admin.delete(&b).await.status, 204);
        admin.get(&b).await.problem(404, "not_found");
        assert_eq!(admin.post(&format!("{path}/preview"), json!({})).await.ok()["text"], "x", "it keeps what it had");
    }

    async fn what_cannot_be_included_is_refused_with_its_place(app) {
        let admin = app.admin().await;
        for (text, code) in [("{% include name %}", "invalid_template"), ("{{", "invalid_template"), ("{% import 'a' as b %}", "invalid_template")] {
            let refused = admin.post("/v1/template-partials", json!({ "name": "p", "text": "x", "html": text })).await;
            assert_eq!(errors(&refused), json!([["/html", code]]));
        }
        make(&admin, "/v1/template-partials", json!({ "name": "one", "text": "\n {% include 'two' %}" })).await;
        make(&admin, "/v1/template-partials", json!({ "name": "two", "text": "{% include 'one' %}" })).await;
        make(&admin, "/v1/template-partials", json!({ "name": "three", "text": "{{ nobody }} {{ to.name | shout }}" })).await;
        let body = json!({ "name": "Letter", "subject": "{% include 'two' %}", "text": "x\n{% include 'four' %}", "html": "{% include 'three' %}",
            "variants": [{ "locale": "de", "subject": "x", "text": "{% include 'three' %}" }] });
        let path = make(&admin, "/v1/templates", body).await;
        let refused = post(&admin, &format!("{path}/publish")).await;
        assert_eq!(errors(&refused), json!([["/subject", "circular_include"], ["/text", "unknown_partial"], ["/html", "no_html"],
            ["/variants/0/text", "unknown_filter"], ["/variants/0/text", "unknown_name"]]));
        let details: Vec<&str> = refused.body["errors"].as_array().unwrap().iter().map(|error| error["detail"].as_str().unwrap()).collect();
        assert_eq!(details[0], "partial `one`, line 2, column 2: the partial `two` includes itself: two → one → two");
        assert_eq!(details[1], "line 2, column 1: there is no partial `four`");
        assert!(details[3].starts_with("partial `three`: "), "{details:?}");
        admin.post(&format!("{path}/preview"), json!({})).await.problem(422, "validation_failed");
        let supervisor = app.supervisor().await;
        supervisor.get("/v1/template-partials").await.ok();
        supervisor.post("/v1/template-partials", json!({ "name": "x", "text": "x" })).await.problem(403, "forbidden");
    }

    async fn files_are_attached_to_a_draft_and_frozen_with_it(app) {
        let admin = app.admin().await;
        let path = make(&admin, "/v1/templates", json!({ "name": "Logo", "subject": "x", "text": "x", "html": "<img src=\"cid:logo\">" })).await;
        let files = format!("{path}/attachments");
        let refused = post(&admin, &format!("{path}/publish")).await;
        assert_eq!(errors(&refused), json!([["/html", "unknown_image"]]));
        let id = upload(&admin, "logo.png", "image/png", PICTURE.to_vec()).await;
        let attached = admin.post(&files, json!({ "upload_id": id, "content_id": "logo" })).await;
        let one = attached.header("location").to_owned();
        assert_eq!((attached.status, &attached.body["filename"], &attached.body["size_bytes"]), (201, &json!("logo.png"), &json!(PICTURE.len())));
        assert_eq!(admin.get(&path).await.ok()["attachments"], json!([attached.body]));
        admin.post(&files, json!({ "upload_id": id })).await.problem(422, "unknown_reference");
        let again = upload(&admin, "logo.png", "image/png", PICTURE.to_vec()).await;
        assert_eq!(admin.post(&files, json!({ "upload_id": again, "content_id": "logo" })).await.pointers(), ["/content_id"]);
        assert_eq!(admin.post(&files, json!({ "upload_id": again, "content_id": "a b" })).await.pointers(), ["/content_id"]);
        let second = admin.post(&files, json!({ "upload_id": again })).await.header("location").to_owned();
        let supervisor = app.supervisor().await;
        let content = supervisor.get(&second).await;
        assert_eq!((content.status, content.header("x-content-type-options"), content.header("content-disposition")), (200, "nosniff", "attachment; filename=\"logo.png\""));
        supervisor.delete(&second).await.problem(403, "forbidden");
        assert_eq!(admin.delete(&second).await.status, 204);
        admin.get(&second).await.problem(404, "not_found");
        post(&admin, &format!("{path}/publish")).await.ok();
        admin.delete(&one).await.problem(409, "version_locked");
        let late = upload(&admin, "a.txt", "text/plain", b"x".to_vec()).await;
        admin.post(&files, json!({ "upload_id": late })).await.problem(409, "version_locked");
        let receipt = make(&admin, "/v1/templates", json!({ "name": "R", "purpose": "receipt", "subject": "x", "text": "x" })).await;
        admin.post(&format!("{receipt}/attachments"), json!({ "upload_id": late })).await.problem(409, "invalid_state");
        let others = upload(&app.agent("anna").await.0, "a.txt", "text/plain", b"x".to_vec()).await;
        let draft = make(&admin, "/v1/templates", json!({ "name": "D", "subject": "x", "text": "x" })).await;
        admin.post(&format!("{draft}/attachments"), json!({ "upload_id": others })).await.problem(422, "unknown_reference");
    }

    async fn the_files_go_out_with_single_sends_and_batches(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        account(&app, "support@example.com").await;
        let template = with_files(&admin).await;
        let mail = |address: &str| json!({ "to": { "address": address }, "template_id": template });
        admin.post("/v1/messages", mail("a@example.org")).await.ok();
        admin.post("/v1/messages/batch", json!({ "messages": [mail("b@example.org"), mail("c@example.org")] })).await.ok();
        send_all(&app).await;
        let received = sink.received();
        assert_eq!(received.len(), 3);
        received.iter().for_each(|mail| assert_files(&mail.raw));
    }

    async fn a_report_reads_no_files_of_rules_that_wait_for_something_else(app) {
        let desk = Desk::new(&app, async |admin| {
            json!([{ "name": "A", "trigger": "callback_set", "template_id": with_files(admin).await }])
        }).await;
        std::fs::remove_dir_all(app.dir.path().join("objects")).unwrap();
        for report in [json!({}), json!({ "outcome_code": "no_answer" }), json!({ "next": { "terminate": true } })] {
            desk.try_once(&report.to_string(), report).await;
        }
        let other = desk.crowd.customer("C-2", json!({})).await;
        let called_back = desk.report("1", json!({ "next": { "callback_at": app.app.clock.now().plus_s(3600) } }));
        let needs_them = desk.admin.post(&format!("/v1/customers/{}/attempts", other.id), called_back).await;
        needs_them.problem(500, "internal_error");
    }

    async fn the_files_go_out_with_what_rules_send(app) {
        let desk = Desk::new(&app, async |admin| {
            json!([{ "name": "first", "trigger": "first_attempt", "template_id": with_files(admin).await }])
        }).await;
        let sink = SmtpSink::start(Behaviour::default()).await;
        use_sink(&desk.admin, &sink).await;
        let (sent, _) = desk.tried("1", json!({})).await;
        assert_eq!(sent, ["first"]);
        send_all(&app).await;
        assert_files(&sink.received()[0].raw);
    }

    async fn a_broadcast_speaks_everybodys_language_with_its_files_as_they_were_when_it_began(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        let sender = account(&app, "offers@example.com").await;
        let list = list(&app.app, "Autumn", None).await;
        let mut people: Vec<_> = (0..3).map(|number| person(&app.app, list, number)).collect();
        people[1].locale = Some("de-AT".into());
        store(&app.app, people).await;
        let footer = make(&admin, "/v1/template-partials", json!({ "name": "footer", "text": "Bath" })).await;
        let body = json!({ "name": "Offer", "subject": "Offer", "text": "Hello {% include 'footer' %}",
            "variants": [{ "locale": "de", "subject": "Angebot", "text": "Hallo {% include 'footer' %}" }] });
        let path = make(&admin, "/v1/templates", body).await;
        let file = upload(&admin, "terms.pdf", "application/pdf", large()).await;
        admin.post(&format!("{path}/attachments"), json!({ "upload_id": file })).await.ok();
        let template = path.rsplit('/').next().unwrap();
        let broadcast = json!({ "name": "Autumn", "target": { "list_id": list }, "template_id": template, "account_id": sender.id });
        let id = admin.post("/v1/broadcasts", broadcast).await.ok()["id"].as_str().unwrap().to_owned();
        let to = json!({ "to": [{ "address": "editor@example.net" }, { "address": "barred@example.net" }] });
        let test = format!("/v1/broadcasts/{id}/test-send");
        let refused = admin.post(&test, to.clone()).await;
        assert_eq!(errors(&refused), json!([["/template_id", "wrong_state"]]), "what preflight would say");
        post(&admin, &format!("{path}/publish")).await.ok();
        admin.post("/v1/suppressions", json!({ "address": "barred@example.net" })).await.ok();
        let tested = admin.post(&test, to).await;
        assert_eq!((tested.status, &tested.body["subject"], &tested.body["variant"]), (201, &json!("[Test] Offer"), &Value::Null), "{}", tested.body);
        assert_eq!(tested.body["messages"].as_array().unwrap().iter().map(|one| &one["state"]).collect::<Vec<_>>(), ["queued", "suppressed"]);
        let german = people_of(&admin, "c1").await;
        let tested = admin.post(&test, json!({ "to": [{ "address": "editor@example.net" }], "customer_id": german })).await.ok();
        assert_eq!((&tested["subject"], &tested["variant"], &tested["customer_id"]), (&json!("[Test] Angebot"), &json!("de"), &german));
        let elsewhere = Crowd::new(&app).await.customer("C-9", json!({})).await;
        assert_eq!(admin.post(&test, json!({ "to": [{ "address": "e@example.net" }], "customer_id": elsewhere.id })).await.pointers(), ["/customer_id"]);
        assert_eq!(admin.post(&test, json!({ "to": [{ "address": "offers@example.com" }] })).await.pointers(), ["/to/0/address"]);
        admin.post(&test, json!({ "to": [] })).await.problem(422, "validation_failed");

        admin.post(&format!("/v1/broadcasts/{id}/start"), json!({})).await.ok();
        admin.patch(&footer, json!({ "text": "York" })).await.ok();
        post(&admin, &format!("{path}/publish")).await.ok();
        let shown = finish(&app, &admin, &id).await;
        assert_eq!((&shown["state"], &shown["counts"]["sent"]), (&json!("completed"), &json!(3)), "tests do not count: {shown}");
        let mut said: Vec<(String, String)> = sink.received().iter().map(|mail| {
            let read = parse(&mail.raw, &Limits::default()).unwrap();
            assert_eq!(attachment(&mail.raw, 0).unwrap().bytes, large());
            (mail.to[0].clone(), read.text.unwrap().trim().to_owned())
        }).collect();
        said.sort_unstable();
        let expected = [("c0@example.org", "Hello Bath"), ("c1@example.org", "Hallo Bath"), ("c2@example.org", "Hello Bath"),
            ("editor@example.net", "Hallo Bath"), ("editor@example.net", "Hello Bath")];
        assert_eq!(said, expected.map(|(to, text)| (to.to_owned(), text.to_owned())));
    }
}

async fn people_of(admin: &Client, known_as: &str) -> Value {
    admin.get(&format!("/v1/customers/by-ref/{known_as}")).await.ok()["id"].clone()
}
