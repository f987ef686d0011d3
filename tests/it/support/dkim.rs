//! Receivers of signed mail: one written here from RFC 6376 alone, and dkimpy, which others wrote.

use std::{
    collections::HashMap,
    io::Write,
    process::{Command, Stdio},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{
    digest::{SHA256, digest},
    signature::{ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey},
};
use serde_json::{Value, json};

use super::Client;

/// Published records by name.
pub type Zone = HashMap<String, String>;

/// Makes a key of each kind for the domain, publishes and activates both.
pub async fn sign_for(admin: &Client, domain: &str) -> Zone {
    let mut zone = Zone::new();
    for algorithm in ["rsa", "ed25519"] {
        let body = json!({ "domain": domain, "selector": format!("{algorithm}-1"), "algorithm": algorithm });
        let key = admin.post("/v1/dkim-keys", body).await.ok();
        publish(&mut zone, &key);
        let path = format!("/v1/dkim-keys/{}/activate", key["id"].as_str().unwrap());
        assert_eq!(admin.post(&path, json!({})).await.ok()["state"], "active");
    }
    zone
}

pub fn publish(zone: &mut Zone, key: &Value) {
    zone.insert(key["dns_name"].as_str().unwrap().into(), key["dns_record"].as_str().unwrap().into());
}

/// The tags of the mail's signatures, each of which is genuine, in their order. dkimpy says so too, when this run has it.
pub fn genuine(raw: &[u8], zone: &Zone) -> Vec<HashMap<String, String>> {
    let found = signatures(raw);
    for (value, tags) in &found {
        let name = format!("{}._domainkey.{}", tags["s"], tags["d"]);
        let record = zone.get(&name).unwrap_or_else(|| panic!("{name} is not published"));
        assert!(verifies(raw, value, tags, record), "{name}: {}", String::from_utf8_lossy(raw));
    }
    if !found.is_empty() {
        confirm(raw, zone, found.len());
    }
    found.into_iter().map(|(_, tags)| tags).collect()
}

/// The algorithms of the mail's signatures by `domain`, all of which are genuine.
pub fn signed_by(raw: &[u8], zone: &Zone, domain: &str) -> Vec<String> {
    let mut algorithms: Vec<String> = genuine(raw, zone)
        .into_iter()
        .map(|tags| {
            assert_eq!(tags["d"], domain);
            tags["a"].clone()
        })
        .collect();
    algorithms.sort_unstable();
    algorithms
}

/// What both keys of [`sign_for`] give.
pub const BOTH: [&str; 2] = ["ed25519-sha256", "rsa-sha256"];

fn signatures(raw: &[u8]) -> Vec<(Vec<u8>, HashMap<String, String>)> {
    let (fields, _) = split(raw);
    let ours = fields.into_iter().filter(|(name, _)| name.eq_ignore_ascii_case("dkim-signature"));
    ours.map(|(_, value)| (value.clone(), tags(&String::from_utf8(value).unwrap()))).collect()
}

fn tags(text: &str) -> HashMap<String, String> {
    let bare = |text: &str| text.split_ascii_whitespace().collect::<String>();
    text.split(';').filter_map(|tag| tag.split_once('=')).map(|(n, v)| (bare(n), bare(v))).collect()
}

/// The header's fields, name and folded value, and the body.
fn split(raw: &[u8]) -> (Vec<(String, Vec<u8>)>, &[u8]) {
    let end = raw.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let mut fields: Vec<(String, Vec<u8>)> = Vec::new();
    for line in raw[..end].split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.first().is_some_and(|first| b" \t".contains(first)) {
            let (_, value) = fields.last_mut().unwrap();
            value.extend_from_slice(line);
        } else {
            let colon = line.iter().position(|byte| *byte == b':').unwrap();
            fields.push((String::from_utf8(line[..colon].to_vec()).unwrap(), line[colon + 1..].to_vec()));
        }
    }
    (fields, &raw[end + 4..])
}

