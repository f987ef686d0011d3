//! The throttle of logins: each try is counted before its password is looked at, so that tries side by side count too.

use std::net::IpAddr;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, Statement};

use crate::{
    app::App,
    clock::Timestamp,
    http::problem::{Code, Problem},
};

/// Many people may share an address, so it may fail this many times as often as one name.
const PER_ADDRESS: i64 = 10;

/// A login that was counted and not yet decided.
#[derive(Debug)]
pub struct Attempt {
    name: String,
    address: Option<String>,
}

impl Attempt {
    /// Counts a try for the user name and the client's address.
    ///
    /// # Errors
    /// `login_throttled` when either has failed too often within the window.
    pub async fn begin(app: &App, username: &str, address: Option<IpAddr>) -> Result<Self, Problem> {
        let attempt = Self { name: format!("user:{username}"), address: address.map(subject_of) };
        let (now, limit) = (app.clock.now(), i64::from(app.config.auth.max_failed_logins));
        let window_s = app.config.auth.failed_login_window_s;
        let tx = app.db.begin().await?;
        let by_address = attempt.address.iter().map(|subject| (subject, limit.saturating_mul(PER_ADDRESS)));
        for (subject, limit) in std::iter::once((&attempt.name, limit)).chain(by_address) {
            let (count, since) = count(&tx, subject, now, window_s).await?;
            if count > limit {
                // The transaction is dropped: a refused try does not count, so that the window ends in time.
                let left = since.plus_s(window_s).since(now).as_secs().max(1);
                return Err(Problem::new(Code::LoginThrottled, "wait before the next try").retry_after(left));
            }
        }
        tx.commit().await?;
        Ok(attempt)
    }

    /// Forgets the failures of the name, and this try of the address.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn succeed(&self, tx: &DatabaseTransaction) -> Result<(), DbErr> {
        let run = |sql: &str, subject: &str| {
            Statement::from_sql_and_values(tx.get_database_backend(), sql, [subject.into()])
        };
        tx.execute_raw(run("DELETE FROM login_failures WHERE subject = $1", &self.name)).await?;
        if let Some(address) = &self.address {
            let uncount = "UPDATE login_failures SET count = count - 1 WHERE subject = $1";
            tx.execute_raw(run(uncount, address)).await?;
            tx.execute_raw(run("DELETE FROM login_failures WHERE subject = $1 AND count < 1", address))
                .await?;
        }
        Ok(())
    }
}

async fn count(
    tx: &DatabaseTransaction,
    subject: &str,
    now: Timestamp,
    window_s: i64,
) -> Result<(i64, Timestamp), DbErr> {
    let sql = "INSERT INTO login_failures (subject, count, window_start) VALUES ($1, 1, $2) \
               ON CONFLICT (subject) DO UPDATE SET \
               count = CASE WHEN login_failures.window_start <= $3 THEN 1 ELSE login_failures.count + 1 END, \
               window_start = CASE WHEN login_failures.window_start <= $3 THEN $2 ELSE login_failures.window_start END \
               RETURNING count, window_start";
    let over = now.plus_s(-window_s).as_millis();
    let values = [subject.into(), now.as_millis().into(), over.into()];
    let row =
        tx.query_one_raw(Statement::from_sql_and_values(tx.get_database_backend(), sql, values)).await?;
    let row = row.ok_or(DbErr::RecordNotInserted)?;
    Ok((row.try_get_by_index(0)?, Timestamp::from_millis(row.try_get_by_index(1)?)))
}

/// One household has a whole /64 of IPv6.
fn subject_of(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => format!("address:{address}"),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("address:{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_ipv6_network_count_together() {
        let subject = |text: &str| subject_of(text.parse().unwrap());
        assert_eq!(subject("2001:db8:1:2::1"), subject("2001:db8:1:2:ffff::9"));
        assert_ne!(subject("2001:db8:1:2::1"), subject("2001:db8:1:3::1"));
        assert_eq!(subject("::ffff:192.0.2.1"), subject("192.0.2.1"));
    }
}
