//! The places under a rate are counted in microseconds: 35,000 messages a minute are not one every two milliseconds.

crate::sql::migration!(UP, undone by DOWN);

const UP: &str = "
ALTER TABLE outgoing_server RENAME COLUMN next_slot_at TO next_slot_us;
ALTER TABLE broadcasts RENAME COLUMN next_slot_at TO next_slot_us;
UPDATE outgoing_server SET next_slot_us = next_slot_us * 1000;
UPDATE broadcasts SET next_slot_us = next_slot_us * 1000;
";

const DOWN: &str = "
UPDATE outgoing_server SET next_slot_us = next_slot_us / 1000;
UPDATE broadcasts SET next_slot_us = next_slot_us / 1000;
ALTER TABLE outgoing_server RENAME COLUMN next_slot_us TO next_slot_at;
ALTER TABLE broadcasts RENAME COLUMN next_slot_us TO next_slot_at;
";
