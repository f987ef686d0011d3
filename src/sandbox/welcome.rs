//! What the sandbox says once it is ready.

use std::io::Write;

use serde::Serialize;

use super::people::{ADMIN, AGENTS, PASSWORD, SUPERVISOR};

/// Where the sandbox is and who may log in; the line of `--json`.
#[derive(Debug, Serialize)]
pub struct Welcome<'a> {
    url: &'a str,
    swagger_url: String,
    admin: Login,
    supervisor: Login,
    agents: Vec<Login>,
}

#[derive(Debug, Serialize)]
struct Login {
    username: &'static str,
    password: &'static str,
}

const fn login(username: &'static str) -> Login {
    Login { username, password: PASSWORD }
}

impl<'a> Welcome<'a> {
    pub fn new(url: &'a str) -> Self {
        Self {
            url,
            swagger_url: format!("{url}/swagger-ui/"),
            admin: login(ADMIN),
            supervisor: login(SUPERVISOR),
            agents: AGENTS.iter().map(|(username, _)| login(username)).collect(),
        }
    }

    /// Writes it to standard output.
    pub fn say(&self, json: bool) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        if json {
            writeln!(out, "{}", serde_json::to_string(self)?)?;
        } else {
            writeln!(out, "{}", self.text())?;
        }
        Ok(out.flush()?)
    }

    fn text(&self) -> String {
        let agents: Vec<&str> = self.agents.iter().map(|login| login.username).collect();
        format!(
            "The sandbox is ready: {swagger}\n\n\
             Authorize there with user name and password (leave the client fields empty):\n  \
             administrator  {ADMIN}\n  \
             supervisor     {SUPERVISOR}\n  \
             agents         {agents}\n  \
             password       {PASSWORD}   (for all of them)\n\n\
             What to try first, as anna:\n  \
             GET  /v1/offers                            mail that waits for her: an `id` and a `work_item_id`\n  \
             POST /v1/offers/{{id}}/accept                take it (no body)\n  \
             GET  /v1/work-items/{{work_item_id}}         who writes, and the `last_message_id`\n  \
             GET  /v1/messages/{{last_message_id}}        the text\n  \
             POST /v1/work-items/{{work_item_id}}/reply   {{ \"expected_last_message_id\": \"{{last_message_id}}\", \"text\": \"…\" }}\n  \
             POST /v1/work-items/{{work_item_id}}/complete  {{}}\n\
             And as admin:\n  \
             GET  /v1/outgoing-server/captured          what would have been sent\n  \
             GET  /v1/accounts                          the `id` of the account\n  \
             POST /v1/accounts/{{id}}/messages            a customer writes: the mail as message/rfc822\n  \
             POST /v1/sandbox/clock/advance             let time pass: {{ \"seconds\": 3600 }}\n\n\
             Nothing leaves this machine, and everything is gone when you press Ctrl-C.",
            swagger = self.swagger_url,
            agents = agents.join(", "),
        )
    }
}
