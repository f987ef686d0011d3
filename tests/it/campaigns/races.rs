//! Reports of one customer that come at the same moment.

use postroom::{campaigns::entity::rule_send, customers::entity::customer};
use sea_orm::{EntityTrait, QuerySelect};
use serde_json::json;

use super::crowd::{Desk, said, template};
use crate::{
    on_both,
    support::{Backend, TestApp},
};

async fn desk(app: &TestApp) -> Desk<'_> {
    Desk::new(app, async |admin| {
        json!([{ "name": "A", "trigger": "first_attempt", "template_id": template(admin, "A", json!({})).await, "once": false }])
    })
    .await
}

on_both! {
    async fn of_many_first_attempts_at_once_exactly_one_fires(app) {
        let desk = desk(&app).await;
        let (desk, path) = (&desk, desk.path());
        let reports = (0..20).map(|n| desk.admin.post(&path, desk.report(&format!("call-{n}"), json!({}))));
        let answers = futures::future::join_all(reports).await;
        let fired = answers.iter().filter(|answer| !said(&answer.body).0.is_empty()).count();
        assert!(answers.iter().all(|answer| answer.status == 201), "{:?}", answers.iter().map(|one| one.status).collect::<Vec<_>>());
        let sends = rule_send::Entity::find().all(app.app.db.read()).await.unwrap().len();
        assert_eq!((fired, sends, desk.crowd.reload(desk.customer.id).await.attempt_count), (1, 1, 20));
        let mut numbers: Vec<i64> = answers.iter().map(|answer| answer.body["attempt"]["number"].as_i64().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
    }

    async fn of_many_equal_reports_at_once_one_is_taken_and_all_are_answered_alike(app) {
        let desk = desk(&app).await;
        let (desk, path) = (&desk, desk.path());
        let reports = (0..10).map(|_| desk.admin.post(&path, desk.report("call-1", json!({}))));
        let answers = futures::future::join_all(reports).await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
        assert!(answers.iter().all(|answer| answer.body == answers[0].body));
        assert_eq!(desk.crowd.reload(desk.customer.id).await.attempt_count, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_waits_for_the_customer_before_anything_else() {
    let app = TestApp::start(Backend::Postgres).await;
    let desk = desk(&app).await;
    let tx = app.app.db.begin().await.unwrap();
    customer::Entity::find_by_id(desk.customer.id).lock_exclusive().one(&*tx).await.unwrap();
    let suspend = async {
        app.wait_until_blocked().await;
        // Were the campaign shared already, this would wait for the report, and the report for us.
        desk.admin.post(&format!("{}/suspend", desk.campaign), json!({})).await.ok();
        tx.commit().await.unwrap();
    };
    let (answer, ()) = tokio::join!(desk.try_once("1", json!({})), suspend);
    assert_eq!(said(&answer).1, [("A".to_owned(), "campaign_not_active".to_owned())]);
}
