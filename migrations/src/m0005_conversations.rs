//! Conversations, their messages, the raw bytes, uploads for answers, notes and drafts.

crate::sql::migration!(UP, drops ["auto_answers", "drafts", "notes", "uploads", "raw_messages", "messages", "conversations"]);

const UP: &str = "
CREATE TABLE conversations (
    id {uuid} PRIMARY KEY,
    account_id {uuid} NOT NULL REFERENCES accounts (id),
    channel TEXT NOT NULL,
    state TEXT NOT NULL,
    subject TEXT NOT NULL,
    customer_name TEXT,
    customer_address TEXT,
    message_count BIGINT NOT NULL,
    last_message_id {uuid},
    last_message_at BIGINT NOT NULL,
    last_agent_id {uuid},
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX ix_conversations__customer ON conversations (customer_address);
CREATE INDEX ix_conversations__account ON conversations (account_id, id);
CREATE INDEX ix_conversations__last ON conversations (last_message_at, id);
CREATE INDEX ix_conversations__agent ON conversations (last_agent_id) WHERE last_agent_id IS NOT NULL;
CREATE TABLE messages (
    id {uuid} PRIMARY KEY,
    conversation_id {uuid} NOT NULL REFERENCES conversations (id),
    account_id {uuid} NOT NULL REFERENCES accounts (id),
    work_item_id {uuid},
    direction TEXT NOT NULL,
    channel TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    state_reason TEXT,
    classification TEXT NOT NULL,
    message_id_header TEXT,
    in_reply_to {json} NOT NULL,
    reference_ids {json} NOT NULL,
    from_name TEXT,
    from_address TEXT,
    reply_to {json} NOT NULL,
    to_addresses {json} NOT NULL,
    cc_addresses {json} NOT NULL,
    bcc_addresses {json} NOT NULL,
    subject TEXT NOT NULL,
    text TEXT NOT NULL,
    new_text TEXT NOT NULL,
    quoted_text TEXT NOT NULL,
    signature TEXT NOT NULL,
    html TEXT,
    attachments {json} NOT NULL,
    headers {json} NOT NULL,
    size_bytes BIGINT NOT NULL,
    author_id {uuid},
    auto_submitted TEXT,
    category TEXT,
    external_ref TEXT,
    retry_of {uuid},
    template_id {uuid},
    customer_id {uuid},
    campaign_id {uuid},
    send_at BIGINT,
    dated_at BIGINT,
    received_at BIGINT,
    sent_at BIGINT,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX ix_messages__conversation ON messages (conversation_id, id);
CREATE INDEX ix_messages__header ON messages (message_id_header, account_id, id, conversation_id);
CREATE INDEX ix_messages__retry_of ON messages (retry_of) WHERE retry_of IS NOT NULL;
CREATE INDEX ix_messages__state ON messages (direction, state, id);
CREATE INDEX ix_messages__external_ref ON messages (external_ref) WHERE external_ref IS NOT NULL;
CREATE INDEX ix_messages__customer ON messages (customer_id, id) WHERE customer_id IS NOT NULL;
CREATE INDEX ix_messages__campaign ON messages (campaign_id, id) WHERE campaign_id IS NOT NULL;
CREATE INDEX ix_messages__template ON messages (template_id, id) WHERE template_id IS NOT NULL;
CREATE TABLE raw_messages (
    message_id {uuid} PRIMARY KEY REFERENCES messages (id) ON DELETE CASCADE,
    size_bytes BIGINT NOT NULL,
    sha256 {bytes} NOT NULL,
    data {bytes},
    object_key TEXT
);
CREATE TABLE uploads (
    id {uuid} PRIMARY KEY,
    owner_id {uuid} NOT NULL,
    filename TEXT NOT NULL,
    content_type TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    data {bytes} NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX ix_uploads__created ON uploads (created_at);
CREATE TABLE notes (
    id {uuid} PRIMARY KEY,
    conversation_id {uuid} NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    work_item_id {uuid},
    author_id {uuid} NOT NULL,
    author_name TEXT NOT NULL,
    text TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX ix_notes__conversation ON notes (conversation_id, id);
CREATE TABLE drafts (
    work_item_id {uuid} PRIMARY KEY,
    author_id {uuid} NOT NULL,
    content {json} NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE auto_answers (
    account_id {uuid} NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    address TEXT NOT NULL,
    rule TEXT NOT NULL,
    answered_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, address, rule)
);
CREATE INDEX ix_auto_answers__at ON auto_answers (account_id, answered_at);
";