/// `relaxed` white space: every run one space, none at the ends (`at_begin` keeps one there).
fn relaxed(text: &[u8], at_begin: bool) -> Vec<u8> {
    let words = text.split(|byte| b" \t".contains(byte)).filter(|word| !word.is_empty());
    let joined = words.collect::<Vec<_>>().join(&b' ');
    let begins = at_begin && !joined.is_empty() && text.first().is_some_and(|first| b" \t".contains(first));
    if begins { [&b" "[..], &joined].concat() } else { joined }
}

fn relaxed_body(body: &[u8]) -> Vec<u8> {
    let text: Vec<Vec<u8>> = body
        .split(|byte| *byte == b'\n')
        .map(|line| relaxed(line.strip_suffix(b"\r").unwrap_or(line), true))
        .collect();
    let kept = text.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
    text[..kept].iter().flat_map(|line| [&line[..], b"\r\n"].concat()).collect()
}

fn relaxed_field(name: &str, value: &[u8]) -> Vec<u8> {
    [name.to_ascii_lowercase().as_bytes(), b":", &relaxed(value, false)].concat()
}

fn verifies(raw: &[u8], value: &[u8], tags: &HashMap<String, String>, record: &str) -> bool {
    let (fields, body) = split(raw);
    let (mut signed, mut used) = (Vec::new(), HashMap::<String, usize>::new());
    for name in tags["h"].split(':') {
        let nth = used.entry(name.to_ascii_lowercase()).or_default();
        let mut named = fields.iter().rev().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        if let Some((name, value)) = named.nth(*nth) {
            signed.extend(relaxed_field(name, value));
            signed.extend_from_slice(b"\r\n");
        }
        *nth += 1;
    }
    let text = std::str::from_utf8(value).unwrap();
    let unsigned = &text[..text.rfind(" b=").unwrap() + 3];
    signed.extend(relaxed_field("dkim-signature", unsigned.as_bytes()));
    let record = self::tags(record);
    let key = STANDARD.decode(&record["p"]).unwrap();
    let signature = STANDARD.decode(&tags["b"]).unwrap();
    let is_genuine = match tags["a"].as_str() {
        "ed25519-sha256" => {
            let hash = digest(&SHA256, &signed);
            UnparsedPublicKey::new(&ED25519, &key).verify(hash.as_ref(), &signature)
        }
        // The RSAPublicKey within: what follows the headers of SubjectPublicKeyInfo and of its bit string.
        "rsa-sha256" => {
            UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &key[24..]).verify(&signed, &signature)
        }
        other => panic!("{other}"),
    };
    is_genuine.is_ok() && STANDARD.encode(digest(&SHA256, &relaxed_body(body))) == tags["bh"]
}

/// Has dkimpy check all signatures and, for mail that offers one click, Python's `email` its fields. `POSTROOM_TEST_PYTHON`
/// names the Python that has dkimpy; once it is named, it must have it.
fn confirm(raw: &[u8], zone: &Zone, signatures: usize) {
    let Some(python) = std::env::var_os("POSTROOM_TEST_PYTHON").filter(|path| !path.is_empty()) else {
        println!("not confirmed by dkimpy: POSTROOM_TEST_PYTHON names no Python; see tools/setup.sh");
        return;
    };
    let mut records = tempfile::NamedTempFile::new().unwrap();
    records.write_all(serde_json::to_string(zone).unwrap().as_bytes()).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/verify-dkim.py");
    let mut checking = Command::new(python)
        .args([script, "--aligned"])
        .arg(records.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    checking.stdin.take().unwrap().write_all(raw).unwrap();
    let checked = checking.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success(), "{said}{}", String::from_utf8_lossy(&checked.stderr));
    assert_eq!(said.lines().filter(|line| line.starts_with("verified: ")).count(), signatures, "{said}");
    let offers = mail_parser::MessageParser::default().parse(raw).unwrap();
    let offers = offers.header("List-Unsubscribe-Post").is_some();
    assert_eq!(said.contains("one click: "), offers, "{said}");
}
