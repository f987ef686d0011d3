//! Files that a list's customers are written to.

use serde_json::json;

use super::{Office, import::File};
use crate::on_both;

on_both! {
    async fn an_export_is_safe_in_a_spreadsheet_and_comes_back_as_it_was(app) {
        let office = Office::open(&app).await;
        office.customer("=1+1", json!({
            "name": "O'Hara, \"Anna\"", "email": "anna@example.org", "sms_number": "+442079460018", "locale": "en",
            "telephones": [{ "number": "+1 2", "label": "home" }], "data": { "n": 7, "note": "=cmd()" },
        })).await;
        office.customer("2", json!({})).await;
        let path = format!("/v1/lists/{}/customers/export", office.list);
        let csv = office.supervisor.get(&path).await;
        assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8");
        assert_eq!(csv.header("content-disposition"), "attachment; filename=\"customers.csv\"");
        let text = String::from_utf8(csv.bytes.clone()).unwrap();
        let lines: Vec<_> = text.split("\r\n").collect();
        assert!(lines[0].starts_with("ref,name,email,"));
        assert!(lines[1].starts_with("'=1+1,\"O'Hara, \"\"Anna\"\"\",anna@example.org,'+442079460018,"), "{}", lines[1]);
        assert!(lines[2].starts_with("2,,,,,,,unused,"), "{}", lines[2]);
        let ndjson = office.supervisor.get(&format!("{path}?format=ndjson")).await;
        assert_eq!(ndjson.header("content-type"), "application/x-ndjson");

        let before = office.supervisor.get("/v1/customers").await.ok();
        for (media, bytes) in [("text/csv", csv.bytes), ("application/x-ndjson", ndjson.bytes)] {
            for one in before["items"].as_array().unwrap() {
                let id = one["id"].as_str().unwrap();
                office.supervisor.delete(&format!("/v1/customers/{id}")).await;
            }
            let import = File::new(&office, media).await.send(&office, bytes).await.ok();
            assert_eq!(import["failed_count"], 0, "{import}");
            let after = office.supervisor.get("/v1/customers?sort=created_at").await.ok();
            for member in ["name", "email", "sms_number", "telephones", "locale", "data", "status"] {
                let of = |list: &serde_json::Value, known_as: &str| {
                    let items = list["items"].as_array().unwrap();
                    items.iter().find(|one| one["ref"] == known_as).unwrap()[member].clone()
                };
                assert_eq!(of(&after, "=1+1"), of(&before, "=1+1"), "{media} {member}");
                assert_eq!(of(&after, "2"), of(&before, "2"), "{media} {member}");
            }
            for one in after["items"].as_array().unwrap() {
                let id = one["id"].as_str().unwrap();
                office.supervisor.delete(&format!("/v1/customers/{id}")).await;
            }
        }
    }

    async fn an_export_of_many_pages_has_everybody_once(app) {
        let office = Office::open(&app).await;
        let rows: String = (0..1203).map(|n| format!("{n}\n")).collect();
        File::new(&office, "text/csv").await.send(&office, format!("ref\n{rows}")).await.ok();
        let path = format!("/v1/lists/{}/customers/export", office.list);
        let ndjson = office.supervisor.get(&format!("{path}?format=ndjson&status=unused")).await.bytes;
        let mut refs: Vec<u32> = String::from_utf8(ndjson).unwrap().lines().map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            row["ref"].as_str().unwrap().parse().unwrap()
        }).collect();
        refs.sort_unstable();
        assert_eq!(refs, (0..1203).collect::<Vec<_>>());
        assert_eq!(office.supervisor.get(&format!("{path}?format=ndjson&status=callback")).await.bytes, b"");
        office.supervisor.get(&format!("{path}?format=xlsx")).await.problem(400, "invalid_parameter");
        let nobody = format!("/v1/lists/{}/customers/export", uuid::Uuid::now_v7());
        office.supervisor.get(&nobody).await.problem(404, "not_found");
        let mut seen = Vec::new();
        let mut path = format!("/v1/customers?list_id={}&limit=200", office.list);
        loop {
            let page = office.supervisor.get(&path).await.ok();
            seen.extend(page["items"].as_array().unwrap().iter().map(|one| one["ref"].as_str().unwrap().to_owned()));
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            path = format!("/v1/customers?list_id={}&limit=200&cursor={cursor}", office.list);
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 1203);
    }
}
