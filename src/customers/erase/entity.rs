//! The tables of erasures that are not finished.

/// Customers whose messages are still to be emptied.
pub mod erasure {
    use sea_orm::entity::prelude::*;

    use crate::{clock::Timestamp, id::CustomerId};

    /// One erasure; gone when it is finished.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "erasures")]
    pub struct Model {
        /// The customer, whose record may be deleted by now.
        #[sea_orm(primary_key, auto_increment = false)]
        pub customer_id: CustomerId,
        /// When it was asked for: what came later stays.
        pub asked_at: Timestamp,
        /// When it goes on.
        pub due_at: Option<Timestamp>,
        /// Until when a process holds it.
        pub lease_until: Timestamp,
        /// How often it was leased: the fence for settling.
        pub attempts: i64,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The conversations of an erasure that are still to be emptied.
pub mod erasure_conversation {
    use sea_orm::entity::prelude::*;

    use crate::id::{ConversationId, CustomerId};

    /// One conversation.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "erasure_conversations")]
    pub struct Model {
        /// The erasure.
        #[sea_orm(primary_key, auto_increment = false)]
        pub customer_id: CustomerId,
        /// The conversation.
        #[sea_orm(primary_key, auto_increment = false)]
        pub conversation_id: ConversationId,
        /// Whether all of it is emptied; else only what was sent to the customer, because it is another customer's, too.
        pub whole: bool,
        /// How often it was looked at in vain, because something of it is being sent or worked on.
        pub put_off: i64,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
