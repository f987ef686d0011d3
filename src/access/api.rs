//! Operations of access: logging in, users, API keys, the audit log.

mod keys;
mod login;
mod me;
mod trail;
mod users;

use utoipa_actix_web::service_config::ServiceConfig;

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(login::issue_token)
        .service(login::revoke_token)
        .service(login::get_jwks)
        .service(login::rotate_signing_key)
        .service(me::get_me)
        .service(me::change_password)
        .service(users::list_users)
        .service(users::create_user)
        .service(users::get_user)
        .service(users::update_user)
        .service(users::delete_user)
        .service(users::reset_user_password)
        .service(keys::list_api_keys)
        .service(keys::create_api_key)
        .service(keys::get_api_key)
        .service(keys::update_api_key)
        .service(keys::revoke_api_key)
        .service(trail::list_audit_entries);
}
