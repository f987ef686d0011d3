//! Scripts and their versions: writing, judging, activating, trying out.

use postroom::id::{ScriptId, ScriptVersionId};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    on_both,
    support::{Client, Reply, TestApp},
};

/// A definition that can be activated and tells itself from others by its variable.
fn definition(mark: u64) -> Value {
    json!({
        "start": "queue",
        "variables": { "mark": mark },
        "steps": {
            "queue": { "type": "enqueue", "next": { "assigned": "done" } },
            "done": { "type": "end", "result": "done" }
        }
    })
}

/// Makes a script with a first draft and gives its path.
async fn script(client: &Client, name: &str, definition: Value) -> String {
    let created = client.post("/v1/scripts", json!({ "name": name, "definition": definition })).await;
    let path = created.header("location").to_owned();
    created.ok();
    path
}

fn id_of(path: &str) -> ScriptId {
    path.rsplit('/').next().unwrap().parse().unwrap()
}

async fn post(client: &Client, path: &str) -> Reply {
    client.send(client.request(Method::POST, path)).await
}

/// The mark of the version in force for a script.
async fn mark(app: &TestApp, script: Option<ScriptId>) -> Value {
    let in_force = app.app.scripts.snapshot(app.app.db.read()).await.unwrap();
    let loaded = in_force.active_for(script).unwrap();
    loaded.compiled.variables().get("mark").cloned().unwrap_or(Value::Null)
}

