//! Transactions whose statements are all known before they begin.

use futures::TryStreamExt;
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, QueryResult, RuntimeErr, Statement, Value,
    sea_query::Values,
    sqlx::{self, AssertSqlSafe, Either, Executor, Sqlite, SqlitePool, pool::PoolConnection},
};
use sea_query_sqlx::SqlxValues;

use super::{Db, Gate};

/// Statements that are one transaction: all of them or none. SQLite is handed them at once, so that nobody waits for the
/// connection's thread between two of them; PostgreSQL gets them one after the other.
#[derive(Debug, Default)]
pub struct Script {
    gates: Vec<Gate>,
    statements: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    sql: String,
    values: Vec<Value>,
    /// Whether it gives rows.
    asks: bool,
}

/// A statement of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step(usize);

/// What came of the statements of a script that is committed.
#[derive(Debug, Default)]
pub struct Done(Vec<Came>);

#[derive(Debug, Default)]
struct Came {
    affected: u64,
    rows: Vec<QueryResult>,
}

impl Script {
    /// Passes a gate before any statement, and so before any row is locked.
    pub fn pass(&mut self, gate: Gate) {
        if !self.gates.contains(&gate) {
            self.gates.push(gate);
        }
    }

    /// Adds a statement that changes rows; `$1` is the first of its values.
    pub fn change(&mut self, sql: impl Into<String>, values: Vec<Value>) -> Step {
        self.add(sql.into(), values, false)
    }

    /// Adds a statement that gives rows: those that it finds, or with `RETURNING` those that it changes.
    pub fn ask(&mut self, sql: impl Into<String>, values: Vec<Value>) -> Step {
        self.add(sql.into(), values, true)
    }

    fn add(&mut self, sql: String, values: Vec<Value>, asks: bool) -> Step {
        self.statements.push(Line { sql, values, asks });
        Step(self.statements.len() - 1)
    }

    /// The whole transaction as one text, and the values in the order in which the text has places for them.
    fn text(&self) -> (String, Vec<Value>) {
        let mut text =
            String::with_capacity(64 + self.statements.iter().map(|line| line.sql.len()).sum::<usize>());
        let mut values = Vec::with_capacity(self.statements.iter().map(|line| line.values.len() + 8).sum());
        text.push_str("BEGIN IMMEDIATE; ");
        for line in &self.statements {
            unfold(line, &mut text, &mut values);
            text.push_str("; ");
        }
        text.push_str("COMMIT");
        (text, values)
    }
}

impl Done {
    /// How many rows a statement changed.
    pub fn affected(&self, step: Step) -> u64 {
        self.0.get(step.0).map_or(0, |came| came.affected)
    }

    /// The rows that a statement gave.
    pub fn rows(&self, step: Step) -> &[QueryResult] {
        self.0.get(step.0).map_or(&[], |came| &came.rows)
    }
}

impl Db {
    /// Runs a script: what it changes is durable when this returns, and the event log tells nothing of it.
    ///
    /// # Errors
    /// Whatever the database says; nothing is changed then.
    pub async fn run(&self, script: Script) -> Result<Done, DbErr> {
        if script.statements.is_empty() {
            return Ok(Done::default());
        }
        if self.backend() == DbBackend::Sqlite {
            return at_once(self.writer.get_sqlite_connection_pool(), script).await;
        }
        let tx = self.begin().await?;
        let done = one_by_one(&tx, script).await;
        match done {
            Ok(done) => tx.commit_untold().await.map(|()| done),
            Err(error) => {
                // What the statement said matters more than what the end of a broken transaction says.
                let _ = tx.rollback().await;
                Err(error)
            }
        }
    }
}

async fn one_by_one(tx: &DatabaseTransaction, script: Script) -> Result<Done, DbErr> {
    for gate in script.gates {
        gate.pass(tx).await?;
    }
    let mut done = Vec::with_capacity(script.statements.len());
    for line in script.statements {
        let statement = Statement::from_sql_and_values(tx.get_database_backend(), line.sql, line.values);
        done.push(if line.asks {
            let rows = tx.query_all_raw(statement).await?;
            Came { affected: rows.len() as u64, rows }
        } else {
            Came { affected: tx.execute_raw(statement).await?.rows_affected(), rows: Vec::new() }
        });
    }
    Ok(Done(done))
}

