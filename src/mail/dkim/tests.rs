use std::collections::HashMap;

use ring::signature::{ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm};
use rsa::{
    RsaPrivateKey,
    pkcs1::EncodeRsaPrivateKey,
    pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding},
};

use super::*;

/// Made for these tests only.
const RSA_PEM: &str = "\
-----BEGIN PRIVATE KEY-----
MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDLWav3x/8uldX6
iLHBMjIcpUly03JlNuq7eHe5sRqgOWJMKJvmcXetENe6QAzvvhMXa4eI12Gle7gI
CziY1aZK7zmPT0qQGuU/VfvN6vagOk45l/+5MQopqC5526nRgw0Eqne74v2AO2sb
j7DUc2K3D5Hg2SFo9lNiZAWVztd91e3d8MpRVNgnnF5GZ6P2P5P+Bl2IvpabNibd
fNDCK/X/RtKAsqKismQmxPyHsI7UqisV1S37oZ8S2bZGzXnopvURXyw7eM0RS6RD
dFssK6Arr/vMqrfUMmW9mRzNwqxoJJq/qvW9AriP173/dx94IqN61R3Ec+Qs3228
GKunRwevAgMBAAECggEABASmmEPUcAg37TZsRMQIJ3bAp8sz1HosUz4DJ6EvRIE9
xwF6ayhM1BekG6MOXmJkIC9Yw0R2Qn3aWhZWrPZzzcFCYumPMJ/HbeP2ENCWxP3B
8/Nj8zXb3IzdNj038tLjG/d+XDEVD0adTDMfrGMHTVS6bjX8KgXMCgKt9ZLbwTnC
7iHgLVF9Mp9yFkXYM0OMd06RxKcva3vRdGewP00AnXX18qYSgugglti5mWwhQTHL
mxEFCjjl5xnt27hzqh0HCUf3nEJAfAs+13GHkJtmpR+iRRP3p0RKc8N7DxfATEte
I4kbcs2zqXM2G9whUcmxRmA3xYMJrdSjGIGiRiTjEQKBgQDt7DTMD9owdcNehOf7
+pp3A8QEDjgPWAGr9lPGchQ5i92/FAf65ByXIcSNMF2jkTWo6TdAJh9S3nP7RHUw
Q83uscQ59N4KzML0zl7/Pmt86pvikXOXw1K/Ced97+VcuR/HcaC08ELdDPtbaB7o
U4y+quWUMFvDCZ/PNbTgFQnv1wKBgQDazQDsbQkVMG9+VDF6S/Q9bRsxgKmzm+r0
PIf/PqWwf42RB9gXPfb2ichnAl+ic64S5+WqxYJF4QIbJw18u3HN+QHDYVGqr1YZ
310d1EGSDQhbgyAMpYrmivv8D1KobzuyHPdHV0u5rWNK2ueythQA3qofFKBLqmbG
bbucK86L6QKBgH+5JAbAI9OMBJuDIb5lo/JsNRgwQewKxKr6C7MmnrDd4uam7DnF
p4uCdy+MXVhnpbTNrflj/cDQ5tZmw7prS+vtxneOeny1u5sMBndjnPRsRc71YmaA
VrVzrbAvzqNeRi8dUraPnHVqeK1zUdRKte3NdH1/EGO9kOr92+HHqZP1AoGAOB1r
pzcvpSeO8K9XIS5prXdWChQdcdsDHzCHEIdYpzOPcyq32P4jYIdlxkVtkZRpiJ/A
31NYXeOfTqdtZhgMz+6U7S8Aau4c/vWyQ/wz9Okyw4WVqqiqPwZWKgckA97DSKL1
KG7TFQPK+1+5HLRl3PM+XkpD8iP5x9pMy3jQuEECgYEA1Q6Tuke6u5cTnBIILdpf
2J8sTt6lAZ20/eJLqLUWyTYTR+aan8PpVGbHFXKWYAtpgMM9smrD6y1KPNYdZuBM
YZmfeL5QNNKCka5aROexql30AqwW24UaBFE1ktny9SEk8lvlKzJk4sG46hM6m1YZ
CeKTic5dcfbDeJU3LnY2egU=
-----END PRIVATE KEY-----
";
/// Made for these tests only.
const ED25519_PEM: &str = "\
-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIGE3aMmd4N/bjevbmluBYgKlLBTYysG5QkU17TRCnldX
-----END PRIVATE KEY-----
";
/// A key on the curve P-256, made for these tests only.
const EC_PEM: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgp8foYIlgVCGyaapJ
g7iKdEpUfh9vTjYE61sGFu0wDqKhRANCAAQlGVzTN6sKCwRjgi2E2bjRrLCIL+Md
hUoSbSrLaaahOnFoJjuZ1872yZjw2dTh4FcjeooC2KkwmKrFCsSb2Pef
-----END PRIVATE KEY-----
";

