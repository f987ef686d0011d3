//! Files that customers are read from.

use std::time::Duration;

use postroom::{
    customers::entity::{ImportState, import},
    events::entity as event,
};
use reqwest::Method;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Office, path_of};
use crate::{
    on_both,
    support::{Reply, TestApp},
};

/// An import that waits for its rows.
pub struct File {
    pub id: String,
    media: &'static str,
}

impl File {
    pub async fn new(office: &Office, media: &'static str) -> Self {
        let format = if media == "text/csv" { "csv" } else { "ndjson" };
        Self::with(office, media, json!({ "format": format })).await
    }

    async fn with(office: &Office, media: &'static str, body: Value) -> Self {
        let made = office.supervisor.post(&format!("/v1/lists/{}/imports", office.list), body).await.ok();
        Self { id: made["id"].as_str().unwrap().to_owned(), media }
    }

    pub async fn send(&self, office: &Office, body: impl Into<reqwest::Body>) -> Reply {
        let put = office.supervisor.request(Method::PUT, &format!("/v1/imports/{}/rows", self.id));
        office.supervisor.send(put.header("content-type", self.media).body(body)).await
    }

    async fn read(&self, office: &Office) -> Value {
        office.supervisor.get(&format!("/v1/imports/{}", self.id)).await.ok()
    }

    /// Each error's line, ref, member and code.
    async fn errors(&self, office: &Office) -> Vec<(i64, Value, Value, String)> {
        let page = office.supervisor.get(&format!("/v1/imports/{}/errors?limit=200", self.id)).await.ok();
        let errors = page["items"].as_array().unwrap().iter();
        let code = |error: &Value| error["code"].as_str().unwrap().to_owned();
        errors
            .map(|one| (one["line"].as_i64().unwrap(), one["ref"].clone(), one["member"].clone(), code(one)))
            .collect()
    }

    /// Sends a part of a body of this length and leaves.
    async fn break_off(&self, app: &TestApp, office: &Office, part: &[u8], length: usize) {
        let address = app.url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "PUT /v1/imports/{}/rows HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nContent-Type: {}\r\n\
             Content-Length: {length}\r\n\r\n",
            self.id,
            office.supervisor.token(),
            self.media,
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(part).await.unwrap();
        stream.shutdown().await.unwrap();
        // The service ends its side when it has noticed.
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        self.wait_for(app, ImportState::Interrupted).await;
    }

    async fn wait_for(&self, app: &TestApp, state: ImportState) -> import::Model {
        let reached = async {
            loop {
                let row = import::Entity::find_by_id(self.id.parse::<postroom::id::ImportId>().unwrap());
                let row = row.one(app.app.db.read()).await.unwrap().unwrap();
                if row.state == state {
                    return row;
                }
                tokio::task::yield_now().await;
            }
        };
        // Only so that a test that fails does not hang.
        tokio::time::timeout(Duration::from_secs(60), reached).await.expect("the state is reached")
    }

    /// Waits until the reader has given a sign since then.
    async fn wait_for_sign(&self, app: &TestApp, since: &import::Model) -> import::Model {
        let given = async {
            loop {
                let row = self.wait_for(app, ImportState::Running).await;
                if row.lease_until > since.lease_until {
                    return row;
                }
            }
        };
        // Only so that a test that fails does not hang.
        tokio::time::timeout(Duration::from_secs(9), given).await.expect("a sign is given")
    }
}

fn counts(import: &Value) -> [i64; 4] {
    ["rows_read", "created_count", "updated_count", "failed_count"]
        .map(|count| import[count].as_i64().unwrap())
}

/// CSV of this many customers.
fn csv(rows: std::ops::Range<usize>) -> String {
    let rows = rows.map(|n| format!("C{n},Name {n},c{n}@example.org\n"));
    std::iter::once("ref,name,email\n".to_owned()).chain(rows).collect()
}

