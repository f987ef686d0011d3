//! What a template is made of besides its own words: other languages and partials.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    campaigns::Crowd,
    inbound::account,
    on_both,
    support::{Client, Reply},
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
}
