//! A published template is revised in a draft of its own, and each revision keeps what it said. An older version that still
//! runs leaves that empty: such a revision says what its template says.
//!
//! When it is undone, drafts of revisions are gone, and broadcasts that began with an earlier revision say the latest.

crate::sql::migration!(UP, undone by DOWN);

const UP: &str = "
ALTER TABLE templates ADD COLUMN revises {uuid} REFERENCES templates (id) ON DELETE CASCADE;
CREATE UNIQUE INDEX uq_templates__revises ON templates (revises) WHERE revises IS NOT NULL;
ALTER TABLE template_revisions ADD COLUMN category TEXT NOT NULL DEFAULT 'transactional';
ALTER TABLE template_revisions ADD COLUMN subject TEXT NOT NULL DEFAULT '';
ALTER TABLE template_revisions ADD COLUMN text TEXT NOT NULL DEFAULT '';
ALTER TABLE template_revisions ADD COLUMN html TEXT;
ALTER TABLE template_revisions ADD COLUMN variants {json} NOT NULL DEFAULT '[]';
ALTER TABLE template_revisions ADD COLUMN fields {json} NOT NULL DEFAULT '[]';
ALTER TABLE template_revisions ADD COLUMN attachments {json} NOT NULL DEFAULT '[]';
UPDATE template_revisions SET
    category = (SELECT category FROM templates WHERE id = template_id),
    subject = (SELECT subject FROM templates WHERE id = template_id),
    text = (SELECT text FROM templates WHERE id = template_id),
    html = (SELECT html FROM templates WHERE id = template_id),
    variants = (SELECT variants FROM templates WHERE id = template_id),
    fields = (SELECT fields FROM templates WHERE id = template_id),
    attachments = (SELECT attachments FROM templates WHERE id = template_id);
";

const DOWN: &str = "
ALTER TABLE template_revisions DROP COLUMN attachments;
ALTER TABLE template_revisions DROP COLUMN fields;
ALTER TABLE template_revisions DROP COLUMN variants;
ALTER TABLE template_revisions DROP COLUMN html;
ALTER TABLE template_revisions DROP COLUMN text;
ALTER TABLE template_revisions DROP COLUMN subject;
ALTER TABLE template_revisions DROP COLUMN category;
UPDATE broadcasts SET template_id = (SELECT revises FROM templates WHERE id = template_id)
    WHERE template_id IN (SELECT id FROM templates WHERE revises IS NOT NULL);
DELETE FROM templates WHERE revises IS NOT NULL;
DROP INDEX uq_templates__revises;
ALTER TABLE templates DROP COLUMN revises;
";