/// The connection, which is closed when it is let go of with a transaction open: by an error that says nothing of the
/// transaction, or by a caller that waits no longer.
struct Open(PoolConnection<Sqlite>, bool);

impl Drop for Open {
    fn drop(&mut self) {
        if self.1 {
            self.0.close_on_drop();
        }
    }
}

async fn at_once(pool: &SqlitePool, script: Script) -> Result<Done, DbErr> {
    let count = script.statements.len();
    let (text, values) = script.text();
    drop(script);
    let mut open = Open(pool.acquire().await.map_err(failed)?, true);
    let ended = stream(&mut open.0, text, values, count).await;
    let (came, error) = match ended {
        Ok(came) => {
            open.1 = false;
            return Ok(Done(came));
        }
        Err(failed) => failed,
    };
    // Without an answer to BEGIN there is nothing to undo. Some errors undo everything by themselves, and then there is not
    // either: which of them do is not ours to know, so that a connection that cannot be undone is closed.
    open.1 = came > 0 && (&mut *open.0).execute("ROLLBACK").await.is_err();
    Err(failed(error))
}

/// Runs the text; gives what came of the statements between its first and its last, or of how many there was an answer
/// before the error.
async fn stream(
    connection: &mut PoolConnection<Sqlite>,
    text: String,
    values: Vec<Value>,
    count: usize,
) -> Result<Vec<Came>, (usize, sqlx::Error)> {
    let query = sqlx::query_with(AssertSqlSafe(text), SqlxValues(Values(values)));
    // `Query::fetch_many` is deprecated for what other databases make of several statements; this is one of the driver.
    let mut answers = (&mut **connection).fetch_many(query);
    let (mut came, mut rows) = (Vec::with_capacity(count + 2), Vec::new());
    loop {
        match answers.try_next().await {
            Ok(Some(Either::Right(row))) => rows.push(row.into()),
            Ok(Some(Either::Left(result))) => {
                came.push(Came { affected: result.rows_affected(), rows: std::mem::take(&mut rows) });
            }
            Ok(None) if came.len() == count + 2 => break,
            // The connection's thread is gone.
            Ok(None) => return Err((came.len(), sqlx::Error::WorkerCrashed)),
            Err(error) => return Err((came.len(), error)),
        }
    }
    came.truncate(count + 1);
    came.remove(0);
    Ok(came)
}

fn failed(error: sqlx::Error) -> DbErr {
    DbErr::Exec(RuntimeErr::SqlxError(error.into()))
}

/// Appends a statement with a place of its own for each mention of a value; `$1` in quotes is text. Places without a number
/// are what many values are bound to fast: SQLite looks for a numbered one in a list, from its beginning.
fn unfold(line: &Line, text: &mut String, values: &mut Vec<Value>) {
    let mut rest = line.sql.as_str();
    while let Some(at) = rest.find(['$', '\'', '"']) {
        let (plain, marked) = rest.split_at(at);
        let (mark, after) = marked.split_at(1);
        text.push_str(plain);
        let length = if mark == "$" {
            let digits = after.bytes().take_while(u8::is_ascii_digit).count();
            let number = after[..digits].parse::<usize>().ok();
            let value = number.and_then(|number| line.values.get(number.checked_sub(1)?));
            // One that is missing is no value, as SQLite has it.
            values.push(value.cloned().unwrap_or(Value::BigInt(None)));
            text.push('?');
            digits
        } else {
            let quoted = after.find(mark).map_or(after.len(), |end| end + 1);
            text.push_str(mark);
            text.push_str(&after[..quoted]);
            quoted
        };
        rest = &after[length..];
    }
    text.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_one_text_with_one_list_of_values() {
        let mut script = Script::default();
        let first = script.change(
            "UPDATE a SET b = $2, c = '$1 isn''t \"' WHERE d = $1 OR d = $2",
            vec![1.into(), 2.into()],
        );
        let second = script.ask("SELECT \"$1\" FROM a WHERE b = $1", vec![3.into()]);
        assert_eq!((first, second), (Step(0), Step(1)));
        let (text, values) = script.text();
        drop(script);
        assert_eq!(
            text,
            "BEGIN IMMEDIATE; UPDATE a SET b = ?, c = '$1 isn''t \"' WHERE d = ? OR d = ?; \
             SELECT \"$1\" FROM a WHERE b = ?; COMMIT"
        );
        assert_eq!(values, [2.into(), 1.into(), 2.into(), 3.into()]);
    }
}
