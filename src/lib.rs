//! Postroom: the e-mail side of a contact centre, as a REST service.
//!
//! Calls go one way: `main → app → {api, workers} → features → {mail, http, db, lease, clock}`. Between features only
//! the edges in [`FEATURE_EDGES`] are allowed; a test reads the `use` lines and fails on any other.

pub mod access;
pub mod accounts;
pub mod agents;
pub mod answers;
pub mod api;
pub mod app;
pub mod attempts;
pub mod broadcasts;
pub mod campaigns;
pub mod classes;
pub mod clock;
pub mod config;
pub mod conversations;
pub mod customers;
pub mod db;
pub mod delivery;
pub mod dkim;
pub mod events;
pub mod feedback;
pub mod housekeeping;
pub mod http;
pub mod id;
pub mod inbound;
pub mod instance;
pub mod language;
pub mod lease;
pub mod mail;
pub mod outgoing;
pub mod queues;
pub mod raw;
pub mod receipts;
pub mod sandbox;
pub mod scripts;
pub mod secret;
pub mod sends;
pub mod service;
pub mod shutdown;
pub mod suppressions;
pub mod telemetry;
pub mod templates;
pub mod together;
pub mod unsubscribes;
pub mod work;
pub mod workers;

/// Which feature may call which, besides everybody's `events` and `access`. Nothing else is allowed.
pub const FEATURE_EDGES: &[(&str, &[&str])] = &[
    ("access", &["agents", "work"]),
    ("accounts", &[]),
    ("agents", &["scripts", "work"]),
    ("answers", &["accounts", "conversations", "suppressions", "work"]),
    (
        "attempts",
        &[
            "accounts",
            "campaigns",
            "conversations",
            "customers",
            "scripts",
            "sends",
            "suppressions",
            "templates",
        ],
    ),
    (
        "broadcasts",
        &[
            "accounts",
            "campaigns",
            "conversations",
            "customers",
            "delivery",
            "outgoing",
            "scripts",
            "sends",
            "suppressions",
            "templates",
        ],
    ),
    ("campaigns", &["accounts", "conversations", "customers", "delivery", "scripts", "templates"]),
    ("classes", &["scripts"]),
    ("conversations", &["accounts", "delivery", "dkim", "work"]),
    // Erasing a customer reaches all that is kept of them.
    (
        "customers",
        &[
            "accounts",
            "broadcasts",
            "campaigns",
            "conversations",
            "delivery",
            "receipts",
            "suppressions",
            "work",
        ],
    ),
    (
        "delivery",
        &["accounts", "broadcasts", "conversations", "customers", "dkim", "outgoing", "suppressions"],
    ),
    ("dkim", &["accounts"]),
    ("events", &[]),
    ("feedback", &["broadcasts", "conversations", "delivery", "suppressions"]),
    (
        "inbound",
        &[
            "accounts",
            "broadcasts",
            "conversations",
            "customers",
            "feedback",
            "receipts",
            "suppressions",
            "work",
        ],
    ),
    ("outgoing", &["accounts", "dkim"]),
    ("queues", &["agents", "scripts", "work"]),
    ("receipts", &["accounts", "conversations", "templates"]),
    (
        "scripts",
        &["accounts", "agents", "campaigns", "classes", "conversations", "queues", "templates", "work"],
    ),
    ("sends", &["accounts", "campaigns", "conversations", "customers", "suppressions", "templates"]),
    ("suppressions", &["accounts", "campaigns", "conversations"]),
    ("templates", &["accounts", "campaigns", "conversations", "customers", "scripts"]),
    ("unsubscribes", &["broadcasts", "conversations", "suppressions"]),
    ("work", &["accounts", "agents", "classes", "conversations", "queues", "receipts", "scripts"]),
];