const AT_S: i64 = 1_700_000_000;

const MAIL: &str = "From: Anna <anna@example.com>\r\nTo: ben@example.net\r\nCc: cleo@example.net\r\n\
    Subject: A long subject that is\r\n folded   over two lines\r\nDate: Tue, 14 Nov 2023 22:13:20 +0000\r\n\
    Message-ID: <1@example.com>\r\nReply-To: desk@example.com\r\nMIME-Version: 1.0\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    List-Unsubscribe: <https://example.com/u/abc>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\
    X-Mailer: none\r\n\r\nHello Ben,\r\n\r\nthis  is it. \r\n\r\n\r\n";

fn ed25519() -> Signer {
    Signer::new("example.com", "ed", ED25519_PEM).unwrap()
}

fn rsa() -> Signer {
    Signer::new("example.com", "rsa", RSA_PEM).unwrap()
}

fn signed(signer: &Signer, mail: &str) -> String {
    signer.sign(mail.as_bytes(), AT_S).unwrap() + mail
}

/// `tag=value` pairs without white space.
fn tags(text: &str) -> HashMap<String, String> {
    let pairs = text.split(';').filter_map(|tag| tag.split_once('='));
    let bare = |text: &str| text.chars().filter(|c| !c.is_ascii_whitespace()).collect::<String>();
    pairs.map(|(name, value)| (bare(name), bare(value))).collect()
}

fn public_key(record: &str) -> Vec<u8> {
    STANDARD.decode(&tags(record)["p"]).unwrap()
}

/// Checks the first signature of a mail whose `b=` is the last tag, as a receiver does (RFC 6376 section 6.1.3).
fn verifies(mail: &str, record: &str) -> bool {
    let Split { fields, body } = canonical::split(mail.as_bytes()).unwrap();
    let signature = fields.iter().find(|field| field.name == "DKIM-Signature").unwrap();
    let value = str::from_utf8(signature.value).unwrap();
    let tags = tags(value);
    assert_eq!(tags["c"], "relaxed/relaxed");

    let (mut data, mut taken) = (Vec::new(), HashMap::<&str, usize>::new());
    for name in tags["h"].split(':') {
        let used = taken.entry(name).or_default();
        if let Some(field) =
            fields.iter().rev().filter(|field| field.name.eq_ignore_ascii_case(name)).nth(*used)
        {
            canonical::write_field(*field, &mut data);
            data.extend_from_slice(b"\r\n");
        }
        *used += 1;
    }
    let unsigned = &value[..value.rfind(" b=").unwrap() + " b=".len()];
    canonical::write_field(Field { name: signature.name, value: unsigned.as_bytes() }, &mut data);

    let key = public_key(record);
    let digest = digest::digest(&digest::SHA256, &data);
    let (algorithm, key, message): (&dyn VerificationAlgorithm, &[u8], &[u8]) = match tags["a"].as_str() {
        "ed25519-sha256" => (&ED25519, &key, digest.as_ref()),
        // ring wants the RSAPublicKey within: what follows the header of SubjectPublicKeyInfo and of its bit string.
        "rsa-sha256" => (&RSA_PKCS1_2048_8192_SHA256, &key[24..], &data),
        other => panic!("{other}"),
    };
    let genuine =
        UnparsedPublicKey::new(algorithm, key).verify(message, &STANDARD.decode(&tags["b"]).unwrap());
    genuine.is_ok() && body_hash(body) == tags["bh"]
}

