//! The sandbox's users, with passwords that everybody may know.

use crate::{
    access::users::{self, NewUser},
    app::App,
    http::caller::Role,
};

/// The password of all of them: the sandbox holds nothing worth guarding.
pub const PASSWORD: &str = "postroom-sandbox";
/// The administrator.
pub const ADMIN: &str = "admin";
/// The supervisor.
pub const SUPERVISOR: &str = "supervisor";
/// The agents, by login and shown name.
pub const AGENTS: [(&str, &str); 2] = [("anna", "Anna Acker"), ("ben", "Ben Brook")];

/// Makes the users. This is the one thing that is not done through the API, which needs somebody who is logged in.
pub async fn make(app: &App) -> anyhow::Result<()> {
    let password_hash = app.access.hashing.hash(PASSWORD).await?;
    let now = app.clock.now();
    let tx = app.db.begin().await?;
    let above = [(ADMIN, "Ada Admin", Role::Admin), (SUPERVISOR, "Sam Supervisor", Role::Supervisor)];
    let agents = AGENTS.map(|(username, shown)| (username, shown, Role::Agent));
    for (username, shown, role) in above.into_iter().chain(agents) {
        let new = NewUser {
            username: username.to_owned(),
            display_name: shown.to_owned(),
            email: Some(format!("{username}@shop.test")),
            role,
            password_hash: password_hash.clone(),
            must_change_password: false,
            disabled: false,
        };
        users::insert(&tx, now, new).await?;
    }
    tx.commit().await?;
    Ok(())
}
