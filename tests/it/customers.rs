//! Customers, their lists, and the outcomes of trying to reach them.

mod actions;
mod erase;
mod erase_meanwhile;
mod erase_texts;
mod export;
mod import;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    on_both,
    support::{Client, TestApp},
};

/// A supervisor with a list.
pub struct Office {
    pub supervisor: Client,
    pub list: String,
}

impl Office {
    pub async fn open(app: &TestApp) -> Self {
        let supervisor = app.supervisor().await;
        let list = supervisor.post("/v1/lists", json!({ "name": "March" })).await.ok();
        Self { supervisor, list: list["id"].as_str().unwrap().to_owned() }
    }

    /// A customer of the list, with these members.
    pub async fn customer(&self, known_as: &str, members: Value) -> Value {
        let mut body = json!({ "ref": known_as, "list_id": self.list });
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        self.supervisor.post("/v1/customers", body).await.ok()
    }

    pub async fn outcome(&self, code: &str, category: &str) -> Value {
        self.supervisor.post("/v1/outcomes", json!({ "code": code, "category": category })).await.ok()
    }

    /// The refs of a page.
    pub async fn refs(&self, path: &str) -> Vec<String> {
        let page = self.supervisor.get(path).await.ok();
        let items = page["items"].as_array().unwrap();
        items.iter().map(|one| one["ref"].as_str().unwrap().to_owned()).collect()
    }
}

pub fn path_of(customer: &Value) -> String {
    format!("/v1/customers/{}", customer["id"].as_str().unwrap())
}

