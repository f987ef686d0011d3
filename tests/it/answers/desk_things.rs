//! Who may answer, drafts, notes, and completing with an answer.

use postroom::http::caller::Role;
use reqwest::Method;
use serde_json::json;

use super::Desk;
use crate::on_both;

on_both! {
    async fn only_the_agent_who_has_the_item_answers(app) {
        let desk = Desk::new(&app).await;
        let body = json!({ "expected_last_message_id": desk.message, "text": "x" });
        let (other, _) = app.agent("otto").await;
        other.post(&desk.path("reply"), body.clone()).await.problem(403, "not_yours");
        let supervisor = app.supervisor().await;
        supervisor.post(&desk.path("reply"), body.clone()).await.problem(409, "not_assigned");
        desk.agent.post("/v1/work-items/019aa1b2-0000-7000-8000-000000000001/reply", body).await.problem(404, "not_found");
        desk.agent.post(&desk.path("reply"), json!({ "text": "x" })).await.problem(422, "validation_failed");
        let (_, boss) = app.user(Role::Supervisor, "supervisor").await;
        desk.assign(&app, boss).await;
        supervisor.post(&desk.path("reply"), json!({ "expected_last_message_id": desk.message, "text": "x" })).await.ok();
    }

    async fn an_answer_can_complete_the_item_and_its_draft_is_gone(app) {
        let desk = Desk::new(&app).await;
        desk.agent.put(&desk.path("draft"), json!({ "text": "half" })).await.ok();
        let sent = desk.reply("reply", json!({ "complete": true, "outcome_code": "solved" })).await.ok();
        assert_eq!(sent["completed"], true);
        let item = desk.admin.get(&format!("/v1/work-items/{}", desk.item)).await.ok();
        assert_eq!((&item["state"], &item["outcome_code"]), (&json!("completed"), &json!("solved")));
        desk.agent.get(&desk.path("draft")).await.problem(404, "not_found");
        desk.reply("reply", json!({})).await.problem(409, "invalid_state");
    }

    async fn a_draft_is_kept_by_its_etag_until_the_item_is_answered(app) {
        let desk = Desk::new(&app).await;
        let path = desk.path("draft");
        desk.agent.get(&path).await.problem(404, "not_found");
        let first = desk.agent.put(&path, json!({ "text": "Dear", "to": [{ "address": "an" }] })).await;
        assert_eq!((first.status, first.header("etag")), (200, "\"1\""));
        let write = |etag: &str, text: &str| {
            let request = desk.agent.request(Method::PUT, &path).header("If-Match", etag).json(&json!({ "text": text }));
            desk.agent.send(request)
        };
        assert_eq!(write("\"1\"", "Dear Anna").await.header("etag"), "\"2\"");
        write("\"1\"", "lost").await.problem(412, "precondition_failed");
        let read = desk.agent.get(&path).await;
        assert_eq!(read.header("etag"), "\"2\"");
        assert_eq!(read.ok()["content"]["text"], "Dear Anna");
        let (other, _) = app.agent("otto").await;
        other.put(&path, json!({ "text": "x" })).await.problem(403, "not_yours");
        other.get(&path).await.problem(404, "not_found");
        app.supervisor().await.get(&path).await.ok();
        let stale = desk.agent.request(Method::DELETE, &path).header("If-Match", "\"1\"");
        desk.agent.send(stale).await.problem(412, "precondition_failed");
        assert_eq!(desk.agent.delete(&path).await.status, 204);
        desk.agent.delete(&path).await.problem(404, "not_found");
        desk.agent.put(&path, json!({ "text": "again" })).await.ok();
        desk.reply("reply", json!({})).await.ok();
        desk.agent.get(&path).await.problem(404, "not_found");
    }

    async fn notes_are_seen_by_all_who_see_the_conversation_and_by_nobody_else(app) {
        let desk = Desk::new(&app).await;
        let notes = format!("/v1/conversations/{}/notes", desk.conversation);
        let first = desk.agent.post(&desk.path("notes"), json!({ "text": "She called." })).await.ok();
        assert_eq!((&first["author_name"], &first["work_item_id"]), (&json!("paula"), &json!(desk.item)));
        let supervisor = app.supervisor().await;
        supervisor.post(&notes, json!({ "text": "Be kind." })).await.ok();
        let seen = desk.agent.get(&notes).await.ok();
        let texts: Vec<_> = seen["items"].as_array().unwrap().iter().map(|note| note["text"].as_str().unwrap()).collect();
        assert_eq!(texts, ["She called.", "Be kind."]);
        let newest = desk.agent.get(&format!("{notes}?sort=-created_at&limit=1")).await.ok();
        assert_eq!(newest["items"][0]["text"], "Be kind.");
        let (other, _) = app.agent("otto").await;
        other.get(&notes).await.problem(404, "not_found");
        other.post(&notes, json!({ "text": "x" })).await.problem(404, "not_found");
        other.post(&desk.path("notes"), json!({ "text": "x" })).await.problem(404, "not_found");
        desk.agent.post(&notes, json!({ "text": "  " })).await.problem(422, "validation_failed");
        desk.agent.post(&notes, json!({})).await.problem(422, "validation_failed");
    }

    async fn the_template_of_a_reply_has_what_an_editor_begins_with(app) {
        let desk = Desk::new(&app).await;
        let template = desk.agent.get(&desk.path("reply-template?kind=reply")).await.ok();
        assert_eq!(template["subject"], "Re: Where is my order?");
        assert_eq!(template["expected_last_message_id"], desk.message.as_str());
        assert!(template["quote_text"].as_str().unwrap().contains("> It was due on Monday."));
        assert!(template["quote_html"].as_str().unwrap().contains("<blockquote"));
        let forward = desk.agent.get(&desk.path("reply-template?kind=forward")).await.ok();
        assert_eq!((&forward["to"], &forward["subject"]), (&json!([]), &json!("Fwd: Where is my order?")));
        desk.agent.get(&desk.path("reply-template")).await.problem(400, "invalid_parameter");
        let (other, _) = app.agent("otto").await;
        other.get(&desk.path("reply-template?kind=reply")).await.problem(404, "not_found");
    }
}