on_both! {
    async fn the_default_script_is_there_on_first_start_and_stays_one(app) {
        let admin = app.admin().await;
        postroom::scripts::bootstrap::default_script(&app.app).await.unwrap();
        let list = admin.get("/v1/scripts?is_default=true").await.ok();
        assert_eq!(list["items"].as_array().unwrap().len(), 1);
        assert_eq!((&list["items"][0]["name"], &list["items"][0]["active_version"]), (&json!("default"), &json!(1)));
        let path = format!("/v1/scripts/{}", list["items"][0]["id"].as_str().unwrap());
        admin.delete(&path).await.problem(409, "in_use");
        let report = post(&admin, &format!("{path}/versions/1/validate")).await.ok();
        assert_eq!(report, json!({ "valid": true, "problems": [] }));
        let in_force = app.app.scripts.snapshot(app.app.db.read()).await.unwrap();
        assert_eq!(in_force.active_for(None).unwrap().number, 1);
    }

    async fn a_script_is_created_read_changed_and_deleted(app) {
        let admin = app.admin().await;
        let created = admin.post("/v1/scripts", json!({ "name": "Desk", "definition": definition(1) })).await;
        assert_eq!((created.status, created.header("etag")), (201, "\"1\""));
        let path = created.header("location").to_owned();
        let body = created.ok();
        assert_eq!((&body["draft_version"], &body["active_version"]), (&json!(1), &Value::Null));
        let changed = admin.patch(&path, json!({ "description": "In front" })).await;
        assert_eq!(changed.header("etag"), "\"2\"");
        assert_eq!(changed.ok()["description"], "In front");
        let stale = admin.request(Method::PATCH, &path).header("If-Match", "\"1\"").json(&json!({ "name": "x" }));
        admin.send(stale).await.problem(412, "precondition_failed");
        let refused = admin.patch(&path, json!({ "definition": definition(2) })).await;
        refused.problem(422, "validation_failed");
        assert_eq!(refused.pointers(), ["/definition"]);
        admin.post("/v1/scripts", json!({ "name": "Desk" })).await.problem(409, "already_exists");
        assert_eq!(admin.delete(&path).await.status, 204);
        admin.get(&path).await.problem(404, "not_found");
        admin.get(&format!("{path}/versions")).await.problem(404, "not_found");
        admin.get(&format!("{path}/versions/1")).await.problem(404, "not_found");
    }

    async fn a_definition_that_cannot_be_read_is_refused_at_its_step(app) {
        let admin = app.admin().await;
        let steps = json!({
            "a": { "type": "enqueue", "next": {}, "timeout_s": "soon" },
            "b": { "type": "teleport" },
            "c": { "type": "end" }
        });
        let refused = admin.post("/v1/scripts", json!({ "name": "x", "definition": { "start": "a", "steps": steps } })).await;
        refused.problem(422, "validation_failed");
        let mut pointers = refused.pointers();
        pointers.sort_unstable();
        let wanted = ["/definition/steps/a/timeout_s", "/definition/steps/b/type", "/definition/steps/c/result"];
        assert_eq!(pointers, wanted, "{}", refused.body);
        let no_start = admin.post("/v1/scripts", json!({ "name": "x", "definition": { "steps": {} } })).await;
        assert_eq!(no_start.pointers(), ["/definition/start"]);
        let mut large = definition(1);
        large["variables"]["text"] = json!("x".repeat(600 * 1024));
        let refused = admin.post("/v1/scripts", json!({ "name": "x", "definition": large })).await;
        assert_eq!((refused.status, refused.pointers()), (422, vec!["/definition"]));
        let too_long = admin.post("/v1/scripts", json!({ "name": "x".repeat(101) })).await;
        assert_eq!((too_long.status, too_long.pointers()), (422, vec!["/name"]));
        assert_eq!(admin.get("/v1/scripts?is_default=false").await.ok()["items"], json!([]));
    }

    async fn a_draft_is_stored_as_given_copied_changed_locked_and_deleted(app) {
        let admin = app.admin().await;
        let path = script(&admin, "Desk", definition(1)).await;
        let versions = format!("{path}/versions");
        assert_eq!(admin.get(&format!("{versions}/1")).await.ok()["definition"], definition(1));
        let copy = admin.post(&versions, json!({ "description": "second", "copy_of": 1 })).await;
        assert_eq!((copy.status, copy.header("location")), (201, format!("{versions}/2").as_str()));
        let body = copy.ok();
        assert_eq!((&body["definition"], &body["author"], &body["state"]), (&definition(1), &json!("admin"), &json!("draft")));
        let second = format!("{versions}/2");
        let patch = json!({ "definition": { "steps": { "done": { "result": "discard" } } } });
        assert_eq!(admin.patch(&second, patch).await.ok()["definition"]["steps"]["done"]["result"], "discard");
        let gone = admin.patch(&second, json!({ "definition": { "steps": { "done": null } } })).await.ok();
        assert_eq!(gone["definition"]["steps"]["done"], Value::Null);
        let replaced = admin.put(&second, json!({ "definition": definition(7) })).await.ok();
        assert_eq!((&replaced["definition"], &replaced["description"]), (&definition(7), &json!("")));
        let stale = admin.request(Method::PUT, &second).header("If-Match", "\"1\"").json(&json!({ "definition": definition(8) }));
        admin.send(stale).await.problem(412, "precondition_failed");
        assert_eq!(post(&admin, &format!("{second}/lock")).await.ok()["locked"], true);
        post(&admin, &format!("{second}/lock")).await.ok();
        admin.patch(&second, json!({ "description": "x" })).await.problem(409, "version_locked");
        admin.delete(&second).await.problem(409, "version_locked");
        let unlocked = post(&admin, &format!("{second}/unlock")).await.ok();
        let actions = json!(["update", "delete", "activate", "lock", "validate", "simulate"]);
        assert_eq!(unlocked["allowed_actions"], actions);
        assert_eq!(admin.delete(&second).await.status, 204);
        let numbers = admin.get(&format!("{versions}?sort=-number")).await.ok();
        assert_eq!((&numbers["items"][0]["number"], &numbers["items"][1]), (&json!(1), &Value::Null));
    }

    async fn a_draft_comes_from_a_definition_or_from_a_version_that_exists(app) {
        let admin = app.admin().await;
        let versions = format!("{}/versions", script(&admin, "Desk", definition(1)).await);
        let neither = admin.post(&versions, json!({})).await;
        assert_eq!((neither.status, neither.pointers()), (422, vec!["/definition"]));
        let both = admin.post(&versions, json!({ "copy_of": 1, "definition": definition(1) })).await;
        assert_eq!((both.status, both.pointers()), (422, vec!["/copy_of"]));
        admin.post(&versions, json!({ "copy_of": 9 })).await.problem(422, "unknown_reference");
        admin.post(&versions, json!({ "copy_of": "1" })).await.problem(422, "validation_failed");
        assert_eq!(admin.get(&versions).await.ok()["items"].as_array().unwrap().len(), 1);
    }

    async fn an_activation_tells_every_problem_and_changes_nothing(app) {
        let admin = app.admin().await;
        let queue = "01900000-0000-7000-8000-0000000000aa";
        let path = script(&admin, "Desk", json!({
            "start": "ask",
            "steps": {
                "ask": { "type": "condition", "when": "message.weight > 3", "next": { "yes": "queue" } },
                "queue": { "type": "enqueue", "queue_id": queue, "next": { "assigned": "done" } },
                "done": { "type": "end", "result": "done" },
                "island": { "type": "end", "result": "done" }
            }
        })).await;
        let refused = post(&admin, &format!("{path}/versions/1/activate")).await;
        refused.problem(422, "invalid_script");
        let mut pointers = refused.pointers();
        pointers.sort_unstable();
        assert_eq!(pointers, [
            "/definition/steps/ask/next/no",
            "/definition/steps/ask/when",
            "/definition/steps/island",
            "/definition/steps/queue/next/closed",
            "/definition/steps/queue/next/queue_full",
            "/definition/steps/queue/queue_id",
        ], "{}", refused.body);
        let report = post(&admin, &format!("{path}/versions/1/validate")).await.ok();
        assert_eq!((&report["valid"], &report["problems"]), (&json!(false), &refused.body["errors"]));
        assert_eq!(admin.get(&path).await.ok()["active_version"], Value::Null);
        assert_eq!(admin.get(&format!("{path}/versions/1")).await.ok()["state"], "draft");
        post(&admin, &format!("{path}/versions/2/activate")).await.problem(404, "not_found");
    }

    async fn an_activation_retires_the_version_before_and_is_in_force_at_once(app) {
        let admin = app.admin().await;
        let path = script(&admin, "Desk", definition(1)).await;
        let id = id_of(&path);
        let default = mark(&app, Some(id)).await;
        assert_eq!(default, Value::Null, "a script without an active version leaves it to the default one");
        post(&admin, &format!("{path}/versions/1/activate")).await.ok();
        assert_eq!(mark(&app, Some(id)).await, 1);
        admin.post(&format!("{path}/versions"), json!({ "definition": definition(2) })).await.ok();
        assert_eq!(mark(&app, Some(id)).await, 1);
        let active = post(&admin, &format!("{path}/versions/2/activate")).await.ok();
        assert_eq!(active["state"], "active");
        assert_eq!(mark(&app, Some(id)).await, 2);
        let first = admin.get(&format!("{path}/versions/1")).await.ok();
        assert_eq!(first["state"], "retired");
        for frozen in ["1", "2"] {
            let version = format!("{path}/versions/{frozen}");
            admin.patch(&version, json!({ "description": "x" })).await.problem(409, "version_locked");
            admin.delete(&version).await.problem(409, "version_locked");
            post(&admin, &format!("{version}/lock")).await.problem(409, "invalid_state");
        }
        let old: ScriptVersionId = first["id"].as_str().unwrap().parse().unwrap();
        let under_way = app.app.scripts.version(app.app.db.read(), old).await.unwrap().unwrap();
        assert_eq!(under_way.compiled.variables()["mark"], 1);
        post(&admin, &format!("{path}/versions/2/activate")).await.ok();
        post(&admin, &format!("{path}/versions/1/activate")).await.ok();
        assert_eq!(mark(&app, Some(id)).await, 1);
        let script = admin.get(&path).await.ok();
        assert_eq!((&script["active_version"], &script["active_version_id"]), (&json!(1), &first["id"]));
        admin.delete(&path).await;
        assert_eq!(mark(&app, Some(id)).await, Value::Null);
    }

    async fn of_concurrent_activations_exactly_one_version_is_active(app) {
        let admin = app.admin().await;
        let path = script(&admin, "Desk", definition(1)).await;
        for number in 2..=6 {
            admin.post(&format!("{path}/versions"), json!({ "definition": definition(number) })).await.ok();
        }
        let paths: Vec<_> = (1..=6).map(|number| format!("{path}/versions/{number}/activate")).collect();
        let answers = futures::future::join_all(paths.iter().map(|path| post(&admin, path))).await;
        assert!(answers.iter().any(|answer| answer.status == 200));
        assert!(answers.iter().all(|answer| answer.status == 200 || answer.status == 409), "{answers:?}");
        let list = admin.get(&format!("{path}/versions?state=active")).await.ok();
        assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
        let active = &list["items"][0]["number"];
        assert_eq!(&admin.get(&path).await.ok()["active_version"], active);
        assert_eq!(&mark(&app, Some(id_of(&path))).await, active);
    }

    async fn concurrent_drafts_get_numbers_of_their_own(app) {
        let admin = app.admin().await;
        let versions = format!("{}/versions", script(&admin, "Desk", definition(1)).await);
        let many = (0..8).map(|_| admin.post(&versions, json!({ "copy_of": 1 })));
        let mut numbers: Vec<_> = futures::future::join_all(many).await.into_iter()
            .map(|answer| answer.ok()["number"].as_u64().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (2..=9).collect::<Vec<_>>());
    }

    async fn what_was_never_active_is_not_run(app) {
        let admin = app.admin().await;
        let path = script(&admin, "Desk", definition(1)).await;
        let draft = admin.get(&format!("{path}/versions/1")).await.ok();
        let id: ScriptVersionId = draft["id"].as_str().unwrap().parse().unwrap();
        assert!(app.app.scripts.version(app.app.db.read(), id).await.unwrap().is_none());
    }

    async fn a_change_that_is_rolled_back_is_not_served(app) {
        let admin = app.admin().await;
        admin.put("/v1/variables/closed", json!({ "type": "boolean", "value": false })).await.ok();
        let tx = app.app.db.begin().await.unwrap();
        sea_orm::ConnectionTrait::execute_unprepared(&*tx, "UPDATE variables SET value = 'true'").await.unwrap();
        drop(tx);
        let in_force = app.app.scripts.snapshot(app.app.db.read()).await.unwrap();
        assert_eq!(in_force.globals()["closed"], false);
        let again = app.app.scripts.snapshot(app.app.db.read()).await.unwrap();
        assert!(std::sync::Arc::ptr_eq(&in_force, &again), "what did not change is not read again");
    }

    async fn a_simulation_shows_what_would_happen_and_changes_nothing(app) {
        let admin = app.admin().await;
        let path = script(&admin, "Desk", json!({
            "start": "vip",
            "variables": { "tries": 0 },
            "steps": {
                "vip": { "type": "condition", "when": "message.from.domain == 'vip.example' and not globals.closed",
                    "next": { "yes": "first", "no": "done" } },
                "first": { "type": "set_priority", "priority": 1, "next": { "done": "again" } },
                "again": { "type": "set", "assign": { "tries": "vars.tries + 1" }, "next": { "done": "last" } },
                "last": { "type": "offer_last_agent", "timeout_s": 30,
                    "next": { "accepted": "done", "not_available": "done", "timeout": "again" } },
                "done": { "type": "end", "result": "discard" }
            }
        })).await;
        admin.put("/v1/variables/closed", json!({ "type": "boolean", "value": false })).await.ok();
        let simulate = format!("{path}/versions/1/simulate");
        let nobody = admin.post(&simulate, json!({})).await.ok();
        assert_eq!((&nobody["state"], &nobody["result"]), (&json!("finished"), &json!("discard")));
        let facts = json!({
            "message": { "from": { "address": "kim@vip.example" } },
            "last_agent_id": "01900000-0000-7000-8000-0000000000a1"
        });
        let waiting = admin.post(&simulate, json!({ "facts": facts })).await.ok();
        assert_eq!((&waiting["state"], &waiting["position"]), (&json!("waiting"), &json!("last")), "{waiting}");
        assert_eq!(waiting["waits_for"]["kind"], "offer_last_agent");
        assert_eq!(waiting["effects"], json!([{ "kind": "set_priority", "priority": 1 }]));
        let steps: Vec<_> = waiting["trace"].as_array().unwrap().iter().map(|entry| entry["step"].as_str().unwrap()).collect();
        assert_eq!(steps, ["vip", "first", "again", "last"]);
        let ended = admin.post(&simulate, json!({ "facts": facts, "outcomes": ["timeout", "accepted"] })).await.ok();
        assert_eq!((&ended["state"], &ended["variables"]["tries"]), (&json!("finished"), &json!(2)));
        let closed = json!({ "message": facts["message"], "globals": { "closed": true } });
        assert_eq!(admin.post(&simulate, json!({ "facts": closed })).await.ok()["effects"], json!([]));
        let failed = admin.post(&simulate, json!({ "facts": facts, "outcomes": ["lost"] })).await.ok();
        assert_eq!((&failed["state"], &failed["error"]["code"]), (&json!("failed"), &json!("outcome_not_wired")));
        assert_eq!(admin.get(&format!("{path}/versions/1")).await.ok()["state"], "draft");
    }

    async fn a_simulation_without_sense_is_refused(app) {
        let admin = app.admin().await;
        let path = script(&admin, "Desk", definition(1)).await;
        let simulate = format!("{path}/versions/1/simulate");
        let unknown = admin.post(&simulate, json!({ "message_id": "01900000-0000-7000-8000-0000000000a1" })).await;
        unknown.problem(422, "unknown_reference");
        assert_eq!(unknown.pointers(), ["/message_id"]);
        let wrong = admin.post(&simulate, json!({ "facts": { "message": { "subject": 7 }, "mood": 1 }, "timezone": "Mars/Base" })).await;
        wrong.problem(422, "validation_failed");
        let mut pointers = wrong.pointers();
        pointers.sort_unstable();
        assert_eq!(pointers, ["/facts/message/subject", "/facts/mood"]);
        let zone = admin.post(&simulate, json!({ "timezone": "Mars/Base" })).await;
        assert_eq!((zone.status, zone.pointers()), (422, vec!["/timezone"]));
        let broken = script(&admin, "Broken", json!({ "start": "nowhere", "steps": {
            "ask": { "type": "condition", "when": "(", "next": {} } } })).await;
        let refused = admin.post(&format!("{broken}/versions/1/simulate"), json!({})).await;
        refused.problem(422, "invalid_script");
        assert_eq!(refused.pointers(), ["/definition/start", "/definition/steps/ask/when"]);
    }

    async fn supervisors_read_scripts_and_agents_do_not(app) {
        let admin = app.admin().await;
        let path = script(&admin, "Desk", definition(1)).await;
        let supervisor = app.supervisor().await;
        let version = supervisor.get(&format!("{path}/versions/1")).await.ok();
        assert_eq!(version["allowed_actions"], json!(["validate", "simulate"]));
        supervisor.post(&format!("{path}/versions/1/simulate"), json!({})).await.ok();
        post(&supervisor, &format!("{path}/versions/1/activate")).await.problem(403, "forbidden");
        let (agent, _) = app.agent("anna").await;
        agent.get("/v1/scripts").await.problem(403, "forbidden");
        app.anonymous().get("/v1/scripts").await.problem(401, "unauthenticated");
    }
}

