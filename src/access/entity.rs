//! The tables `users`, `refresh_tokens`, `api_keys`, `signing_keys` and `audit_log`.

/// People who log in.
pub mod user {
    use sea_orm::entity::prelude::*;

    use crate::{clock::Timestamp, http::caller::Role, id::UserId};

    /// One user.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "users")]
    pub struct Model {
        /// The user's id; also the agent's.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: UserId,
        /// The login name, in lower case.
        pub username: String,
        /// The name that others see.
        pub display_name: String,
        /// An address for notices.
        pub email: Option<String>,
        /// What the user may do.
        pub role: Role,
        /// argon2id, in PHC form.
        pub password_hash: String,
        /// Whether the password was given by somebody else and must be changed.
        pub must_change_password: bool,
        /// Whether logging in is refused.
        pub disabled: bool,
        /// The last successful login.
        pub last_login_at: Option<Timestamp>,
        /// The row's ETag.
        pub version: i64,
        /// When it was made.
        pub created_at: Timestamp,
        /// When it was last changed.
        pub updated_at: Timestamp,
        /// When the user was deleted; the row stays, because work and audit entries name it.
        pub deleted_at: Option<Timestamp>,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// What a login can be renewed with.
pub mod refresh_token {
    use sea_orm::entity::prelude::*;

    use crate::{clock::Timestamp, id::UserId};

    /// One token; each is used once and replaced by the next of its family.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "refresh_tokens")]
    pub struct Model {
        /// SHA-256 of the token.
        #[sea_orm(primary_key, auto_increment = false)]
        pub token_hash: Vec<u8>,
        /// The login it descends from.
        pub family_id: Uuid,
        /// Who logged in.
        pub user_id: UserId,
        /// When it was given out.
        pub created_at: Timestamp,
        /// Until when it can be used.
        pub expires_at: Timestamp,
        /// When it was used.
        pub used_at: Option<Timestamp>,
        /// When its family was revoked.
        pub revoked_at: Option<Timestamp>,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Keys of other systems.
pub mod api_key {
    use sea_orm::entity::prelude::*;

    use crate::{clock::Timestamp, id::ApiKeyId};

    /// One key.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "api_keys")]
    pub struct Model {
        /// The key's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: ApiKeyId,
        /// Its unique name.
        pub name: String,
        /// SHA-256 of the secret.
        pub secret_hash: Vec<u8>,
        /// The secret's first characters, to tell keys apart.
        pub hint: String,
        /// What it may do, as a list of scopes.
        pub scopes: Json,
        /// Until when it is accepted.
        pub expires_at: Option<Timestamp>,
        /// Since when it is refused.
        pub revoked_at: Option<Timestamp>,
        /// When it was last used, to the minute.
        pub last_used_at: Option<Timestamp>,
        /// Who made it: a user or another key.
        pub created_by: Option<Uuid>,
        /// The row's ETag.
        pub version: i64,
        /// When it was made.
        pub created_at: Timestamp,
        /// When it was last changed.
        pub updated_at: Timestamp,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Who did what.
pub mod audit_entry {
    use sea_orm::entity::prelude::*;

    use crate::{access::audit::Outcome, clock::Timestamp, id::AuditId};

    /// One entry.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "audit_log")]
    pub struct Model {
        /// The entry's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: AuditId,
        /// When.
        pub at: Timestamp,
        /// The user or API key; none when nobody was authenticated.
        pub actor_id: Option<Uuid>,
        /// Its name at that time.
        pub actor_name: String,
        /// The `operationId`.
        pub action: String,
        /// The kind of resource.
        pub subject_type: Option<String>,
        /// The resource.
        pub subject_id: Option<String>,
        /// How it ended.
        pub outcome: Outcome,
        /// More, without texts of customers and without secrets.
        pub details: Json,
        /// The request.
        pub request_id: Option<String>,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Keys that sign access tokens.
pub mod signing_key {
    use sea_orm::entity::prelude::*;

    use crate::clock::Timestamp;

    /// One key pair.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "signing_keys")]
    pub struct Model {
        /// The key's id, in the token's header.
        #[sea_orm(primary_key, auto_increment = false)]
        pub kid: String,
        /// The private key (PKCS #8), sealed.
        pub private_key_sealed: Vec<u8>,
        /// The public key, 32 bytes (RFC 8032).
        pub public_key: Vec<u8>,
        /// When it was made.
        pub created_at: Timestamp,
        /// Until when it signs.
        pub signs_until: Timestamp,
        /// Until when it is published, so that its last tokens stay valid.
        pub published_until: Timestamp,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