#[test]
fn the_example_that_rfc_8463_prints_is_genuine() {
    // Appendix A: the signed message of A.3 with its Ed25519 signature, and the key record of A.2.
    let mail = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n \
        d=football.example.com; i=@football.example.com;\r\n \
        q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n \
        subject : date : message-id : from : subject : date;\r\n \
        bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n \
        b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\r\n \
        Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==\r\n\
        From: Joe SixPack <joe@football.example.com>\r\nTo: Suzie Q <suzie@shopping.example.net>\r\n\
        Subject: Is dinner ready?\r\nDate: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n\
        Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n\r\n\
        Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n";
    let record = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    assert!(verifies(mail, record));
    assert!(!verifies(&mail.replace("dinner", "supper"), record));
    assert!(!verifies(&mail.replace("hungry", "thirsty"), record));
}

#[test]
fn the_private_key_of_rfc_8463_gives_the_record_that_it_prints() {
    let der = [
        &hex("302e020100300506032b657004220420")[..],
        &hex("9d61b19deffd5a60ba844af492ec2cc4"),
        &hex("4449c5697b326919703bac031cae7f60"),
    ]
    .concat();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der));
    let signer = Signer::new("football.example.com", "brisbane", &pem).unwrap();
    assert_eq!(signer.dns_name(), "brisbane._domainkey.football.example.com");
    assert_eq!(signer.dns_record(), "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn both_kinds_of_key_sign_so_that_their_published_record_verifies() {
    for signer in [ed25519(), rsa()] {
        let mail = signed(&signer, MAIL);
        assert!(verifies(&mail, &signer.dns_record()), "{mail}");
    }
    assert!(!verifies(&signed(&ed25519(), MAIL), "p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="));
}

#[test]
fn the_same_mail_and_second_give_the_same_field() {
    for signer in [ed25519(), rsa()] {
        assert_eq!(signed(&signer, MAIL), signed(&signer, MAIL));
    }
}

#[test]
fn the_field_says_who_signed_what_and_when() {
    let field = ed25519().sign(MAIL.as_bytes(), AT_S).unwrap();
    let tags = tags(field.strip_prefix("DKIM-Signature:").unwrap());
    let expected = [
        ("v", "1"),
        ("a", "ed25519-sha256"),
        ("c", "relaxed/relaxed"),
        ("d", "example.com"),
        ("s", "ed"),
        ("t", "1700000000"),
        (
            "h",
            "from:from:to:to:cc:cc:subject:subject:date:date:message-id:message-id:reply-to:reply-to:\
             mime-version:mime-version:content-type:content-type:\
             list-unsubscribe:list-unsubscribe:list-unsubscribe-post:list-unsubscribe-post",
        ),
    ];
    for (name, value) in expected {
        assert_eq!(tags[name], value, "{name}");
    }
    assert_eq!(tags.len(), expected.len() + 2, "only bh and b besides");
    assert_eq!(rsa().sign(MAIL.as_bytes(), -1).unwrap().matches("a=rsa-sha256;").count(), 1);
    assert!(rsa().sign(MAIL.as_bytes(), -1).unwrap().contains(" t=0;"), "there is no time before 1970");
}

#[test]
fn the_field_is_folded_into_short_lines_that_are_one_field() {
    for signer in [ed25519(), rsa()] {
        let field = signer.sign(MAIL.as_bytes(), AT_S).unwrap();
        let lines: Vec<&str> = field.strip_suffix("\r\n").unwrap().split("\r\n").collect();
        assert!(lines.iter().all(|line| (2..=78).contains(&line.len())), "{field}");
        assert!(lines[1..].iter().all(|line| line.starts_with(' ') && !line.trim().is_empty()), "{field}");
    }
}

#[test]
fn fields_that_are_absent_are_left_out_unless_adding_one_would_do_harm() {
    let field = ed25519().sign(b"From: anna@example.com\r\n\r\n", AT_S).unwrap();
    assert_eq!(
        tags(&field)["h"],
        "from:from:to:cc:subject:date:message-id:reply-to:mime-version:content-type:list-unsubscribe:\
         list-unsubscribe-post"
    );
    assert!(verifies(&(field + "From: anna@example.com\r\n\r\n"), &ed25519().dns_record()));
}

