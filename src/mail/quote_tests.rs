//! What counts as new, quoted and signature in the mails that clients really write.

use proptest::prelude::*;

use super::*;

fn check(text: &str, new_text: &str, quoted_starts: &str, signature: &str) {
    let split = split(text);
    assert_eq!(split.rejoin(), text, "nothing may be lost");
    assert_eq!(split.new_text.trim(), new_text, "new text of {text:?}");
    assert_eq!(split.signature.trim(), signature, "signature of {text:?}");
    if quoted_starts.is_empty() {
        assert_eq!(split.quoted_text, "", "no quote in {text:?}");
    } else {
        let quoted = split.quoted_text.trim_start();
        assert!(quoted.starts_with(quoted_starts), "{quoted:?} should start with {quoted_starts:?}");
    }
}

#[test]
fn a_plain_text_is_all_new() {
    check("Hello,\n\nwhere is my order?\n", "Hello,\n\nwhere is my order?", "", "");
    check("", "", "", "");
}

#[test]
fn every_language_of_attribution_begins_the_quote() {
    let attributions = [
        "On Mon, 6 May 2024 at 10:12, Support <support@example.com> wrote:",
        "On 06/05/2024 10:12, Support wrote:",
        "Am 06.05.2024 um 10:12 schrieb Support <support@example.com>:",
        "Am Mo., 6. Mai 2024 um 10:12 Uhr schrieb Support <support@example.com>:",
        "Le lun. 6 mai 2024 à 10:12, Support <support@example.com> a écrit :",
        "Le 06/05/2024 à 10:12, Support a écrit\u{a0}:",
        "El lun, 6 may 2024 a las 10:12, Support (<support@example.com>) escribió:",
        "Il giorno lun 6 mag 2024 alle ore 10:12 Support <support@example.com> ha scritto:",
        "Op ma 6 mei 2024 om 10:12 schreef Support <support@example.com>:",
        "Em seg., 6 de mai. de 2024 às 10:12, Support <support@example.com> escreveu:",
        "Den mån 6 maj 2024 kl 10:12 skrev Support <support@example.com>:",
        "6. mai 2024 kl. 10:12 skrev Support <support@example.com>:",
        "pon., 6 maj 2024 o 10:12 Support <support@example.com> napisał(a):",
        "пн, 6 мая 2024 г. в 10:12, Support <support@example.com> пишет:",
        "ma 6. toukok. 2024 klo 10.12 Support (support@example.com) kirjoitti:",
        "2024年5月6日(月) 10:12 Support <support@example.com>:",
        "Support <support@example.com> 于2024年5月6日周一 10:12写道：",
    ];
    for attribution in attributions {
        let text = format!("Thank you!\n\n{attribution}\n> Your order is on its way.\n> Regards\n");
        check(&text, "Thank you!", attribution, "");
    }
}

#[test]
fn an_attribution_that_the_client_wrapped_is_found() {
    let text = "Yes please.\n\nOn Mon, 6 May 2024 at 10:12, The Support Team of Example\n<support@example.com>\nwrote:\n\n> Shall we?\n";
    check(text, "Yes please.", "On Mon, 6 May 2024", "");
}

#[test]
fn a_sentence_that_only_looks_like_an_attribution_stays() {
    check(
        "On Monday my neighbour wrote:\nkeep the dog in.\n",
        "On Monday my neighbour wrote:\nkeep the dog in.",
        "",
        "",
    );
    check(
        "On your invoice 4711 I see this:\n\n20 EUR\n",
        "On your invoice 4711 I see this:\n\n20 EUR",
        "",
        "",
    );
}