/// The tree of the document's schemas shows each step type with an example that it takes.
#[test]
fn every_step_type_is_in_the_document_with_an_example_that_works() {
    let document = postroom::api::document().unwrap();
    let contract = postroom::http::contract::Contract::new(&document).unwrap();
    let mapping = document["components"]["schemas"]["Step"]["discriminator"]["mapping"].as_object().unwrap();
    assert_eq!(mapping.len(), postroom::scripts::steps::Step::TYPES.len());
    for (name, reference) in mapping {
        let schema = reference.as_str().unwrap().rsplit('/').next().unwrap();
        let example = &document["components"]["schemas"][schema]["example"];
        assert_eq!(&example["type"], name);
        contract.check("Step", example).unwrap();
        serde_json::from_value::<postroom::scripts::steps::Step>(example.clone()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activation_is_seen_by_the_other_replica_at_once() {
    let app = TestApp::start(crate::support::Backend::Postgres).await;
    let other = app.replica().await;
    let admin = app.admin().await;
    let path = script(&admin, "Desk", definition(1)).await;
    for number in 1..=5 {
        admin.post(&format!("{path}/versions"), json!({ "definition": definition(number + 1) })).await.ok();
        post(&admin, &format!("{path}/versions/{number}/activate")).await.ok();
        assert_eq!(mark(&other, Some(id_of(&path))).await, number);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_start_together_make_one_default_script() {
    let app = TestApp::start(crate::support::Backend::Postgres).await;
    let tx = app.app.db.begin().await.unwrap();
    sea_orm::ConnectionTrait::execute_unprepared(&*tx, "DELETE FROM scripts").await.unwrap();
    tx.commit().await.unwrap();
    let other = app.app.clone();
    let (one, two) = tokio::join!(
        postroom::scripts::bootstrap::default_script(&app.app),
        postroom::scripts::bootstrap::default_script(&other)
    );
    one.unwrap();
    two.unwrap();
    assert_eq!(app.admin().await.get("/v1/scripts").await.ok()["items"].as_array().unwrap().len(), 1);
}
