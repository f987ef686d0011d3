//! From queued to settled: holding, pausing, order, connections, rate, cancelling and retrying.

use std::time::Duration;

use postroom::{access::matrix::Access, clock::Clock, delivery::entity::delivery as row};
use reqwest::Method;
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ConnectionTrait};
use serde_json::json;

use crate::{
    inbound::push::objects,
    on_both,
    support::{
        Backend, Client, TestApp,
        outbound::{Draft, answer, delivery, message_id_header, send, state, timeline, use_server, use_sink},
        smtp_sink::{Act, Behaviour, Rule, SmtpSink, Stage},
    },
};

on_both! {
    async fn a_message_is_sent_byte_for_byte_and_its_timeline_tells_how(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        let id = answer(&app).await;
        send(&app).await;
        let told = delivery(&admin, id).await;
        assert_eq!((&told["state"], &told["tries"], &told["next_try_at"]), (&json!("sent"), &json!(1), &json!(null)));
        assert!(told["sent_at"].is_string());
        assert!(told["state_reason"].as_str().unwrap().contains("queued as SINK1"), "{told}");
        let steps = timeline(&admin, id).await;
        assert_eq!(steps, ["created", "queued", "connect 220", "ehlo 250", "mail 250", "rcpt 250", "data 354", "dot 250", "sent"]);
        let received = sink.received();
        assert_eq!((received[0].from.as_str(), received[0].to[0].as_str()), ("support@example.org", "anna@example.com"));
        assert!(received[0].raw.ends_with(b"\r\n\r\nAn answer.\r\n.\r\n"));
    }

    async fn the_workers_send_what_is_held_and_what_is_queued_without_being_asked(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        app.start_workers();
        let held = answer(&app).await;
        use_sink(&admin, &sink).await;
        sink.wait_for(1).await;
        let queued = answer(&app).await;
        let received = sink.wait_for(2).await;
        let ids: Vec<_> = received.into_iter().map(|mail| mail.message_id.unwrap()).collect();
        assert_eq!(ids, [held, queued].map(message_id_header));
        app.app.stop().await;
        assert_eq!([state(&admin, held).await, state(&admin, queued).await], ["sent", "sent"]);
    }

    async fn held_messages_go_out_when_a_server_is_set_and_queued_ones_wait_when_it_is_removed(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        let id = answer(&app).await;
        send(&app).await;
        let held = delivery(&admin, id).await;
        assert_eq!((&held["state"], &held["allowed_actions"]), (&json!("held"), &json!(["cancel"])));
        use_sink(&admin, &sink).await;
        admin.post("/v1/outgoing-server/pause", json!({})).await.ok();
        send(&app).await;
        assert_eq!(state(&admin, id).await, "queued");
        admin.delete("/v1/outgoing-server").await;
        send(&app).await;
        assert_eq!(state(&admin, id).await, "held");
        use_sink(&admin, &sink).await;
        send(&app).await;
        assert_eq!(timeline(&admin, id).await[..5], ["created", "held", "queued", "held", "queued"]);
        assert_eq!((state(&admin, id).await, sink.received().len()), ("sent".into(), 1));
    }

    async fn an_answer_overtakes_the_bulk_that_waits(app) {
        let admin = app.admin().await;
        let sink = SmtpSink::start(Behaviour::with(Rule::at(Stage::Dot, Act::Late).on_message(1))).await;
        use_sink(&admin, &sink).await;
        let mut bulk = Vec::new();
        for _ in 0..3 {
            bulk.push(Draft::to(&["many@example.com"]).once().enqueue(&app.app).await.0);
        }
        let meanwhile = async {
            sink.wait_until_late().await;
            let id = answer(&app).await;
            sink.release();
            id
        };
        let (_, reply) = tokio::join!(send(&app), meanwhile);
        let order: Vec<_> = sink.received().into_iter().map(|mail| mail.message_id.unwrap()).collect();
        assert_eq!(order, [bulk[0], reply, bulk[1], bulk[2]].map(message_id_header));
    }

    async fn messages_that_are_not_to_be_sent_after_all_hold_up_nobody_behind_them(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_server(&admin, json!({ "port": sink.addr.port(), "max_connections": 2 })).await;
        let never = admin.post("/v1/calendars", json!({ "name": "Never", "timezone": "UTC" })).await.ok();
        for _ in 0..9 {
            let id = Draft::to(&["anna@example.com"]).once().enqueue(&app.app).await.0;
            let shut = row::ActiveModel {
                message_id: Set(id),
                window_calendar_id: Set(Some(never["id"].as_str().unwrap().parse().unwrap())),
                ..Default::default()
            };
            let tx = app.app.db.begin().await.unwrap();
            shut.update(&*tx).await.unwrap();
            tx.commit().await.unwrap();
        }
        let open = Draft::to(&["anna@example.com"]).once().enqueue(&app.app).await.0;
        send(&app).await;
        assert_eq!((state(&admin, open).await, sink.received().len()), ("sent".into(), 1));
    }

    async fn a_slow_message_holds_up_nobody_else(app) {
        let admin = app.admin().await;
        let sink = SmtpSink::start(Behaviour::with(Rule::at(Stage::Dot, Act::Late).on_message(1))).await;
        use_server(&admin, json!({ "port": sink.addr.port(), "max_connections": 2 })).await;
        let slow = answer(&app).await;
        let meanwhile = async {
            sink.wait_until_late().await;
            let quick = answer(&app).await;
            sink.wait_for(1).await;
            let seen = sink.received()[0].message_id.clone();
            sink.release();
            (quick, seen)
        };
        let (_, (quick, seen)) = tokio::join!(send(&app), meanwhile);
        assert_eq!(seen, Some(message_id_header(quick)));
        assert_eq!(state(&admin, slow).await, "sent");
    }

    async fn a_result_that_cannot_be_written_down_holds_up_nobody_else(app) {
        let admin = app.admin().await;
        let refuse = match app.backend {
            Backend::Sqlite => "CREATE TRIGGER refuse BEFORE UPDATE ON deliveries WHEN NEW.precedence = 1 AND NEW.tries > 0 \
                BEGIN SELECT RAISE(ABORT, 'refused'); END",
            Backend::Postgres => "ALTER TABLE deliveries ADD CONSTRAINT refuse CHECK (precedence <> 1 OR tries = 0)",
        };
        let tx = app.app.db.begin().await.unwrap();
        tx.execute_unprepared(refuse).await.unwrap();
        tx.commit().await.unwrap();
        let sink = SmtpSink::start(Behaviour::with(Rule::at(Stage::Dot, Act::Late).on_message(1))).await;
        use_server(&admin, json!({ "port": sink.addr.port(), "max_connections": 2 })).await;
        let slow = answer(&app).await;
        let meanwhile = async {
            sink.wait_until_late().await;
            Draft::to(&["many@example.com"]).once().enqueue(&app.app).await;
            sink.wait_for(1).await;
            let quick = answer(&app).await;
            // Only so that a test that fails does not hang.
            let sent = tokio::time::timeout(Duration::from_secs(60), sink.wait_for(2)).await;
            sink.release();
            (quick, sent.expect("it is sent while another one is being sent"))
        };
        let (_, (quick, sent)) = tokio::join!(send(&app), meanwhile);
        assert_eq!(sent[1].message_id, Some(message_id_header(quick)));
        assert_eq!([state(&admin, slow).await, state(&admin, quick).await], ["sent", "sent"]);
    }

    async fn a_pause_in_the_middle_finishes_the_message_whose_dot_is_out_and_no_other(app) {
        let admin = app.admin().await;
        let sink = SmtpSink::start(Behaviour::with(Rule::at(Stage::Dot, Act::Late).on_message(1))).await;
        use_sink(&admin, &sink).await;
        let ids = [answer(&app).await, answer(&app).await];
        let meanwhile = async {
            sink.wait_until_late().await;
            admin.post("/v1/outgoing-server/pause", json!({})).await.ok();
            sink.release();
        };
        tokio::join!(send(&app), meanwhile);
        assert_eq!([state(&admin, ids[0]).await, state(&admin, ids[1]).await], ["sent", "queued"]);
        admin.post("/v1/outgoing-server/resume", json!({})).await.ok();
        send(&app).await;
        assert_eq!((state(&admin, ids[1]).await, sink.received().len()), ("sent".into(), 2));
    }

    async fn once_a_pause_is_answered_no_other_dot_goes_out(app) {
        let admin = app.admin().await;
        for stage in [Stage::Mail, Stage::Data] {
            let sink = SmtpSink::start(Behaviour::with(Rule::at(stage, Act::Late).times(1))).await;
            use_sink(&admin, &sink).await;
            let id = answer(&app).await;
            let meanwhile = async {
                sink.wait_until_late().await;
                admin.post("/v1/outgoing-server/pause", json!({})).await.ok();
                sink.release();
            };
            tokio::join!(send(&app), meanwhile);
            let told = delivery(&admin, id).await;
            assert_eq!((&told["state"], &told["tries"], sink.received().len()), (&json!("queued"), &json!(0), 0));
            assert_eq!(timeline(&admin, id).await.last().map(String::as_str), Some("queued"));
            admin.post("/v1/outgoing-server/resume", json!({})).await.ok();
            send(&app).await;
            let told = delivery(&admin, id).await;
            assert_eq!((&told["state"], &told["tries"], sink.received().len()), (&json!("sent"), &json!(1), 1));
        }
    }

    async fn a_message_in_hand_goes_out_with_the_new_settings_when_they_change(app) {
        let admin = app.admin().await;
        let sink = SmtpSink::start(Behaviour::with(Rule::at(Stage::Data, Act::Late).times(1))).await;
        use_sink(&admin, &sink).await;
        let id = answer(&app).await;
        let other = SmtpSink::start(Behaviour::default()).await;
        let meanwhile = async {
            sink.wait_until_late().await;
            use_sink(&admin, &other).await;
            sink.release();
        };
        tokio::join!(send(&app), meanwhile);
        assert_eq!((sink.received().len(), other.received().len()), (0, 1));
        assert_eq!((state(&admin, id).await.as_str(), &delivery(&admin, id).await["tries"]), ("sent", &json!(1)));
    }

    async fn a_soft_stop_finishes_the_message_in_hand_and_no_other(app) {
        let admin = app.admin().await;
        let sink = SmtpSink::start(Behaviour::with(Rule::at(Stage::Data, Act::Late).on_message(1))).await;
        use_sink(&admin, &sink).await;
        let ids = [answer(&app).await, answer(&app).await];
        let meanwhile = async {
            sink.wait_until_late().await;
            app.app.shutdown.stop();
            sink.release();
        };
        tokio::join!(send(&app), meanwhile);
        assert_eq!([state(&admin, ids[0]).await, state(&admin, ids[1]).await], ["sent", "queued"]);
    }

    async fn a_connection_carries_as_many_messages_as_it_may(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_server(&admin, json!({ "port": sink.addr.port(), "max_messages_per_connection": 3 })).await;
        for _ in 0..7 {
            answer(&app).await;
        }
        send(&app).await;
        let connections: Vec<usize> = sink.received().iter().map(|mail| mail.connection).collect();
        assert_eq!(connections, [1, 1, 1, 2, 2, 2, 3]);
        answer(&app).await;
        send(&app).await;
        assert_eq!((sink.connections(), sink.commands("EHLO"), sink.received().len()), (3, 3, 8));
    }

    async fn a_kept_connection_that_ended_meanwhile_costs_no_try(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        answer(&app).await;
        send(&app).await;
        sink.behave(|behaviour| behaviour.rules.push(Rule::at(Stage::Mail, Act::Reply("421 4.4.2 idle")).times(1)));
        let id = answer(&app).await;
        send(&app).await;
        assert_eq!((state(&admin, id).await, sink.connections()), ("sent".into(), 2));
        assert_eq!(delivery(&admin, id).await["tries"], 1);
    }

    async fn a_kept_connection_that_ended_after_a_refusal_slows_nobody(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        sink.behave(|behaviour| {
            behaviour.rules = vec![
                Rule::at(Stage::Rcpt, Act::Reply("550 5.1.1 unknown")).on_message(1),
                Rule::at(Stage::Rset, Act::Reply("421 4.4.2 idle")),
            ];
        });
        answer(&app).await;
        send(&app).await;
        let id = answer(&app).await;
        send(&app).await;
        assert_eq!((state(&admin, id).await, sink.connections()), ("sent".into(), 2));
        assert_eq!(admin.get("/v1/outgoing-server").await.ok()["state"], "running");
    }

    async fn the_rate_lets_one_message_go_at_a_time(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_server(&admin, json!({ "port": sink.addr.port(), "max_connections": 5, "rate_per_minute": 1 })).await;
        for _ in 0..3 {
            answer(&app).await;
        }
        for sent in 1..=3 {
            send(&app).await;
            send(&app).await;
            assert_eq!(sink.received().len(), sent);
            app.app.clock.advance(Duration::from_secs(60));
        }
    }

    async fn an_unsent_message_is_cancelled_and_one_that_is_being_sent_is_not(app) {
        let admin = app.admin().await;
        let sink = SmtpSink::start(Behaviour::with(Rule::at(Stage::Rcpt, Act::Late).on_message(1))).await;
        use_sink(&admin, &sink).await;
        let (sending, queued) = (answer(&app).await, answer(&app).await);
        let meanwhile = async {
            sink.wait_until_late().await;
            let refused = admin.post(&format!("/v1/messages/{sending}/cancel"), json!({})).await;
            let cancelled = admin.post(&format!("/v1/messages/{queued}/cancel"), json!({})).await;
            sink.release();
            (refused, cancelled)
        };
        let (_, (refused, cancelled)) = tokio::join!(send(&app), meanwhile);
        refused.problem(409, "invalid_state");
        assert_eq!(cancelled.ok()["state"], "cancelled");
        assert_eq!([state(&admin, sending).await, state(&admin, queued).await], ["sent", "cancelled"]);
        assert_eq!(sink.received().len(), 1);
        admin.post(&format!("/v1/messages/{queued}/cancel"), json!({})).await.problem(409, "invalid_state");
        assert_eq!(timeline(&admin, queued).await, ["created", "queued", "cancelled"]);
    }

    async fn a_message_that_some_have_already_is_not_called_off(app) {
        let admin = app.admin().await;
        let full = Rule::at(Stage::Rcpt, Act::Reply("452 4.2.2 full")).for_recipient("carl@example.com").times(1);
        let sink = SmtpSink::start(Behaviour::with(full)).await;
        use_sink(&admin, &sink).await;
        let id = Draft::to(&["anna@example.com", "bob@example.com", "carl@example.com"]).enqueue(&app.app).await.0;
        send(&app).await;
        let told = delivery(&admin, id).await;
        assert_eq!((&told["state"], &told["allowed_actions"]), (&json!("deferred"), &json!([])));
        let refused = admin.post(&format!("/v1/messages/{id}/cancel"), json!({})).await;
        refused.problem(409, "invalid_state");
        assert_eq!(refused.body["detail"], "2 of its 3 recipients have the message already");
        app.app.clock.advance(Duration::from_secs(70));
        send(&app).await;
        assert_eq!((state(&admin, id).await.as_str(), sink.received().len()), ("sent", 2));
    }

    async fn an_agent_calls_off_only_what_it_wrote(app) {
        let id = answer(&app).await;
        let (agent, _) = app.agent("anna").await;
        agent.get(&format!("/v1/messages/{id}/delivery")).await.problem(404, "not_found");
        agent.post(&format!("/v1/messages/{id}/cancel"), json!({})).await.problem(403, "not_yours");
        assert_eq!(state(&app.admin().await, id).await, "held");
    }

    async fn a_failed_message_is_retried_once_as_a_new_one_to_those_it_did_not_reach(app) {
        let admin = app.admin().await;
        let rule = Rule::at(Stage::Rcpt, Act::Reply("550 5.1.1 unknown")).for_recipient("bob@example.com").times(1);
        let sink = SmtpSink::start(Behaviour::with(rule)).await;
        use_sink(&admin, &sink).await;
        let (id, _) = Draft::to(&["anna@example.com", "bob@example.com"]).enqueue(&app.app).await;
        admin.post(&format!("/v1/messages/{id}/retry"), json!({})).await.problem(409, "invalid_state");
        send(&app).await;
        assert_eq!(delivery(&admin, id).await["allowed_actions"], json!(["retry"]));
        let made = admin.post(&format!("/v1/messages/{id}/retry"), json!({})).await;
        assert_eq!(made.status, 201);
        let new = made.ok();
        assert_eq!((&new["retry_of"], &new["state"]), (&json!(id), &json!("queued")));
        assert_eq!(new["recipients"][0]["address"], "bob@example.com");
        send(&app).await;
        let received = sink.received();
        assert_eq!((&received[0].to, &received[1].to), (&vec!["anna@example.com".to_owned()], &vec!["bob@example.com".to_owned()]));
        assert_ne!(received[0].message_id, received[1].message_id);
        assert!(received[1].raw.ends_with(b"An answer.\r\n.\r\n"));
        assert_eq!(state(&admin, id).await, "failed");
        assert_eq!(delivery(&admin, id).await["allowed_actions"], json!([]));
        admin.post(&format!("/v1/messages/{id}/retry"), json!({})).await.problem(409, "invalid_state");
    }

    async fn a_key_is_shown_cancel_and_retry_when_its_scopes_allow_them(app) {
        let admin = app.admin().await;
        let rule = Rule::at(Stage::Rcpt, Act::Reply("550 5.1.1 unknown")).for_recipient("anna@example.com");
        let sink = SmtpSink::start(Behaviour::with(rule)).await;
        use_sink(&admin, &sink).await;
        let failed = answer(&app).await;
        send(&app).await;
        let queued = answer(&app).await;
        for scope in Access::scopes().into_iter().filter(|scope| *scope != "conversations:read") {
            let body = json!({ "name": format!("for {scope}"), "scopes": ["conversations:read", scope] });
            let key = admin.post("/v1/api-keys", body).await.ok()["secret"].as_str().unwrap().to_owned();
            let key = Client::new(&app.url, Some(key));
            let shown = [&delivery(&key, queued).await["allowed_actions"], &delivery(&key, failed).await["allowed_actions"]].map(ToString::to_string);
            let expected = if scope == "messages:send" { [r#"["cancel"]"#, r#"["retry"]"#] } else { ["[]"; 2] };
            assert_eq!(shown, expected, "{scope}");
        }
    }

    async fn a_retry_that_is_refused_or_repeated_leaves_nothing_in_the_object_store(app) {
        let app = TestApp::with(app.backend, Clock::system(), "[storage]\ninline_max_bytes = 0").await;
        let (admin, (agent, _)) = (app.admin().await, app.agent("anna").await);
        let rule = Rule::at(Stage::Rcpt, Act::Reply("550 5.1.1 unknown")).for_recipient("anna@example.com");
        let sink = SmtpSink::start(Behaviour::with(rule)).await;
        use_sink(&admin, &sink).await;
        let (first, second) = (answer(&app).await, answer(&app).await);
        let path = |id| format!("/v1/messages/{id}/retry");
        admin.post(&path(first), json!({})).await.problem(409, "invalid_state");
        send(&app).await;
        agent.post(&path(first), json!({})).await.problem(403, "not_yours");
        assert_eq!(objects(&app), 0);
        let keyed = || admin.send(admin.request(Method::POST, &path(first)).header("Idempotency-Key", "k1").json(&json!({})));
        let (done, again) = (keyed().await, keyed().await);
        assert_eq!((done.status, again.status, again.header("idempotent-replayed")), (201, 201, "true"));
        assert_eq!((done.body, objects(&app)), (again.body, 1));
        let second = path(second);
        let (one, two) = tokio::join!(admin.post(&second, json!({})), admin.post(&second, json!({})));
        let mut statuses = [one.status, two.status];
        statuses.sort_unstable();
        assert_eq!((statuses, objects(&app)), ([201, 409], 2));
    }

    async fn a_message_that_is_not_there_has_no_timeline(app) {
        let admin = app.admin().await;
        let nobody = "/v1/messages/019aa1b2-0000-7000-8000-000000000001";
        admin.get(&format!("{nobody}/timeline")).await.problem(404, "not_found");
        admin.get(&format!("{nobody}/delivery")).await.problem(404, "not_found");
        admin.post(&format!("{nobody}/cancel"), json!({})).await.problem(404, "not_found");
        admin.post(&format!("{nobody}/retry"), json!({})).await.problem(404, "not_found");
    }

    async fn the_event_log_tells_of_each_state(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        let id = answer(&app).await;
        use_sink(&admin, &sink).await;
        send(&app).await;
        use postroom::events::entity::{Column, Entity};
        use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
        let events = Entity::find().filter(Column::SubjectId.eq(id.uuid())).order_by_asc(Column::Seq).all(app.app.db.read()).await.unwrap();
        let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(kinds, ["message.held", "message.queued", "message.sent"]);
        assert_eq!(events[2].data["state"], "sent");
    }
}