#[test]
fn changing_any_signed_field_or_the_body_breaks_the_signature() {
    let mail = signed(&ed25519(), MAIL);
    let changes = [
        ("Anna <anna", "Eve <anna"),
        ("ben@", "eve@"),
        ("cleo@", "eve@"),
        ("two lines", "three lines"),
        ("+0000", "+0100"),
        ("<1@", "<2@"),
        ("desk@", "eve@"),
        ("text/plain", "text/html"),
        ("u/abc", "u/abd"),
        ("=One-Click", "=Two-Clicks"),
        ("Hello", "Hallo"),
        ("it. ", "it, "),
        ("d=example.com", "d=example.org"),
        ("t=1700000000", "t=1700000001"),
    ];
    for (from, to) in changes {
        let changed = mail.replacen(from, to, 1);
        assert_ne!(changed, mail, "{from}");
        assert!(!verifies(&changed, &ed25519().dns_record()), "{from} made {to}");
    }
}

#[test]
fn adding_one_more_of_the_fields_that_matter_breaks_the_signature() {
    let mail = signed(&ed25519(), MAIL);
    for name in [
        "From",
        "To",
        "Cc",
        "Subject",
        "Date",
        "Message-ID",
        "Reply-To",
        "MIME-Version",
        "Content-Type",
        "List-Unsubscribe",
        "List-Unsubscribe-Post",
    ] {
        for changed in [
            format!("{name}: x\r\n{mail}"),
            mail.replacen("X-Mailer:", &format!("{name}: x\r\nX-Mailer:"), 1),
        ] {
            assert!(!verifies(&changed, &ed25519().dns_record()), "{name}");
        }
    }
}

#[test]
fn what_relays_do_on_the_way_leaves_the_signature_whole() {
    let mail = signed(&ed25519(), MAIL);
    let changed = [
        format!("Received: from a by b; Tue, 14 Nov 2023 22:13:21 +0000\r\n{mail}"),
        mail.replacen(
            "Subject: A long subject that is\r\n folded",
            "SUBJECT:A long subject\r\n\tthat is folded",
            1,
        ),
        mail.replacen("it. \r\n\r\n\r\n", "it.\r\n", 1),
        mail.replacen("this  is", "this \t is", 1),
        mail.replacen("X-Mailer: none\r\n", "", 1),
    ];
    for changed in changed {
        assert_ne!(changed, mail);
        assert!(verifies(&changed, &ed25519().dns_record()), "{changed}");
    }
}

#[test]
fn repeated_fields_are_signed_from_the_last_to_the_first() {
    let mail = signed(&ed25519(), "From: a@example.com\r\nCc: one@x.org\r\nCc: two@x.org\r\n\r\nHi\r\n");
    assert!(mail.contains("cc:cc:cc"), "{mail}");
    assert!(verifies(&mail, &ed25519().dns_record()));
    let swapped = mail.replace("one", "three").replace("two", "one").replace("three", "two");
    assert!(!verifies(&swapped, &ed25519().dns_record()));
}

#[test]
fn empty_and_blank_bodies_are_signed() {
    for body in ["", "\r\n\r\n", "\r\n\r\n\r\n \r\n", "\r\n\r\nno line end"] {
        let mail = signed(&rsa(), &format!("From: a@example.com{body}"));
        assert!(verifies(&mail, &rsa().dns_record()), "{body:?}");
    }
}

#[test]
fn a_message_without_from_or_with_a_broken_form_is_refused() {
    let cases = [
        ("To: a@example.com\r\n\r\nHi", DkimError::NoFrom),
        ("", DkimError::NoFrom),
        ("From: a@example.com\n\nHi", DkimError::LineBreak),
        ("From: a@example.com\r\nno colon\r\n\r\nHi", DkimError::Header),
    ];
    for (mail, error) in cases {
        assert_eq!(ed25519().sign(mail.as_bytes(), AT_S), Err(error), "{mail:?}");
    }
}

#[test]
fn bytes_beyond_utf_8_in_header_and_body_are_signed_as_they_are() {
    let raw = b"From: a@example.com\r\nSubject: caf\xe9\r\n\r\n\xff\xfe\r\n";
    assert!(ed25519().sign(raw, AT_S).is_ok());
    let other = b"From: a@example.com\r\nSubject: caf\xe8\r\n\r\n\xff\xfe\r\n";
    assert_ne!(ed25519().sign(raw, AT_S), ed25519().sign(other, AT_S));
}