#[test]
fn outlook_blocks_and_separators_begin_the_quote() {
    let blocks = [
        "-----Original Message-----\nFrom: Support\nSent: Monday\n\nHello",
        "-----Ursprüngliche Nachricht-----\nVon: Support\n\nHallo",
        "________________________________\nFrom: Support <support@example.com>\nSent: Monday, May 6, 2024 10:12 AM\nTo: Anna\nSubject: Order\n\nHello",
        "From: Support <support@example.com>\nSent: Monday, May 6, 2024 10:12 AM\nTo: Anna <anna@example.org>\nSubject: Order\n\nHello",
        "Von: Support <support@example.com>\nGesendet: Montag, 6. Mai 2024 10:12\nAn: Anna\nBetreff: Bestellung\n\nHallo",
        "De : Support <support@example.com>\nEnvoyé : lundi 6 mai 2024 10:12\nÀ : Anna\nObjet : Commande\n\nBonjour",
        "De: Support\nEnviado el: lunes, 6 de mayo de 2024 10:12\nPara: Ana\nAsunto: Pedido\n\nHola",
        "*From:* Support <support@example.com>\n*Sent:* Monday\n*To:* Anna\n\nHello",
        "---------- Forwarded message ---------\nFrom: Support\nDate: Mon\n\nHello",
    ];
    for block in blocks {
        check(&format!("My answer.\n\n{block}\n"), "My answer.", block, "");
    }
}

#[test]
fn a_from_line_in_prose_is_not_a_block() {
    check("From: Leeds\nTo: York\n\nI need a ticket.\n", "From: Leeds\nTo: York\n\nI need a ticket.", "", "");
}

#[test]
fn a_signature_is_cut_from_the_new_text() {
    check("Hi\n-- \nAnna Smith\nExample Ltd\n", "Hi", "", "-- \nAnna Smith\nExample Ltd");
    for footer in [
        "Sent from my iPhone",
        "Von meinem iPhone gesendet",
        "Envoyé de mon iPhone",
        "Get Outlook for iOS<https://aka.ms/x>",
    ] {
        check(&format!("Hi\n\n{footer}\n"), "Hi", "", footer);
    }
    let reply = "Hi\n\nSent from my iPhone\n\n> On 6 May 2024, at 10:12, Support <s@example.com> wrote:\n> \n> Hello\n";
    check(reply, "Hi", "> On 6 May 2024", "Sent from my iPhone");
    check("Hi\n\n> Hello\n\n-- \nAnna\n", "Hi", "> Hello", "-- \nAnna");
}

#[test]
fn a_rule_far_above_the_end_is_not_a_signature() {
    let text = format!("One\n--\n{}", "content\n".repeat(40));
    check(&text, text.trim(), "", "");
}

#[test]
fn an_answer_under_the_quote_is_new() {
    check(
        "On 6 May 2024, Support wrote:\n> Which size?\n\nMedium.\n-- \nAnna\n",
        "Medium.",
        "On 6 May 2024",
        "-- \nAnna",
    );
}

#[test]
fn an_answer_between_the_quotes_keeps_everything() {
    let text = "On 6 May 2024, Support wrote:\n> Which size?\nMedium.\n> Which colour?\nBlue.\n";
    check(text, text.trim(), "", "");
    let with_intro = format!("See below.\n\n{text}");
    check(&with_intro, with_intro.trim(), "", "");
}

#[test]
fn a_forward_without_a_word_stays_readable() {
    let text = "---------- Forwarded message ---------\nFrom: A\nDate: B\nTo: C\n\nThe content\n";
    check(text, text.trim(), "", "");
}

#[test]
fn windows_line_ends_change_nothing() {
    check("Thanks\r\n\r\nOn 6 May 2024, Bob wrote:\r\n> Hi\r\n", "Thanks", "On 6 May 2024", "");
}

#[test]
fn a_hostile_text_is_split_in_linear_time() {
    let text = "On 1 a\n".repeat(60_000);
    let began = std::time::Instant::now();
    assert_eq!(split(&text).rejoin(), text);
    assert!(began.elapsed().as_secs() < 20);
}

proptest! {
    #[test]
    fn no_character_is_ever_lost(text in any::<String>()) {
        prop_assert_eq!(split(&text).rejoin(), text);
    }

    #[test]
    fn no_line_is_ever_lost(picks in proptest::collection::vec(0_usize..14, 0..24)) {
        let lines = ["> q\n", "> \n", "\n", "new\n", "-- \n", "Anna\r\n", "On 6 May 2024, Bob wrote:\n", "Sent from my iPhone\n",
            "From: a\n", "Sent: b\n", "To: c\n", "-----Original Message-----\n", "__________________\n", "no end"];
        let text: String = picks.iter().map(|&i| lines[i]).collect();
        let split = split(&text);
        prop_assert_eq!(split.rejoin(), text.clone());
        prop_assert!(text.trim().is_empty() || !split.new_text.trim().is_empty());
    }
}