on_both! {
    async fn a_file_of_csv_makes_customers_and_tells_of_each_bad_row(app) {
        let office = Office::open(&app).await;
        let file = File::new(&office, "text/csv").await;
        let text = b"\xef\xbb\xbfRef,name,email,sms_number,Order No,data.plan,telephones,locale\r\n\
            1,\"Anna \"\"A\"\"\r\nExample\",anna@example.org,,,,,\r\n\
            2,Ben,Ben@EXAMPLE.org,0044 20 7946 0018,4711,gold,1;2,en-GB\r\n\
            3,bad mail,nobody,12,,,,\r\n\
            ,no ref,,,,,,\r\n\
            5,too few\r\n\
            6,\xff\xfe,,,,,,\r\n\
            \r\n\
            2,Ben again,,,,,,";
        let done = file.send(&office, text.to_vec()).await.ok();
        assert_eq!((done["state"].as_str(), counts(&done)), (Some("completed"), [7, 1, 0, 5]), "{done}");
        let errors = file.errors(&office).await;
        let expected = [
            (2, json!("1"), json!("name"), "control_character"),
            (5, json!("3"), json!("email"), "invalid_address"),
            (5, json!("3"), json!("sms_number"), "invalid_number"),
            (6, Value::Null, json!("ref"), "required"),
            (7, Value::Null, Value::Null, "wrong_number_of_cells"),
            (8, Value::Null, Value::Null, "not_utf8"),
        ];
        assert_eq!(errors, expected.map(|(line, known_as, member, code)| (line, known_as, member, code.to_owned())));
        assert_eq!(done["error_count"], 6);
        let ben = office.supervisor.get("/v1/customers/by-ref/2").await.ok();
        assert_eq!((&ben["name"], &ben["email"], &ben["data"]), (&json!("Ben again"), &Value::Null, &json!({})), "the later row wins");
        assert_eq!((&ben["status"], &ben["list_id"]), (&json!("unused"), &json!(office.list)));
        file.send(&office, "ref\n").await.problem(409, "invalid_state");
        assert_eq!(done["allowed_actions"], json!([]));
    }

    async fn a_file_of_json_lines_makes_customers_and_tells_of_each_bad_row(app) {
        let office = Office::open(&app).await;
        let file = File::new(&office, "application/x-ndjson").await;
        let text = "{\"ref\":\"1\",\"email\":\"a@example.org\",\"data\":{\"n\":7,\"deep\":{\"a\":[1]}}}\n\
            {\"ref\":7,\"telephones\":[{\"number\":\"1\"}]}\n\
            not json\n\
            {\"ref\":\"3\",\"colour\":\"red\",\"name\":5}\n\
            {\"name\":\"nobody\"}\n\
            {\"ref\":\"4\",\"name\":\"\\u0000\"}\n";
        let done = file.send(&office, text).await.ok();
        assert_eq!(counts(&done), [6, 2, 0, 4], "{done}");
        let codes: Vec<_> = file.errors(&office).await.into_iter().map(|(line, .., code)| (line, code)).collect();
        let expected = [(3, "not_json"), (4, "unknown_member"), (4, "type"), (5, "required"), (6, "nul_character")];
        assert_eq!(codes, expected.map(|(line, code)| (line, code.to_owned())));
        let one = office.supervisor.get("/v1/customers/by-ref/1").await.ok();
        assert_eq!(one["data"], json!({ "n": 7, "deep": { "a": [1] } }));
    }

    async fn a_further_import_changes_what_it_names_and_keeps_where_customers_stand(app) {
        let office = Office::open(&app).await;
        let anna = office.customer("1", json!({ "name": "Anna", "email": "anna@example.org", "data": { "a": 1 } })).await;
        office.supervisor.post(&format!("{}/set-callback", path_of(&anna)), json!({ "at": "2029-01-01T00:00:00Z" })).await.ok();
        let other = office.supervisor.post("/v1/lists", json!({ "name": "April" })).await.ok();
        let office = Office { list: other["id"].as_str().unwrap().to_owned(), ..office };
        let done = File::new(&office, "text/csv").await.send(&office, "ref,email\n1,new@example.org\n").await.ok();
        assert_eq!(counts(&done), [1, 0, 1, 0]);
        let after = office.supervisor.get(&path_of(&anna)).await.ok();
        assert_eq!((&after["name"], &after["email"], &after["data"]), (&json!("Anna"), &json!("new@example.org"), &json!({ "a": 1 })));
        assert_eq!((&after["status"], &after["list_id"]), (&json!("callback"), &other["id"]));
        assert_eq!(office.refs("/v1/customers?email=new@example.org").await, ["1"]);
        let text = "{\"ref\":\"1\",\"name\":null}\n{\"ref\":\"2\",\"name\":\"Ben\"}\n{\"ref\":\"3\",\"locale\":\"de\"}\n";
        let done = File::new(&office, "application/x-ndjson").await.send(&office, text).await.ok();
        assert_eq!(counts(&done), [3, 2, 1, 0]);
        let after = office.supervisor.get(&path_of(&anna)).await.ok();
        assert_eq!((&after["name"], &after["email"]), (&json!(""), &json!("new@example.org")));
    }

    async fn columns_of_data_change_their_members_and_leave_the_others(app) {
        let office = Office::open(&app).await;
        let known = json!({ "contract": "Premium", "plan": "A", "since": { "year": 2020, "end": null }, "note": null, "old": 1, "a\"b'": 2 });
        office.customer("1", json!({ "data": known })).await;
        let text = "ref,plan,data.old,\"a\"\"b'\",new?\n1,B,,x,$1\n2,C,,,\n";
        let done = File::new(&office, "text/csv").await.send(&office, text).await.ok();
        assert_eq!(counts(&done), [2, 1, 1, 0]);
        let data = async |known_as: &str| {
            let path = format!("/v1/customers/by-ref/{known_as}");
            office.supervisor.get(&path).await.ok()["data"].clone()
        };
        let merged = json!({ "contract": "Premium", "plan": "B", "since": { "year": 2020, "end": null }, "note": null, "a\"b'": "x", "new?": "$1" });
        assert_eq!((data("1").await, data("2").await), (merged, json!({ "plan": "C" })));
        // Named as a whole, it is replaced as a whole.
        let text = "ref,data,plan\n1,\"{\"\"n\"\":1}\",D\n";
        File::new(&office, "text/csv").await.send(&office, text).await.ok();
        assert_eq!(data("1").await, json!({ "n": 1, "plan": "D" }));
        let text = "{\"ref\":\"1\",\"data\":{\"m\":2}}\n";
        File::new(&office, "application/x-ndjson").await.send(&office, text).await.ok();
        assert_eq!(data("1").await, json!({ "m": 2 }));
    }

    async fn a_file_that_cannot_be_read_is_refused_at_once(app) {
        let office = Office::open(&app).await;
        let file = File::new(&office, "text/csv").await;
        let refused = file.send(&office, "name,email\nAnna,a@example.org\n").await;
        refused.problem(422, "validation_failed");
        assert_eq!(refused.pointers(), ["/header/ref"]);
        assert_eq!(file.send(&office, "ref,a,a,\n").await.pointers(), ["/header/2", "/header/3"]);
        file.send(&office, "").await.problem(422, "validation_failed");
        let other = File { id: file.id.clone(), media: "application/x-ndjson" };
        other.send(&office, "{}").await.problem(415, "unsupported_media_type");
        let other = File { id: file.id.clone(), media: "application/json" };
        other.send(&office, "{}").await.problem(415, "unsupported_media_type");
        let other = File { id: file.id.clone(), media: "text/csv; charset=iso-8859-1" };
        other.send(&office, "ref\n").await.problem(415, "unsupported_media_type");
        assert_eq!(file.read(&office).await["state"], "interrupted");
        let nobody = File { id: uuid::Uuid::now_v7().to_string(), media: "text/csv" };
        nobody.send(&office, "ref\n1\n").await.problem(404, "not_found");
        let list = format!("/v1/lists/{}/imports", uuid::Uuid::now_v7());
        office.supervisor.post(&list, json!({ "format": "csv" })).await.problem(404, "not_found");
        let list = format!("/v1/lists/{}/imports", office.list);
        office.supervisor.post(&list, json!({ "format": "xlsx" })).await.problem(422, "validation_failed");
        // And then it is sent as it should be.
        assert_eq!(counts(&file.send(&office, "ref\n1\n").await.ok()), [1, 1, 0, 0]);
    }

    async fn semicolons_and_tabulators_separate_cells_where_the_import_says_so(app) {
        let office = Office::open(&app).await;
        for (delimiter, text) in [("semicolon", "ref;name\n1;a,b\n"), ("tab", "ref\tname\n1\ta,b\n")] {
            let file = File::with(&office, "text/csv", json!({ "format": "csv", "delimiter": delimiter })).await;
            file.send(&office, text).await.ok();
            let one = office.supervisor.get("/v1/customers/by-ref/1").await.ok();
            assert_eq!(one["name"], "a,b");
            office.supervisor.delete(&path_of(&one)).await;
        }
    }

    async fn an_import_that_broke_off_goes_on_with_the_same_file(app) {
        let office = Office::open(&app).await;
        let file = File::new(&office, "text/csv").await;
        let text = csv(0..3000);
        let cut = text.find("C2000,").unwrap() + 4;
        file.break_off(&app, &office, &text.as_bytes()[..cut], text.len()).await;
        let broken = file.read(&office).await;
        assert_eq!(counts(&broken), [2000, 2000, 0, 0], "{broken}");
        assert_eq!(broken["allowed_actions"], json!(["put_rows", "cancel"]));
        assert_eq!(broken["size_bytes"], json!(text.len()));
        let listed = office.supervisor.get("/v1/imports?state=interrupted").await.ok();
        assert_eq!(listed["items"][0]["id"], json!(file.id));

        let another = file.send(&office, csv(1..3000)).await;
        another.problem(422, "validation_failed");
        assert_eq!(another.body["errors"][0]["code"], "another_file");
        file.send(&office, csv(0..5)).await.problem(422, "validation_failed");
        assert_eq!(counts(&file.read(&office).await), [2000, 2000, 0, 0]);

        let done = file.send(&office, text).await.ok();
        assert_eq!((done["state"].as_str(), counts(&done)), (Some("completed"), [3000, 3000, 0, 0]), "{done}");
        let stats = office.supervisor.get(&format!("/v1/lists/{}/stats", office.list)).await.ok();
        assert_eq!(stats["total"], 3000);
        let told = event::Entity::find().filter(event::Column::Kind.starts_with("import."));
        let told = told.order_by_asc(event::Column::Seq).all(app.app.db.read()).await.unwrap();
        let kinds: Vec<_> = told.iter().map(|event| event.kind.as_str()).filter(|kind| *kind != "import.progressed").collect();
        assert_eq!(kinds, [
            "import.created", "import.started", "import.interrupted", "import.resumed", "import.interrupted",
            "import.resumed", "import.interrupted", "import.resumed", "import.completed",
        ]);
    }

    async fn one_that_broke_off_within_windows_lines_and_quotes_counts_lines_on(app) {
        let office = Office::open(&app).await;
        let file = File::new(&office, "text/csv").await;
        let text = "ref,name\r\n1,a\r\n2,\"b, c\"\r\n3,x\r\n,bad\r\n";
        file.break_off(&app, &office, &text.as_bytes()[..text.find("c\"").unwrap()], text.len()).await;
        assert_eq!(counts(&file.read(&office).await), [1, 1, 0, 0]);
        assert_eq!(counts(&file.send(&office, text).await.ok()), [4, 3, 0, 1]);
        assert_eq!(file.errors(&office).await[0].0, 5);
    }

    async fn an_import_is_watched_and_called_off_while_it_runs(app) {
        let app = TestApp::frozen(app.backend).await;
        let office = Office::open(&app).await;
        let file = File::new(&office, "text/csv").await;
        let (sender, receiver) = futures::channel::mpsc::unbounded::<Result<Vec<u8>, std::io::Error>>();
        sender.unbounded_send(Ok(csv(0..600).into_bytes())).unwrap();
        let sending = file.send(&office, reqwest::Body::wrap_stream(receiver));
        let watching = async {
            let half = async {
                while file.read(&office).await["rows_read"] != 500 {}
            };
            tokio::time::timeout(Duration::from_secs(60), half).await.expect("a batch is written");
            assert_eq!(file.read(&office).await["state"], "running");
            file.send(&office, csv(0..1)).await.problem(409, "invalid_state");
            let path = format!("/v1/imports/{}/cancel", file.id);
            let cancelled = office.supervisor.post(&path, json!({})).await.ok();
            assert_eq!((cancelled["state"].as_str(), counts(&cancelled)), (Some("cancelled"), [500, 500, 0, 0]));
            sender.unbounded_send(Ok(csv(600..1200).into_bytes())).unwrap();
            drop(sender);
            office.supervisor.post(&path, json!({})).await.problem(409, "invalid_state");
        };
        let (refused, ()) = tokio::join!(sending, watching);
        refused.problem(409, "invalid_state");
        assert_eq!(counts(&file.read(&office).await), [500, 500, 0, 0]);
        let stats = office.supervisor.get(&format!("/v1/lists/{}/stats", office.list)).await.ok();
        assert_eq!(stats["total"], 500, "a batch that came too late is not written");
        file.send(&office, csv(0..1)).await.problem(409, "invalid_state");
    }

    async fn rows_that_come_steadily_but_slowly_are_written_before_the_lease_runs_out(app) {
        let app = TestApp::frozen(app.backend).await;
        let office = Office::open(&app).await;
        let file = File::new(&office, "text/csv").await;
        let (sender, receiver) = futures::channel::mpsc::unbounded::<Result<Vec<u8>, std::io::Error>>();
        sender.unbounded_send(Ok(b"ref\n".to_vec())).unwrap();
        let sending = file.send(&office, reqwest::Body::wrap_stream(receiver));
        let watching = async {
            let mut import = file.wait_for(&app, ImportState::Running).await;
            for row in 0..24 {
                sender.unbounded_send(Ok(format!("C{row}\n").into_bytes())).unwrap();
                app.app.clock.advance(Duration::from_secs(4));
                if row % 3 == 2 {
                    import = file.wait_for_sign(&app, &import).await;
                }
            }
            assert_eq!(file.read(&office).await["state"], "running");
            drop(sender);
        };
        let (done, ()) = tokio::join!(sending, watching);
        let done = done.ok();
        assert_eq!((done["state"].as_str(), counts(&done)), (Some("completed"), [24, 24, 0, 0]), "{done}");
    }

    async fn one_that_is_gone_on_with_keeps_its_lease_while_it_catches_up(app) {
        let app = TestApp::frozen(app.backend).await;
        let office = Office::open(&app).await;
        let file = File::new(&office, "text/csv").await;
        let text = csv(0..2000);
        file.break_off(&app, &office, &text.as_bytes()[..text.len() - 10], text.len()).await;
        let (sender, receiver) = futures::channel::mpsc::unbounded::<Result<Vec<u8>, std::io::Error>>();
        let sending = file.send(&office, reqwest::Body::wrap_stream(receiver));
        let (first, second) = text.split_at(text.len() / 2);
        let watching = async {
            sender.unbounded_send(Ok(first.as_bytes().to_vec())).unwrap();
            let begun = file.wait_for(&app, ImportState::Running).await;
            app.app.clock.advance(Duration::from_secs(11));
            let renewed = file.wait_for_sign(&app, &begun).await;
            assert_eq!((renewed.bytes_read, renewed.digest), (begun.bytes_read, begun.digest), "nothing new is read");
            sender.unbounded_send(Ok(second.as_bytes().to_vec())).unwrap();
            drop(sender);
        };
        let (done, ()) = tokio::join!(sending, watching);
        assert_eq!(counts(&done.ok()), [2000, 2000, 0, 0]);
    }

    async fn an_import_whose_process_died_is_taken_over(app) {
        let office = Office::open(&app).await;
        let file = File::new(&office, "text/csv").await;
        let text = csv(0..10);
        file.break_off(&app, &office, &text.as_bytes()[..text.len() - 10], text.len()).await;
        // As a process that is killed leaves it.
        let row = import::Entity::update_many()
            .col_expr(import::Column::State, sea_orm::sea_query::Expr::val(ImportState::Running))
            .col_expr(import::Column::LeaseUntil, sea_orm::sea_query::Expr::val(app.app.clock.now().plus_s(-1)));
        let tx = app.app.db.begin().await.unwrap();
        row.exec(&*tx).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(file.read(&office).await["state"], "interrupted");
        assert_eq!(office.supervisor.get("/v1/imports?state=interrupted").await.ok()["items"].as_array().unwrap().len(), 1);
        assert_eq!(office.supervisor.get("/v1/imports?state=running").await.ok()["items"], json!([]));
        assert_eq!(counts(&file.send(&office, text).await.ok()), [10, 10, 0, 0]);
    }

    async fn errors_without_end_are_counted_and_the_first_are_kept(app) {
        let office = Office::open(&app).await;
        let file = File::new(&office, "text/csv").await;
        let rows: String = (0..10_600).map(|n| format!("{n},nobody\n")).collect();
        let done = file.send(&office, format!("ref,email\n{rows}good,\n")).await.ok();
        assert_eq!((counts(&done), done["error_count"].as_i64()), ([10_601, 1, 0, 10_600], Some(10_600)));
        let kept = postroom::customers::entity::import_error::Entity::find().all(app.app.db.read()).await.unwrap();
        assert_eq!(kept.len(), 10_000);
        let path = format!("/v1/imports/{}/errors", file.id);
        let first = office.supervisor.get(&format!("{path}?limit=2")).await.ok();
        let cursor = first["next_cursor"].as_str().unwrap();
        let second = office.supervisor.get(&format!("{path}?limit=2&cursor={cursor}")).await.ok();
        assert_eq!((&first["items"][0]["line"], &second["items"][0]["line"]), (&json!(2), &json!(4)));
        let nobody = format!("/v1/imports/{}/errors", uuid::Uuid::now_v7());
        office.supervisor.get(&nobody).await.problem(404, "not_found");
    }

    async fn two_imports_of_the_same_customers_at_once_both_end(app) {
        let office = Office::open(&app).await;
        let (one, two) = (File::new(&office, "text/csv").await, File::new(&office, "text/csv").await);
        let backwards: String = (0..1500).rev().map(|n| format!("C{n},x,\n")).collect();
        let (one, two) = tokio::join!(one.send(&office, csv(0..1500)), two.send(&office, format!("ref,name,email\n{backwards}")));
        let (one, two) = (one.ok(), two.ok());
        let made = counts(&one)[1] + counts(&two)[1];
        assert_eq!((made, counts(&one)[2] + counts(&two)[2]), (1500, 1500));
    }
}
