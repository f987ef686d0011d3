//! The outgoing server: what can be set, how it is tried out, and what it says of itself.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    on_both,
    support::{
        outbound::{answer, send, use_server, use_sink},
        smtp_sink::{Act, Behaviour, Rule, SmtpSink, Stage},
    },
};

const PATH: &str = "/v1/outgoing-server";

fn names(report: &Value) -> Vec<&str> {
    report["steps"].as_array().unwrap().iter().map(|step| step["name"].as_str().unwrap()).collect()
}

on_both! {
    async fn it_is_set_read_changed_and_removed(app) {
        let admin = app.admin().await;
        admin.get(PATH).await.problem(404, "not_found");
        let made = admin.put(PATH, json!({ "transport": "smtp", "host": "smtp.example.com" })).await;
        assert_eq!((made.status, made.header("etag"), made.header("location")), (201, "\"1\"", PATH));
        let server = made.ok();
        assert_eq!((&server["port"], &server["security"], &server["state"]), (&json!(587), &json!("starttls"), &json!("running")));
        assert_eq!(server["retry"], json!({ "first_s": 60, "max_interval_s": 3600, "give_up_after_s": 432_000 }));
        assert_eq!(server["allowed_actions"], json!(["check", "send_test", "pause"]));
        let changed = admin.put(PATH, json!({ "transport": "capture" })).await;
        assert_eq!((changed.status, changed.header("etag")), (200, "\"2\""));
        let stale = admin.request(Method::PUT, PATH).header("If-Match", "\"1\"").json(&json!({ "transport": "smtp", "host": "x" }));
        admin.send(stale).await.problem(412, "precondition_failed");
        assert_eq!(admin.get(PATH).await.ok()["transport"], "capture");
        assert_eq!(admin.delete(PATH).await.status, 204);
        admin.get(PATH).await.problem(404, "not_found");
        admin.delete(PATH).await.problem(404, "not_found");
    }

    async fn the_password_is_kept_replaced_and_removed_but_never_shown(app) {
        let admin = app.admin().await;
        let login = json!({ "transport": "smtp", "host": "smtp.example.com", "auth": "password", "username": "me" });
        let with = |password: Value| { let mut body = login.clone(); body["password"] = password; body };
        let refused = admin.put(PATH, login.clone()).await;
        refused.problem(422, "validation_failed");
        assert_eq!(refused.pointers(), ["/password"]);
        let set = admin.put(PATH, with(json!("s3cret"))).await;
        assert!(!String::from_utf8_lossy(&set.bytes).contains("s3cret"));
        assert_eq!(set.ok()["has_password"], true);
        assert_eq!(admin.put(PATH, login.clone()).await.ok()["has_password"], true);
        admin.put(PATH, with(Value::Null)).await.problem(422, "validation_failed");
        let mut without = with(Value::Null);
        without["auth"] = "none".into();
        assert_eq!(admin.put(PATH, without).await.ok()["has_password"], false);
    }

    async fn settings_that_do_not_fit_together_are_refused_with_every_error(app) {
        let admin = app.admin().await;
        let bad = admin.put(PATH, json!({ "transport": "smtp", "auth": "password", "retry": { "first_s": 7200 } })).await;
        bad.problem(422, "validation_failed");
        assert_eq!(bad.pointers(), ["/host", "/username", "/password", "/retry/max_interval_s"]);
        let clear = admin.put(PATH, json!({ "transport": "smtp", "host": "192.0.2.1", "security": "none" })).await;
        clear.problem(422, "validation_failed");
        assert_eq!(clear.body["errors"][0]["code"], "plaintext_refused");
        let allowed = json!({ "transport": "smtp", "host": "192.0.2.1", "security": "none", "allow_plaintext": true });
        admin.put(PATH, allowed).await.ok();
        for body in [json!({ "transport": "pigeon" }), json!({ "transport": "capture", "port": 0 }),
            json!({ "transport": "smtp", "host": "a b" }), json!({ "transport": "capture", "max_connections": 1000 })] {
            admin.put(PATH, body).await.problem(422, "validation_failed");
        }
    }

    async fn only_administrators_change_it_and_supervisors_read_it(app) {
        let admin = app.admin().await;
        admin.put(PATH, json!({ "transport": "capture" })).await.ok();
        let supervisor = app.supervisor().await;
        assert_eq!(supervisor.get(PATH).await.ok()["allowed_actions"], json!([]));
        supervisor.put(PATH, json!({ "transport": "capture" })).await.problem(403, "forbidden");
        supervisor.post("/v1/outgoing-server/pause", json!({})).await.problem(403, "forbidden");
        let (agent, _) = app.agent("anna").await;
        agent.get(PATH).await.problem(403, "forbidden");
    }

    async fn a_check_reports_each_step_up_to_the_first_that_fails(app) {
        let admin = app.admin().await;
        admin.post("/v1/outgoing-server/check", json!({})).await.problem(404, "not_found");
        let sink = SmtpSink::start(Behaviour { login: Some(("me", "right")), ..Behaviour::default() }).await;
        let login = |password: &str| json!({ "port": sink.addr.port(), "auth": "password", "username": "me", "password": password });
        use_server(&admin, login("right")).await;
        let good = admin.post("/v1/outgoing-server/check", json!({})).await.ok();
        assert_eq!((&good["ok"], names(&good)), (&json!(true), vec!["resolve", "connect", "ehlo", "login"]));
        use_server(&admin, login("wrong")).await;
        let bad = admin.post("/v1/outgoing-server/check", json!({})).await.ok();
        assert_eq!((&bad["ok"], &bad["steps"][3]["ok"]), (&json!(false), &json!(false)));
        assert!(bad["steps"][3]["detail"].as_str().unwrap().contains("535"), "{bad}");
        assert_eq!(sink.commands("MAIL"), 0);
    }

    async fn a_test_mail_is_really_sent_and_shows_the_conversation(app) {
        let admin = app.admin().await;
        let sink = SmtpSink::start(Behaviour::default()).await;
        use_sink(&admin, &sink).await;
        let body = json!({ "to": "boss@example.com" });
        let nobody = admin.post("/v1/outgoing-server/send-test", body.clone()).await;
        assert_eq!(nobody.pointers(), ["/from_account_id"]);
        answer(&app).await;
        let call = || admin.request(Method::POST, "/v1/outgoing-server/send-test").header("Idempotency-Key", "t1").json(&body);
        let (first, second) = (admin.send(call()).await.ok(), admin.send(call()).await.ok());
        assert_eq!((&first["sent"], &first), (&json!(true), &second));
        assert_eq!(names(&first), ["connect", "ehlo", "mail", "rcpt", "data", "dot"]);
        let received = sink.received();
        assert_eq!((received.len(), &received[0].to[0], &received[0].from[..]), (1, &"boss@example.com".to_owned(), "support@example.org"));
        sink.behave(|behaviour| behaviour.rules.push(Rule::at(Stage::Rcpt, Act::Reply("550 5.1.1 unknown"))));
        let refused = admin.post("/v1/outgoing-server/send-test", body).await.ok();
        assert_eq!(refused["sent"], false);
        assert!(refused["result"].as_str().unwrap().contains("550 5.1.1 unknown"), "{refused}");
        let bad = admin.post("/v1/outgoing-server/send-test", json!({ "to": "a@b\r\nRCPT" })).await;
        bad.problem(422, "validation_failed");
    }

    async fn a_test_mail_to_a_server_that_only_captures_says_that_it_is_not_kept(app) {
        let admin = app.admin().await;
        answer(&app).await;
        admin.put(PATH, json!({ "transport": "capture" })).await.ok();
        let check = admin.post("/v1/outgoing-server/check", json!({})).await.ok();
        let kept = "mail is kept and readable under /v1/outgoing-server/captured";
        assert_eq!((&check["ok"], &check["steps"][0]["detail"]), (&json!(true), &json!(kept)));
        let test = admin.post("/v1/outgoing-server/send-test", json!({ "to": "boss@example.com" })).await.ok();
        assert_eq!((&test["sent"], names(&test)), (&json!(false), vec!["capture"]));
        assert_eq!(test["steps"][0]["detail"], "the mail was composed; a test mail is not kept");
        assert_eq!(admin.get("/v1/outgoing-server/captured").await.ok()["items"], json!([]));
    }

    async fn a_pause_by_hand_outlives_new_settings_and_is_refused_twice(app) {
        let admin = app.admin().await;
        admin.post("/v1/outgoing-server/pause", json!({})).await.problem(404, "not_found");
        admin.put(PATH, json!({ "transport": "capture" })).await.ok();
        admin.post("/v1/outgoing-server/resume", json!({})).await.problem(409, "invalid_state");
        let paused = admin.post("/v1/outgoing-server/pause", json!({})).await.ok();
        assert_eq!((&paused["state"], &paused["allowed_actions"]), (&json!("paused"), &json!(["check", "send_test", "resume"])));
        admin.post("/v1/outgoing-server/pause", json!({})).await.problem(409, "invalid_state");
        assert_eq!(admin.put(PATH, json!({ "transport": "capture", "port": 25 })).await.ok()["state"], "paused");
        let id = answer(&app).await;
        send(&app).await;
        assert_eq!(crate::support::outbound::state(&admin, id).await, "queued");
        admin.post("/v1/outgoing-server/resume", json!({})).await.ok();
        send(&app).await;
        assert_eq!(crate::support::outbound::state(&admin, id).await, "sent");
    }

    async fn captured_mail_is_listed_newest_first_read_and_forgotten(app) {
        let admin = app.admin().await;
        admin.put(PATH, json!({ "transport": "capture" })).await.ok();
        let first = answer(&app).await;
        send(&app).await;
        let second = answer(&app).await;
        send(&app).await;
        let listed = admin.get("/v1/outgoing-server/captured").await.ok();
        let ids: Vec<String> = listed["items"].as_array().unwrap().iter().map(|one| one["message_id"].as_str().unwrap().into()).collect();
        assert_eq!(ids, [second.to_string(), first.to_string()]);
        let path = format!("/v1/outgoing-server/captured/{}", listed["items"][1]["id"].as_str().unwrap());
        let one = admin.get(&path).await.ok();
        assert_eq!((&one["recipients"], &one["subject"]), (&json!(["anna@example.com"]), &json!("Your question")));
        let raw = admin.get(&format!("{path}/raw")).await;
        assert_eq!((raw.status, raw.header("content-type"), raw.header("x-content-type-options")), (200, "message/rfc822", "nosniff"));
        assert!(String::from_utf8_lossy(&raw.bytes).contains(&first.to_string()));
        assert_eq!(admin.delete("/v1/outgoing-server/captured").await.status, 204);
        assert_eq!(admin.get("/v1/outgoing-server/captured").await.ok()["items"], json!([]));
        admin.get(&path).await.problem(404, "not_found");
    }
}