on_both! {
    async fn an_outcome_is_created_read_changed_and_deleted(app) {
        let supervisor = app.supervisor().await;
        let created = supervisor.post("/v1/outcomes", json!({ "code": "no_answer", "category": "non_contact" })).await;
        assert_eq!((created.status, created.header("etag")), (201, "\"1\""));
        let path = created.header("location").to_owned();
        assert_eq!(supervisor.get(&path).await.ok()["category"], "non_contact");
        let stale = supervisor.request(Method::PATCH, &path).header("If-Match", "\"7\"").json(&json!({ "name": "x" }));
        supervisor.send(stale).await.problem(412, "precondition_failed");
        let changed = supervisor.patch(&path, json!({ "name": "No answer" })).await;
        assert_eq!(changed.header("etag"), "\"2\"");
        let again = supervisor.post("/v1/outcomes", json!({ "code": "no_answer", "category": "system" })).await;
        again.problem(409, "already_exists");
        assert_eq!(again.pointers(), ["/code"]);
        let wrong = supervisor.post("/v1/outcomes", json!({ "code": "a b", "category": "sold", "colour": 1 })).await;
        wrong.problem(422, "validation_failed");
        assert_eq!(supervisor.get("/v1/outcomes?code=no_answer").await.ok()["items"][0]["name"], "No answer");
        assert_eq!(supervisor.get("/v1/outcomes?category=contact").await.ok()["items"], json!([]));
        assert_eq!(supervisor.delete(&path).await.status, 204);
        supervisor.get(&path).await.problem(404, "not_found");
    }

    async fn an_outcome_that_a_customer_carries_stays_under_its_code(app) {
        let office = Office::open(&app).await;
        let outcome = office.outcome("sold", "contact").await;
        let path = format!("/v1/outcomes/{}", outcome["id"].as_str().unwrap());
        let anna = office.customer("1", json!({})).await;
        office.supervisor.post(&format!("{}/terminate", path_of(&anna)), json!({ "outcome_code": "sold" })).await.ok();
        office.supervisor.delete(&path).await.problem(409, "in_use");
        office.supervisor.patch(&path, json!({ "code": "bought" })).await.problem(409, "in_use");
        office.supervisor.patch(&path, json!({ "category": "system" })).await.ok();
        assert_eq!(office.supervisor.get(&path_of(&anna)).await.ok()["termination"]["category"], "contact");
    }

    async fn a_list_counts_its_customers_and_goes_only_when_it_has_none(app) {
        let office = Office::open(&app).await;
        office.outcome("sold", "contact").await;
        let path = format!("/v1/lists/{}", office.list);
        let anna = office.customer("1", json!({})).await;
        office.customer("2", json!({})).await;
        office.supervisor.post(&format!("{}/terminate", path_of(&anna)), json!({ "outcome_code": "sold" })).await.ok();
        let expected = json!({ "unused": 1, "in_progress": 0, "callback": 0, "terminated": 1, "total": 2 });
        assert_eq!(office.supervisor.get(&format!("{path}/stats")).await.ok(), expected);
        office.supervisor.delete(&path).await.problem(409, "in_use");
        for known_as in ["1", "2"] {
            let one = office.supervisor.get(&format!("/v1/customers/by-ref/{known_as}")).await.ok();
            assert_eq!(office.supervisor.delete(&path_of(&one)).await.status, 204);
        }
        assert_eq!(office.supervisor.delete(&path).await.status, 204);
        office.supervisor.get(&format!("{path}/stats")).await.problem(404, "not_found");
    }

    async fn a_list_has_a_state_and_a_campaign_that_exists(app) {
        let office = Office::open(&app).await;
        let path = format!("/v1/lists/{}", office.list);
        assert_eq!(office.supervisor.patch(&path, json!({ "state": "passive" })).await.ok()["state"], "passive");
        let unknown = json!({ "campaign_id": uuid::Uuid::now_v7() });
        let refused = office.supervisor.patch(&path, unknown.clone()).await;
        refused.problem(422, "unknown_reference");
        assert_eq!(refused.pointers(), ["/campaign_id"]);
        let mut body = unknown;
        body["name"] = json!("April");
        office.supervisor.post("/v1/lists", body).await.problem(422, "unknown_reference");
        office.supervisor.post("/v1/lists", json!({ "name": "March" })).await.problem(409, "already_exists");
        assert_eq!(office.supervisor.get("/v1/lists?state=active").await.ok()["items"], json!([]));
        assert_eq!(office.supervisor.get("/v1/lists?state=passive").await.ok()["items"][0]["name"], "March");
    }

    async fn a_customer_is_kept_in_normal_form_and_found_by_everything(app) {
        let office = Office::open(&app).await;
        let anna = office.customer("C/1 ü", json!({
            "name": "Anna", "email": "Anna@Example.ORG", "sms_number": "0044 (20) 7946-0018", "locale": "en-GB",
            "telephones": [{ "number": "020 7946 0018", "label": "home" }], "data": { "vip": true, "n": 7, "tags": ["a"] },
        })).await;
        assert_eq!((&anna["email"], &anna["sms_number"]), (&json!("Anna@example.org"), &json!("+442079460018")));
        assert_eq!((&anna["status"], &anna["attempts"]), (&json!("unused"), &json!(0)));
        assert_eq!(anna["data"], json!({ "vip": true, "n": 7, "tags": ["a"] }));
        assert_eq!(anna["allowed_actions"], json!(["terminate", "set_callback", "erase"]));
        office.customer("2", json!({ "email": "ben@example.org" })).await;
        for query in ["ref=C%2F1%20%C3%BC", "email=ANNA@example.org", "sms_number=00442079460018", "sms_number=%2B442079460018"] {
            assert_eq!(office.refs(&format!("/v1/customers?{query}")).await, ["C/1 ü"], "{query}");
        }
        let by_ref = office.supervisor.get("/v1/customers/by-ref/C%2F1%20%C3%BC").await;
        assert_eq!(by_ref.header("etag"), "\"1\"");
        assert_eq!(by_ref.ok(), anna);
        assert_eq!(office.refs(&format!("/v1/customers?list_id={}&status=unused&sort=-created_at", office.list)).await, ["2", "C/1 ü"]);
        assert!(office.refs("/v1/customers?status=callback").await.is_empty());
        office.supervisor.get("/v1/customers/by-ref/nobody").await.problem(404, "not_found");
    }

    async fn a_customer_that_does_not_fit_is_refused_with_every_error(app) {
        let office = Office::open(&app).await;
        let refused = office.supervisor.post("/v1/customers", json!({
            "list_id": office.list, "ref": "1", "name": 7, "email": "nobody", "telephones": [{ "label": "x" }],
        })).await;
        refused.problem(422, "validation_failed");
        assert_eq!(refused.pointers().len(), 2, "{}", refused.body);
        let rules = office.supervisor.post("/v1/customers", json!({
            "list_id": office.list, "ref": "1", "email": "nobody", "sms_number": "12", "data": { "long": "x".repeat(5000) },
        })).await;
        assert_eq!(rules.pointers(), ["/email", "/sms_number", "/data/long"]);
        let many: serde_json::Map<_, _> = (0..65).map(|n| (n.to_string(), json!(1))).collect();
        let many = json!({ "list_id": office.list, "ref": "1", "data": many });
        assert_eq!(office.supervisor.post("/v1/customers", many).await.pointers(), ["/data"]);
        let no_list = json!({ "list_id": uuid::Uuid::now_v7(), "ref": "1" });
        office.supervisor.post("/v1/customers", no_list).await.problem(422, "unknown_reference");
        for bad in ["", " 1", "1\n"] {
            let body = json!({ "list_id": office.list, "ref": bad });
            assert_eq!(office.supervisor.post("/v1/customers", body).await.pointers()[0], "/ref", "{bad:?}");
        }
        assert_eq!(office.supervisor.get("/v1/customers").await.ok()["items"], json!([]));
    }

    async fn a_patch_changes_what_it_names_and_a_stale_one_nothing(app) {
        let office = Office::open(&app).await;
        let anna = office.customer("1", json!({ "email": "anna@example.org", "data": { "a": 1, "b": 2 } })).await;
        let path = path_of(&anna);
        let changed = office.supervisor.patch(&path, json!({ "email": "new@example.org", "data": { "a": null, "c": 3 } })).await;
        assert_eq!(changed.header("etag"), "\"2\"");
        assert_eq!(changed.ok()["data"], json!({ "b": 2, "c": 3 }));
        assert!(office.refs("/v1/customers?email=anna@example.org").await.is_empty(), "the key went with the address");
        assert_eq!(office.refs("/v1/customers?email=new@example.org").await, ["1"]);
        let stale = office.supervisor.request(Method::PATCH, &path).header("If-Match", "\"1\"").json(&json!({ "name": "x" }));
        office.supervisor.send(stale).await.problem(412, "precondition_failed");
        let stale = office.supervisor.request(Method::DELETE, &path).header("If-Match", "\"1\"");
        office.supervisor.send(stale).await.problem(412, "precondition_failed");
        office.customer("2", json!({})).await;
        let taken = office.supervisor.patch(&path, json!({ "ref": "2" })).await;
        taken.problem(409, "already_exists");
        assert_eq!(taken.pointers(), ["/ref"]);
        office.supervisor.patch(&path, json!({ "status": "terminated" })).await.problem(422, "validation_failed");
        office.supervisor.patch(&path, json!({ "list_id": uuid::Uuid::now_v7() })).await.problem(422, "unknown_reference");
    }

    async fn an_upsert_makes_a_customer_once_and_replaces_what_is_known_of_them(app) {
        let office = Office::open(&app).await;
        let path = "/v1/customers/by-ref/A%2F7";
        let body = json!({ "list_id": office.list, "name": "Anna", "email": "anna@example.org", "data": { "a": 1 } });
        let made = office.supervisor.put(path, body.clone()).await;
        assert_eq!((made.status, made.body["ref"].as_str()), (201, Some("A/7")));
        assert_eq!(made.header("location"), path_of(&made.body));
        let callback = json!({ "at": "2999-01-01T00:00:00Z" });
        let customer = path_of(&made.body);
        // Too far ahead; nothing changes.
        office.supervisor.post(&format!("{customer}/set-callback"), callback).await.problem(422, "validation_failed");
        let again = office.supervisor.put(path, json!({ "list_id": office.list, "sms_number": "+44 20 7946 0018" })).await;
        assert_eq!((again.status, again.header("etag")), (200, "\"2\""));
        let again = again.ok();
        assert_eq!((&again["name"], &again["email"], &again["data"]), (&json!(""), &Value::Null, &json!({})));
        assert_eq!(again["id"], made.body["id"]);
        let stale = office.supervisor.request(Method::PUT, path).header("If-Match", "\"1\"").json(&body);
        office.supervisor.send(stale).await.problem(412, "precondition_failed");
        let nobody = office.supervisor.request(Method::PUT, "/v1/customers/by-ref/new").header("If-Match", "\"1\"").json(&body);
        office.supervisor.send(nobody).await.problem(412, "precondition_failed");
        office.supervisor.put("/v1/customers/by-ref/%20x", body).await.problem(400, "invalid_parameter");
        let no_list = json!({ "list_id": uuid::Uuid::now_v7() });
        office.supervisor.put(path, no_list).await.problem(422, "unknown_reference");
    }

    async fn upserts_of_one_ref_at_the_same_moment_make_one_customer(app) {
        let office = Office::open(&app).await;
        let body = json!({ "list_id": office.list });
        let puts = (0..8).map(|_| office.supervisor.put("/v1/customers/by-ref/1", body.clone()));
        let statuses: Vec<_> = futures::future::join_all(puts).await.iter().map(|reply| reply.status).collect();
        assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
        assert!(statuses.iter().all(|status| [200, 201, 409].contains(status)), "{statuses:?}");
        assert_eq!(office.refs("/v1/customers").await, ["1"]);
    }

    async fn agents_are_kept_out_and_a_key_that_reads_is_offered_no_action(app) {
        let office = Office::open(&app).await;
        let anna = office.customer("1", json!({})).await;
        let (agent, _) = app.agent("anna").await;
        agent.get("/v1/customers").await.problem(403, "forbidden");
        agent.get(&path_of(&anna)).await.problem(403, "forbidden");
        app.anonymous().get("/v1/lists").await.problem(401, "unauthenticated");
        let admin = app.admin().await;
        let key = admin.post("/v1/api-keys", json!({ "name": "reader", "scopes": ["customers:read"] })).await.ok();
        let reader = Client::new(&app.url, Some(key["secret"].as_str().unwrap().to_owned()));
        assert_eq!(reader.get(&path_of(&anna)).await.ok()["allowed_actions"], json!([]));
        reader.post(&format!("{}/erase", path_of(&anna)), json!({})).await.problem(403, "forbidden");
    }

    async fn a_repeated_create_with_the_same_key_makes_one_customer(app) {
        let office = Office::open(&app).await;
        let create = || office.supervisor.request(Method::POST, "/v1/customers").header("Idempotency-Key", "k1")
            .json(&json!({ "list_id": office.list, "ref": "1" }));
        let first = office.supervisor.send(create()).await;
        let second = office.supervisor.send(create()).await;
        assert_eq!((second.status, second.header("idempotent-replayed")), (201, "true"));
        assert_eq!(first.body, second.body);
        let taken = json!({ "list_id": office.list, "ref": "1" });
        office.supervisor.post("/v1/customers", taken).await.problem(409, "already_exists");
    }
}
