//! Scripts of statements: all or nothing, and the connection is as good as before whatever became of one.

use futures::poll;
use postroom::db::{Db, Gate, Script};
use sea_orm::{ConnectionTrait, DbErr, Statement};

use crate::{
    on_both,
    support::{Backend, TestApp},
};

async fn table(app: &TestApp) -> &Db {
    let tx = app.app.db.begin().await.unwrap();
    tx.execute_unprepared("CREATE TABLE script_rows (id BIGINT PRIMARY KEY, note TEXT NOT NULL)")
        .await
        .unwrap();
    tx.commit().await.unwrap();
    &app.app.db
}

/// Adds a statement that inserts these.
fn insert(script: &mut Script, ids: std::ops::Range<i64>) {
    for id in ids {
        script.change("INSERT INTO script_rows VALUES ($1, $2)", vec![id.into(), "$1".into()]);
    }
}

async fn put(db: &Db, ids: std::ops::Range<i64>) -> Result<(), DbErr> {
    let mut script = Script::default();
    insert(&mut script, ids);
    db.run(script).await.map(|_| ())
}

async fn count(db: &Db) -> i64 {
    let statement = Statement::from_string(db.backend(), "SELECT count(*) FROM script_rows");
    db.read().query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}

on_both! {
    async fn a_script_tells_what_each_statement_did(app) {
        let db = table(&app).await;
        let mut script = Script::default();
        let made = script.change(
            "INSERT INTO script_rows VALUES ($1, $4), ($2, $4), ($3, $4)",
            vec![1_i64.into(), 2_i64.into(), 3_i64.into(), "it's $2".into()],
        );
        let changed = script.ask("UPDATE script_rows SET note = $2 WHERE id > $1 RETURNING id", vec![1_i64.into(), "new".into()]);
        let gone = script.change("DELETE FROM script_rows WHERE id = $1", vec![9_i64.into()]);
        let left = script.ask("SELECT note FROM script_rows WHERE note <> 'new'", Vec::new());
        let done = db.run(script).await.unwrap();
        assert_eq!([made, changed, gone].map(|step| done.affected(step)), [3, 2, 0]);
        let mut ids: Vec<i64> = done.rows(changed).iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
        ids.sort_unstable();
        assert_eq!(ids, [2, 3]);
        let texts: Vec<String> = done.rows(left).iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
        assert_eq!(texts, ["it's $2"]);
        assert!(done.rows(made).is_empty());
        assert_eq!(count(db).await, 3, "what a script did is seen by readers when it is over");
    }

    async fn a_script_that_fails_changes_nothing_and_the_next_one_runs(app) {
        let db = table(&app).await;
        put(db, 1..3).await.unwrap();
        let mut script = Script::default();
        insert(&mut script, 3..5);
        // There is one already.
        insert(&mut script, 1..2);
        insert(&mut script, 5..7);
        for wrong in [script, unknown_table(7)] {
            db.run(wrong).await.unwrap_err();
            assert_eq!(count(db).await, 2);
        }
        put(db, 3..5).await.unwrap();
        let tx = db.begin().await.unwrap();
        tx.execute_unprepared("DELETE FROM script_rows WHERE id = 1").await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(count(db).await, 3);
    }

    async fn a_script_that_nobody_waits_for_any_more_leaves_no_transaction_open(app) {
        let db = table(&app).await;
        for polls in 0..24 {
            let before = count(db).await;
            let first = i64::from(polls) * 100;
            let mut abandoned = Box::pin(put(db, first..first + 50));
            let mut is_done = false;
            for _ in 0..polls {
                if poll!(&mut abandoned).is_ready() {
                    is_done = true;
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(abandoned);
            put(db, first + 50..first + 51).await.unwrap();
            let added = count(db).await - before;
            assert!(added == 51 || added == 1 && !is_done, "{added} after {polls} polls");
        }
    }
}

fn unknown_table(id: i64) -> Script {
    let mut script = Script::default();
    insert(&mut script, id..id + 1);
    script.change("INSERT INTO nowhere VALUES ($1)", vec![id.into()]);
    script
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_that_ends_the_transaction_itself_does_no_harm() {
    let app = TestApp::start(Backend::Sqlite).await;
    let db = table(&app).await;
    put(db, 1..3).await.unwrap();
    let mut script = Script::default();
    insert(&mut script, 3..5);
    script.change("INSERT OR ROLLBACK INTO script_rows VALUES ($1, 'again')", vec![1_i64.into()]);
    db.run(script).await.unwrap_err();
    assert_eq!(count(db).await, 2);
    put(db, 3..5).await.unwrap();
    assert_eq!(count(db).await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_waits_at_its_gate_before_it_locks_a_row() {
    let app = TestApp::start(Backend::Postgres).await;
    let db = table(&app).await;
    put(db, 1..2).await.unwrap();
    let tx = db.begin().await.unwrap();
    Gate::Sends.shut(&tx).await.unwrap();
    let mut script = Script::default();
    let changed = script.change("UPDATE script_rows SET note = 'later' WHERE note = 'first'", Vec::new());
    script.pass(Gate::Sends);
    let other = async {
        app.wait_until_blocked().await;
        tx.execute_unprepared("UPDATE script_rows SET note = 'first'").await.unwrap();
        tx.commit().await.unwrap();
    };
    let (done, ()) = tokio::join!(db.run(script), other);
    assert_eq!(done.unwrap().affected(changed), 1, "it sees what they did who had shut the gate");
}
