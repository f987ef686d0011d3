//! The outgoing server: the one SMTP server that all accounts share, and whether mail can leave through it.
//!
//! `running` sends. `paused` needs a person: an administrator stopped it, or the server refuses our login or shows a bad
//! certificate. `failing` mends itself: the server is busy or cannot be reached, and is asked again at `retry_at`.

pub mod api;
pub mod check;
pub mod entity;
pub mod rate;
pub mod relay;
pub mod settings;
pub mod state;

use sea_orm::{ConnectionTrait, DbErr, EntityTrait};

use entity::outgoing_server;

/// The one row's key.
pub(crate) const ID: i32 = 1;

/// The outgoing server; none when no one has set it.
///
/// # Errors
/// Whatever the database says.
pub async fn find(db: &impl ConnectionTrait) -> Result<Option<outgoing_server::Model>, DbErr> {
    outgoing_server::Entity::find_by_id(ID).one(db).await
}
