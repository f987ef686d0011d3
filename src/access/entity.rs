//! The tables `users` and `signing_keys`.

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
