//! The tables of messages due to be sent, of every step of every try, and of captured mail.

/// How far the present try has come; durable before the final dot.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
    sea_orm::EnumIter,
    sea_orm::DeriveActiveEnum,
)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Not begun.
    Idle,
    /// Connected or connecting; the final dot is not out.
    Begun,
    /// The final dot may be out: without an answer nobody knows.
    Dot,
}

/// Messages due to be sent.
pub mod delivery {
    use sea_orm::{ExprTrait, IntoSimpleExpr, entity::prelude::*};

    use crate::{
        clock::Timestamp,
        delivery::entity::Phase,
        id::{CalendarId, MessageId},
    };

    /// One message's way out.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "deliveries")]
    pub struct Model {
        /// The message.
        #[sea_orm(primary_key, auto_increment = false)]
        pub message_id: MessageId,
        /// The envelope sender; empty for the null path.
        pub envelope_from: String,
        /// `[{address, state, code, text}]`: who is still to get it, and who got it.
        pub recipients: Json,
        /// 0 answers, 1 triggered sends, 2 broadcasts.
        pub precedence: i32,
        /// Whether an uncertain try is tried again (at least once) or left (at most once).
        pub repeatable: bool,
        /// How far the present try has come.
        pub phase: Phase,
        /// When it is tried next; none when it is settled or held.
        pub due_at: Option<Timestamp>,
        /// Until when a process holds it.
        pub lease_until: Timestamp,
        /// How often it was leased: the fence for settling.
        pub attempts: i64,
        /// How often a server was asked to take it.
        pub tries: i64,
        /// When it is given up.
        pub expires_at: Timestamp,
        /// The calendar that must be open when it goes out; any time will do when there is none.
        pub window_calendar_id: Option<CalendarId>,
        /// The last SMTP reply code.
        pub last_code: Option<i32>,
        /// The server's last words.
        pub last_text: Option<String>,
        /// When it was made.
        pub created_at: Timestamp,
        /// When it was last changed.
        pub updated_at: Timestamp,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}

    /// Deliveries in the middle of a try, as the index on them needs it (see [`crate::db::literally`]).
    pub fn is_begun() -> Expr {
        ExprTrait::ne(Column::Phase.into_simple_expr(), Expr::Constant(Phase::Idle.into()))
    }
}

/// Every step of every try: a message's timeline.
pub mod step {
    use sea_orm::entity::prelude::*;

    use crate::{clock::Timestamp, id::MessageId};

    /// One step.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "delivery_steps")]
    pub struct Model {
        /// The row's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        /// The message.
        pub message_id: MessageId,
        /// Which try.
        pub attempt: i64,
        /// When.
        pub at: Timestamp,
        /// `connect`, `tls`, `ehlo`, `auth`, `mail`, `rcpt`, `data`, `dot`, `quit`, or a state change.
        pub verb: String,
        /// The SMTP reply code.
        pub code: Option<i32>,
        /// The enhanced status code (RFC 3463).
        pub enhanced: Option<String>,
        /// The server's words, or ours.
        pub text: String,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Mail that was kept instead of sent.
pub mod captured {
    use sea_orm::entity::prelude::*;

    use crate::{clock::Timestamp, id::MessageId};

    /// One captured message.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "captured_messages")]
    pub struct Model {
        /// The row's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        /// The message.
        pub message_id: MessageId,
        /// The envelope sender.
        pub envelope_from: String,
        /// The envelope recipients.
        pub recipients: Json,
        /// When.
        pub captured_at: Timestamp,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
