//! The same key on several replicas.

use actix_web::{FromRequest, HttpMessage, dev::Payload, test::TestRequest, web::Data};
use postroom::http::{
    Answer, Caller, Idempotency,
    caller::Role,
    idempotency::{Start, Work},
};
use reqwest::Method;
use serde_json::json;

use crate::{
    on_both,
    support::{
        Backend, TestApp,
        outbound::use_sink,
        smtp_sink::{Act, Behaviour, Rule, SmtpSink, Stage},
    },
};

/// A request with the key `k`, as one of several replicas begins it.
async fn start(app: &TestApp) -> Start {
    let request = TestRequest::post().insert_header(("idempotency-key", "k"));
    let request = request.app_data(Data::new(app.app.sealer.clone())).to_http_request();
    let caller = Caller { id: uuid::Uuid::nil(), name: "anna".into(), role: Role::Admin, scopes: Vec::new() };
    request.extensions_mut().insert(caller);
    let idempotency = Idempotency::from_request(&request, &mut Payload::None).await.unwrap();
    idempotency.start(&app.app.db, app.app.clock.now()).await.unwrap()
}

fn work(start: Start) -> Box<Work> {
    match start {
        Start::Run(work) => work,
        Start::Replay(answer) => panic!("answered already: {answer:?}"),
    }
}

on_both! {
    async fn of_two_replicas_in_the_middle_of_the_same_work_one_does_it_and_both_answer_the_same(app) {
        let first = work(start(&app).await).pause().await.unwrap();
        let second = work(start(&app).await).pause().await.unwrap();
        let first = work(first.resume(&app.app.db).await.unwrap());
        first.commit(Answer::created("/here", &json!({})).unwrap()).await.unwrap();
        let Start::Replay(answer) = second.resume(&app.app.db).await.unwrap() else { panic!("done twice") };
        assert_eq!((answer.status().as_u16(), answer.headers().get("location").unwrap().as_bytes()), (201, &b"/here"[..]));
    }

    async fn work_that_came_to_nothing_is_done_under_the_same_key_and_dead_work_some_time_later(app) {
        let begun = work(start(&app).await).pause_marked().await.unwrap();
        begun.give_up(&app.app.db).await.unwrap();
        drop(work(start(&app).await).pause_marked().await.unwrap());
        app.app.clock.advance(std::time::Duration::from_secs(15 * 60));
        work(start(&app).await).commit(Answer::ok(&json!({})).unwrap()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_mail_is_sent_once_whatever_replica_the_repeat_comes_to() {
    let app = TestApp::start(Backend::Postgres).await;
    let replica = app.replica().await;
    let sink = SmtpSink::start(Behaviour::with(Rule::at(Stage::Dot, Act::Late).times(1))).await;
    let (here, there) = (app.admin().await, replica.admin().await);
    use_sink(&here, &sink).await;
    crate::inbound::account(&app, "support@example.com").await;
    let body = json!({ "to": "anna@example.com" });
    let ask = |client: &crate::support::Client| {
        let request = client.request(Method::POST, "/v1/outgoing-server/send-test");
        let (client, request) = (client.clone(), request.header("Idempotency-Key", "k").json(&body));
        async move { client.send(request).await }
    };
    let meanwhile = async {
        sink.wait_until_late().await;
        ask(&there).await.problem(409, "idempotency_in_progress");
        sink.release();
    };
    let (first, ()) = tokio::join!(ask(&here), meanwhile);
    let again = ask(&there).await;
    assert_eq!((first.status, again.header("idempotent-replayed")), (200, "true"));
    assert_eq!((&again.body, sink.received().len()), (&first.body, 1));
}
