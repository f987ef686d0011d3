//! Delivery reports of many servers, collected by others: whom they are about, and whether that is found.
//!
//! `tools/bounce-corpus.sh` fetches them; `POSTROOM_TEST_BOUNCES` names their folder. What each one says is in
//! `tests/fixtures/bounces.json`: addresses that the server gave up, and those it goes on trying, domains in any case.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use postroom::mail::{
    address::comparable,
    report::{self, Action, Report},
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    failed: BTreeSet<String>,
    delayed: BTreeSet<String>,
}

/// Reports that are not read as expected, and why.
const MISSED: &[(&str, &str)] = &[
    (
        "simple_20.txt",
        "nothing in its header but a subject that begins with `RE:` tells that a mail system sent it",
    ),
    ("yale_01.txt", "it names a mailbox without a domain; the collection guesses two domains for it"),
];
/// Mails among them that are no reports at all.
const NO_REPORTS: [&str; 2] = ["groupwise_03.txt", "qmail_08.txt"];

#[test]
fn reports_of_many_servers_name_their_recipients() {
    let Some(folder) = std::env::var_os("POSTROOM_TEST_BOUNCES").filter(|f| !f.is_empty()).map(PathBuf::from)
    else {
        println!("skipped: POSTROOM_TEST_BOUNCES names no folder; see tools/bounce-corpus.sh");
        return;
    };
    let expectations = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/bounces.json");
    let expectations: BTreeMap<String, Expected> =
        serde_json::from_str(&fs::read_to_string(expectations).unwrap()).unwrap();
    let (mut machine_readable, mut right, mut missed) = (0, 0, Vec::new());
    for (name, expected) in &expectations {
        let raw = raw(&folder, name);
        let report = report::read(&raw);
        let has_status = is_machine_readable(&raw);
        let is_right =
            (addresses(report.as_ref(), Action::Failed), addresses(report.as_ref(), Action::Delayed))
                == (lower_domains(&expected.failed), lower_domains(&expected.delayed));
        machine_readable += usize::from(has_status);
        right += usize::from(has_status && is_right);
        if !is_right {
            println!("{name}: expected {:?} {:?}, read {report:?}", expected.failed, expected.delayed);
            missed.push(name.as_str());
        }
    }
    let total = expectations.len();
    println!("machine-readable: {right} of {machine_readable}; all: {} of {total}", total - missed.len());
    assert_eq!(missed, MISSED.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    assert!(machine_readable >= 20 && right * 100 >= machine_readable * 95);
    for name in NO_REPORTS {
        assert_eq!(report::read(&raw(&folder, name)), None, "{name}");
    }
}

fn raw(folder: &Path, name: &str) -> Vec<u8> {
    fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn is_machine_readable(raw: &[u8]) -> bool {
    String::from_utf8_lossy(raw).to_ascii_lowercase().contains("content-type: message/delivery-status")
}

fn addresses(report: Option<&Report>, action: Action) -> BTreeSet<String> {
    let recipients = report.map(|report| report.recipients.as_slice()).unwrap_or_default();
    recipients.iter().filter(|r| r.action == action).map(|r| r.address.clone()).collect()
}

fn lower_domains(addresses: &BTreeSet<String>) -> BTreeSet<String> {
    addresses.iter().map(|address| comparable(address).into_owned()).collect()
}