#[test]
fn an_rsa_key_is_read_from_either_form_and_published_as_subject_public_key_info() {
    let key = RsaPrivateKey::from_pkcs8_pem(RSA_PEM).unwrap();
    let pkcs1 = key.to_pkcs1_pem(LineEnding::CRLF).unwrap();
    let signer = Signer::new("example.com", "rsa", &pkcs1).unwrap();
    assert_eq!(signed(&signer, MAIL), signed(&rsa(), MAIL));
    let published = key.to_public_key().to_public_key_der().unwrap();
    assert_eq!(public_key(&signer.dns_record()), published.as_bytes());
    assert!(signer.dns_record().starts_with("v=DKIM1; k=rsa; p="));
}

#[test]
fn generated_keys_can_sign_and_no_two_are_the_same() {
    for kind in [KeyKind::Ed25519, KeyKind::Rsa] {
        let [one, two] =
            [(); 2].map(|()| Signer::new("example.com", "new", &generate(kind).unwrap()).unwrap());
        assert_ne!(one.dns_record(), two.dns_record());
        assert!(verifies(&signed(&one, MAIL), &one.dns_record()));
        assert!(!verifies(&signed(&one, MAIL), &two.dns_record()));
    }
}

#[test]
fn what_is_no_usable_private_key_is_refused() {
    let small = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 1024).unwrap();
    let small = small.to_pkcs8_pem(LineEnding::LF).unwrap();
    let public = RsaPrivateKey::from_pkcs8_pem(RSA_PEM).unwrap().to_public_key();
    let public = public.to_public_key_pem(LineEnding::LF).unwrap();
    let cases = [
        ("", DkimError::NoKey),
        ("secret", DkimError::NoKey),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", DkimError::NoKey),
        (&RSA_PEM.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), DkimError::NoKey),
        (&public, DkimError::NoKey),
        (EC_PEM, DkimError::Algorithm),
        (&small, DkimError::KeySize),
    ];
    for (pem, error) in cases {
        assert_eq!(Signer::new("example.com", "s", pem).unwrap_err(), error, "{pem}");
    }
}

#[test]
fn domain_and_selector_must_be_host_names() {
    let long = format!("{}.example.com", ["a"; 120].join("."));
    for domain in [
        "",
        "localhost",
        "example..com",
        ".example.com",
        "-a.example",
        "a_b.example",
        "a;b.example",
        "a b.c",
        &long,
    ] {
        assert_eq!(Signer::new(domain, "s", ED25519_PEM).unwrap_err(), DkimError::Domain, "{domain}");
    }
    for selector in ["", "a b", "a;b", "a_b", "-a", "a.", "sélecteur", &"a".repeat(64)] {
        assert_eq!(
            Signer::new("example.com", selector, ED25519_PEM).unwrap_err(),
            DkimError::Selector,
            "{selector}"
        );
    }
    let signer = Signer::new("Bücher.Example", "2024.A", ED25519_PEM).unwrap();
    assert_eq!(signer.dns_name(), "2024.a._domainkey.xn--bcher-kva.example");
}

#[test]
fn a_from_domain_is_aligned_when_it_is_the_signing_domain_or_below_it() {
    let cases = [
        ("example.com", true),
        ("EXAMPLE.com", true),
        ("mail.example.com", true),
        ("a.b.example.com", true),
        ("notexample.com", false),
        ("example.com.evil.org", false),
        ("com", false),
        ("", false),
        ("example.org", false),
    ];
    for (domain, aligned) in cases {
        assert_eq!(ed25519().is_aligned(domain), aligned, "{domain}");
    }
    let signer = Signer::new("bücher.example", "s", ED25519_PEM).unwrap();
    assert!(signer.is_aligned("Post.BÜCHER.example") && signer.is_aligned("xn--bcher-kva.example"));
}

#[test]
fn the_private_key_is_not_shown_in_debug_output() {
    assert_eq!(format!("{:?}", ed25519()), "Signer { domain: \"example.com\", selector: \"ed\", .. }");
}
