//! Logging in to a relay (RFC 4954): PLAIN and LOGIN.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::connection::Connection;
use super::reply::Reply;
use super::transcript::Verb;
use super::{Auth, SmtpError};

pub(super) async fn log_in(connection: &mut Connection, auth: &Auth) -> Result<(), SmtpError> {
    let offers = |mechanism: &str| connection.extensions.auth.iter().any(|offered| offered == mechanism);
    let not_offered = || SmtpError::AuthNotOffered { offered: connection.extensions.auth.join(", ") };
    let reply = match auth {
        Auth::None => return Ok(()),
        Auth::Password { user, pass } if offers("PLAIN") => {
            let response = STANDARD.encode(format!("\0{user}\0{pass}"));
            converse(connection, &format!("AUTH PLAIN {response}"), &[]).await?
        }
        Auth::Password { user, pass } if offers("LOGIN") => {
            let answers = [STANDARD.encode(user), STANDARD.encode(pass)];
            converse(connection, "AUTH LOGIN", &answers).await?
        }
        Auth::Password { .. } => return Err(not_offered()),
    };
    if reply.is_positive() {
        Ok(())
    } else if reply.is_closing() {
        Err(SmtpError::Refused { at: Verb::Auth, reply })
    } else if reply.is_transient() {
        Err(SmtpError::AuthUnavailable(reply))
    } else {
        Err(SmtpError::AuthRejected(reply))
    }
}

/// Sends the command and an answer to each 334; only the last reply goes into the transcript.
async fn converse(
    connection: &mut Connection,
    command: &str,
    answers: &[String],
) -> Result<Reply, SmtpError> {
    let limit = connection.timeouts.command;
    let mut answers = answers.iter();
    let mut line = format!("{command}\r\n");
    loop {
        connection.write(Verb::Auth, line.as_bytes(), limit).await?;
        let reply = connection.raw_answer(Verb::Auth, limit).await?.into_reply();
        if reply.code != 334 {
            connection.note(Verb::Auth, &reply);
            return Ok(reply);
        }
        // `*` gives up (RFC 4954 §4); the server then answers 501.
        line = answers.next().map_or_else(|| "*\r\n".to_owned(), |answer| format!("{answer}\r\n"));
    }
}
