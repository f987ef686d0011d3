//! What routing is configured with: classes, skills, groups, agents, queues, calendars, scripts, variables, templates.
//!
//! `routing_stamp` has one row: a value that every change of scripts, calendars and variables makes anew.

crate::sql::migration!(UP, drops ["template_files", "template_revisions", "template_includes", "partial_includes", "template_partials", "templates", "routing_stamp", "variables", "script_versions", "scripts", "calendars", "queue_groups", "queues", "agent_skills", "agents", "group_members", "agent_groups", "skills", "classes"]);

const UP: &str = "
CREATE TABLE classes (
    id {uuid} PRIMARY KEY,
    name TEXT NOT NULL CONSTRAINT uq_classes__name UNIQUE,
    description TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE skills (
    id {uuid} PRIMARY KEY,
    name TEXT NOT NULL CONSTRAINT uq_skills__name UNIQUE,
    description TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE agent_groups (
    id {uuid} PRIMARY KEY,
    name TEXT NOT NULL CONSTRAINT uq_agent_groups__name UNIQUE,
    description TEXT NOT NULL,
    offer_timeout_s BIGINT NOT NULL,
    wrap_up_s BIGINT NOT NULL,
    auto_accept BOOLEAN NOT NULL,
    capacity_email INTEGER NOT NULL,
    capacity_sms INTEGER NOT NULL,
    missed_offer_action TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE group_members (
    group_id {uuid} NOT NULL REFERENCES agent_groups (id) ON DELETE CASCADE,
    agent_id {uuid} NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    PRIMARY KEY (group_id, agent_id)
);
CREATE INDEX ix_group_members__agent ON group_members (agent_id);
CREATE TABLE agents (
    id {uuid} PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    state TEXT NOT NULL,
    reason TEXT,
    state_changed_at BIGINT NOT NULL,
    idle_since BIGINT NOT NULL,
    last_offered_at BIGINT NOT NULL,
    capacity_email INTEGER,
    capacity_sms INTEGER,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE agent_skills (
    agent_id {uuid} NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
    skill_id {uuid} NOT NULL REFERENCES skills (id),
    level INTEGER NOT NULL,
    PRIMARY KEY (agent_id, skill_id)
);
CREATE INDEX ix_agent_skills__skill ON agent_skills (skill_id);
CREATE TABLE queues (
    id {uuid} PRIMARY KEY,
    name TEXT NOT NULL CONSTRAINT uq_queues__name UNIQUE,
    description TEXT NOT NULL,
    distribution TEXT NOT NULL,
    last_agent_first BOOLEAN NOT NULL,
    default_priority INTEGER NOT NULL,
    aging_s BIGINT,
    max_length BIGINT,
    max_wait_s BIGINT,
    service_level_target_s BIGINT,
    service_level_percent INTEGER,
    state TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE queue_groups (
    queue_id {uuid} NOT NULL REFERENCES queues (id) ON DELETE CASCADE,
    group_id {uuid} NOT NULL REFERENCES agent_groups (id),
    PRIMARY KEY (queue_id, group_id)
);
CREATE INDEX ix_queue_groups__group ON queue_groups (group_id);
CREATE TABLE calendars (
    id {uuid} PRIMARY KEY,
    name TEXT NOT NULL CONSTRAINT uq_calendars__name UNIQUE,
    description TEXT NOT NULL,
    timezone TEXT NOT NULL,
    entries {json} NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE scripts (
    id {uuid} PRIMARY KEY,
    name TEXT NOT NULL CONSTRAINT uq_scripts__name UNIQUE,
    description TEXT NOT NULL,
    active_version_id {uuid},
    is_default BOOLEAN NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE script_versions (
    id {uuid} PRIMARY KEY,
    script_id {uuid} NOT NULL REFERENCES scripts (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    description TEXT NOT NULL,
    state TEXT NOT NULL,
    locked BOOLEAN NOT NULL,
    author TEXT NOT NULL,
    definition {json} NOT NULL,
    activated_at BIGINT,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CONSTRAINT uq_script_versions__number UNIQUE (script_id, number)
);
CREATE UNIQUE INDEX uq_scripts__is_default ON scripts (is_default) WHERE is_default;
CREATE UNIQUE INDEX uq_script_versions__active ON script_versions (script_id) WHERE state = 'active';
CREATE TABLE variables (
    id {uuid} PRIMARY KEY,
    name TEXT NOT NULL CONSTRAINT uq_variables__name UNIQUE,
    type TEXT NOT NULL,
    value {json} NOT NULL,
    description TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE routing_stamp (
    id INTEGER PRIMARY KEY,
    stamp {uuid} NOT NULL
);
CREATE TABLE templates (
    id {uuid} PRIMARY KEY,
    name TEXT NOT NULL CONSTRAINT uq_templates__name UNIQUE,
    description TEXT NOT NULL,
    channel TEXT NOT NULL,
    purpose TEXT NOT NULL,
    category TEXT NOT NULL,
    subject TEXT NOT NULL,
    text TEXT NOT NULL,
    html TEXT,
    variants {json} NOT NULL,
    fields {json} NOT NULL,
    partials {json} NOT NULL,
    attachments {json} NOT NULL,
    revision BIGINT NOT NULL,
    state TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE template_partials (
    id {uuid} PRIMARY KEY,
    name TEXT NOT NULL CONSTRAINT uq_template_partials__name UNIQUE,
    description TEXT NOT NULL,
    text TEXT NOT NULL,
    html TEXT,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE template_includes (
    template_id {uuid} NOT NULL REFERENCES templates (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    PRIMARY KEY (template_id, name)
);
CREATE INDEX ix_template_includes__name ON template_includes (name);
CREATE TABLE partial_includes (
    partial_id {uuid} NOT NULL REFERENCES template_partials (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    PRIMARY KEY (partial_id, name)
);
CREATE INDEX ix_partial_includes__name ON partial_includes (name);
CREATE TABLE template_revisions (
    template_id {uuid} NOT NULL REFERENCES templates (id) ON DELETE CASCADE,
    revision BIGINT NOT NULL,
    partials {json} NOT NULL,
    published_at BIGINT NOT NULL,
    PRIMARY KEY (template_id, revision)
);
CREATE TABLE template_files (
    id {uuid} PRIMARY KEY,
    template_id {uuid} NOT NULL REFERENCES templates (id) ON DELETE CASCADE,
    sha256 {bytes} NOT NULL,
    data {bytes},
    object_key TEXT
);
CREATE INDEX ix_template_files__template ON template_files (template_id);
";
