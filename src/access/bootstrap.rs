//! The first administrator, and those made from the command line.

use std::io::Write;

use anyhow::{Context, bail};
use sea_orm::{EntityTrait, PaginatorTrait};
use serde_json::json;

use super::{
    audit::Actor,
    entity::user,
    password,
    users::{self, NewUser},
};
use crate::{
    app::App,
    db::Tx,
    http::{Problem, caller::Role, problem::Code},
};

const USERNAME_RULE: &str =
    "use 1 to 100 of a-z, 0-9, '.', '_', '@', '+' and '-', beginning with a letter or a digit";

/// A user who has just been made, and the password to be shown once.
#[derive(Debug)]
pub struct FirstAdmin {
    /// The login name.
    pub username: String,
    /// Must be changed after the first login.
    pub one_time_password: String,
}

/// Makes the first administrator when there is no user yet, and prints the one-time password to standard output.
///
/// # Errors
/// Whatever the database says, or when the password cannot be printed.
pub async fn first_admin(app: &App) -> anyhow::Result<()> {
    if let Some(FirstAdmin { username, one_time_password }) = make_first_admin(app).await? {
        let mut out = std::io::stdout().lock();
        writeln!(out, "First administrator: {username}\nOne-time password:   {one_time_password}")?;
        out.flush()?;
    }
    Ok(())
}

/// On an empty database, makes the administrator that `auth.first_admin` names; none when there are users already.
///
/// # Errors
/// Whatever the database says.
pub async fn make_first_admin(app: &App) -> anyhow::Result<Option<FirstAdmin>> {
    let username = app.config.auth.first_admin.trim().to_lowercase();
    if username.is_empty() || user::Entity::find().count(app.db.read()).await? > 0 {
        return Ok(None);
    }
    if !is_username(&username) {
        bail!("auth.first_admin: {USERNAME_RULE}");
    }
    let one_time_password = password::one_time();
    let hash = app.access.hashing.hash(&one_time_password).await?;
    let tx = app.db.begin().await?;
    // On SQLite nobody can write between this look and the insert; on PostgreSQL the unique name decides.
    if user::Entity::find().count(&*tx).await? > 0 {
        return Ok(None);
    }
    match insert(app, tx, &username, hash, true).await {
        // Another replica started at the same moment and was first.
        Err(problem) if problem.code == Code::AlreadyExists => Ok(None),
        made => Ok(made.map(|()| Some(FirstAdmin { username, one_time_password }))?),
    }
}

/// Makes an administrator; without a password, one with a one-time password, which is given back.
///
/// # Errors
/// When the name or password does not fit, or the name is taken.
pub async fn create_admin(
    app: &App,
    username: &str,
    password: Option<&str>,
) -> anyhow::Result<Option<String>> {
    let username = username.trim().to_lowercase();
    if !is_username(&username) {
        bail!("--username: {USERNAME_RULE}");
    }
    if let Some(password) = password {
        let length = password.chars().count();
        if !(password::MIN_LENGTH..=password::MAX_LENGTH).contains(&length) {
            bail!("the password must have {} to {} characters", password::MIN_LENGTH, password::MAX_LENGTH);
        }
    }
    let one_time = password.is_none().then(password::one_time);
    let chosen = password.or(one_time.as_deref()).unwrap_or_default();
    let hash = app.access.hashing.hash(chosen).await?;
    let tx = app.db.begin().await?;
    insert(app, tx, &username, hash, one_time.is_some())
        .await
        .with_context(|| format!("the user {username:?} cannot be made"))?;
    Ok(one_time)
}

async fn insert(
    app: &App,
    tx: Tx,
    username: &str,
    password_hash: String,
    must_change_password: bool,
) -> Result<(), Problem> {
    let now = app.clock.now();
    let new = NewUser {
        username: username.to_owned(),
        display_name: username.to_owned(),
        email: None,
        role: Role::Admin,
        password_hash,
        must_change_password,
        disabled: false,
    };
    let made = users::insert(&tx, now, new).await?;
    let details = json!({ "username": username, "role": Role::Admin });
    Actor::system("postroom").record(&tx, now, "create_user", ("users", made.id), details).await?;
    Ok(tx.commit().await?)
}

fn is_username(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= 100 && text.starts_with(fits) && text.chars().all(|c| fits(c) || "._@+-".contains(c))
}
