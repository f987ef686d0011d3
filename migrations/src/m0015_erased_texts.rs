//! Erasing a customer empties the messages that were exchanged with them: which conversations are still to be seen to.
//!
//! Whoever was erased before is seen to as well, as far as messages name them.

crate::sql::migration!(UP, undone by DOWN);

const UP: &str = "
ALTER TABLE messages ADD COLUMN erased_at BIGINT;
ALTER TABLE customers ADD COLUMN texts_erased_at BIGINT;
CREATE INDEX ix_events__offer ON events (subject_id) WHERE type IN ('offer.created', 'offer.accepted');
CREATE INDEX ix_offers__item ON offers (work_item_id);
CREATE INDEX ix_auto_answers__address ON auto_answers (address);
CREATE TABLE erasures (
    customer_id {uuid} PRIMARY KEY,
    asked_at BIGINT NOT NULL,
    due_at BIGINT,
    lease_until BIGINT NOT NULL DEFAULT 0,
    attempts BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX ix_erasures__due ON erasures (due_at) WHERE due_at IS NOT NULL;
CREATE TABLE erasure_conversations (
    customer_id {uuid} NOT NULL REFERENCES erasures (customer_id) ON DELETE CASCADE,
    conversation_id {uuid} NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    whole BOOLEAN NOT NULL,
    put_off BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (customer_id, conversation_id)
);
INSERT INTO erasures (customer_id, asked_at, due_at)
    SELECT id, erased_at, erased_at FROM customers WHERE erased_at IS NOT NULL;
INSERT INTO erasure_conversations (customer_id, conversation_id, whole)
    SELECT DISTINCT erasures.customer_id, messages.conversation_id, NOT EXISTS (
        SELECT 1 FROM messages AS other LEFT JOIN customers ON customers.id = other.customer_id
        WHERE other.conversation_id = messages.conversation_id AND other.customer_id <> erasures.customer_id
        AND customers.erased_at IS NULL)
    FROM erasures JOIN messages ON messages.customer_id = erasures.customer_id;
";

const DOWN: &str = "
DROP TABLE erasure_conversations;
DROP TABLE erasures;
DROP INDEX ix_auto_answers__address;
DROP INDEX ix_offers__item;
DROP INDEX ix_events__offer;
ALTER TABLE customers DROP COLUMN texts_erased_at;
ALTER TABLE messages DROP COLUMN erased_at;
";
