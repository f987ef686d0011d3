//! Splits the text of a mail into what its author wrote now, the history quoted under or over it, and the signature.
//!
//! The split only cuts: put together again ([`Split::rejoin`]) the pieces give the text back, character by character.
//! When in doubt everything stays new text, because an agent who sees too much still sees the answer.

use std::sync::LazyLock;

use regex::{Regex, RegexSet};

/// Longest signature in lines; more than this after `-- ` is content.
const SIGNATURE_LINES: usize = 20;
/// How many of the last written lines may be a phone's "Sent from …".
const FOOTER_LINES: usize = 3;
/// How far a mail client's wrapping may spread one attribution.
const ATTRIBUTION_LINES: usize = 4;
/// Longest attribution in octets; anything longer is prose.
const ATTRIBUTION_LEN: usize = 400;

/// The order in which the three pieces stood in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// New text, signature, quoted text: the usual answer on top, or no quote at all.
    Top,
    /// New text, quoted text, signature.
    TopSignatureLast,
    /// Quoted text, new text, signature.
    Bottom,
}

/// The pieces of a text; a piece that is not there is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split<'a> {
    /// What the author wrote.
    pub new_text: &'a str,
    /// The quoted history with its attribution line.
    pub quoted_text: &'a str,
    /// The signature with its separator line.
    pub signature: &'a str,
    /// The order of the pieces.
    pub layout: Layout,
}

impl Split<'_> {
    /// The text that was split.
    pub fn rejoin(&self) -> String {
        match self.layout {
            Layout::Top => [self.new_text, self.signature, self.quoted_text],
            Layout::TopSignatureLast => [self.new_text, self.quoted_text, self.signature],
            Layout::Bottom => [self.quoted_text, self.new_text, self.signature],
        }
        .concat()
    }
}

/// Splits `text`, whose lines end in LF or CRLF; an answer written between the quoted lines stays whole.
pub fn split(text: &str) -> Split<'_> {
    let lines = lines(text);
    let Some(history) = find_history(&lines) else { return without_quote(text) };
    let cut = |line: usize| lines.get(line).map_or(text.len(), |l| l.start);
    let (before, after) = (&text[..cut(history.start)], &text[cut(history.end)..]);
    match (before.trim().is_empty(), after.trim().is_empty()) {
        // Nothing but history, such as a forward without a word: then that is what there is to read.
        (true, true) => all_new(text),
        (false, true) => {
            let (new_text, signature) = cut_signature(before);
            let quoted_text = &text[cut(history.start)..];
            if new_text.trim().is_empty() {
                return all_new(text);
            }
            Split { new_text, quoted_text, signature, layout: Layout::Top }
        }
        (true, false) => {
            let quoted_text = &text[..cut(history.end)];
            let (new_text, signature) = cut_signature(after);
            if new_text.trim().is_empty() {
                return all_new(text);
            }
            Split { new_text, quoted_text, signature, layout: Layout::Bottom }
        }
        (false, false) => match cut_signature(after) {
            (blank, signature) if blank.trim().is_empty() && !signature.is_empty() => {
                let quoted_text = &text[cut(history.start)..text.len() - signature.len()];
                Split { new_text: before, quoted_text, signature, layout: Layout::TopSignatureLast }
            }
            _ => without_quote(text),
        },
    }
}

struct Line<'a> {
    start: usize,
    text: &'a str,
}

impl Line<'_> {
    fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }

    fn is_quoted(&self) -> bool {
        self.text.trim_start_matches(' ').starts_with('>')
    }
}

/// The quoted history as a range of lines.
struct History {
    start: usize,
    end: usize,
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let mut start = 0;
    text.split_inclusive('\n')
        .map(|raw| {
            let line = Line { start, text: raw.trim_end_matches(['\n', '\r']) };
            start += raw.len();
            line
        })
        .collect()
}

fn without_quote(text: &str) -> Split<'_> {
    let (new_text, signature) = cut_signature(text);
    // A mail of nothing but a signature is shown as it is.
    if new_text.trim().is_empty() {
        return all_new(text);
    }
    Split { new_text, quoted_text: "", signature, layout: Layout::Top }
}

fn all_new(text: &str) -> Split<'_> {
    Split { new_text: text, quoted_text: "", signature: "", layout: Layout::Top }
}

/// Finds where history begins and, for history marked line by line, where it ends.
fn find_history(lines: &[Line<'_>]) -> Option<History> {
    for at in 0..lines.len() {
        if lines[at].is_quoted() {
            return marked_history(lines, at, at);
        }
        if is_separator(lines, at) || is_header_block(lines, at) {
            return Some(History { start: at, end: lines.len() });
        }
        if let Some(next) = attribution_end(lines, at) {
            let body = (next..lines.len()).find(|&i| !lines[i].is_blank()).unwrap_or(lines.len());
            return match lines.get(body) {
                Some(line) if line.is_quoted() => marked_history(lines, at, body),
                // Some clients indent or simply append; what stands after such a line is theirs to the end.
                _ => Some(History { start: at, end: lines.len() }),
            };
        }
    }
    None
}

/// History whose lines begin with `>`: one run of them. More runs with words between are an inline answer: no history.
fn marked_history(lines: &[Line<'_>], start: usize, first: usize) -> Option<History> {
    let end =
        (first..lines.len()).find(|&i| !lines[i].is_quoted() && !lines[i].is_blank()).unwrap_or(lines.len());
    let answered_inline = lines[end..].iter().any(Line::is_quoted);
    if answered_inline {
        return None;
    }
    // Blank lines after the last `>` belong to what follows.
    let end = if end == lines.len() {
        end
    } else {
        (first..end).rfind(|&i| lines[i].is_quoted()).map_or(end, |i| i + 1)
    };
    Some(History { start, end })
}

/// The first words of an attribution, by language.
static ATTRIBUTION_START: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?xi)^\s* (?: on | am | le | el | il | em | op | på | den | dnia | w\ dniu | dňa | dne | в | пн|вт|ср|чт|пт|сб|вс | \d{1,4}[./年-] | \d{1,2}\ \p{L} | \p{L}{2,4}[.,]{1,2}\s\d | em\s | a\(z\) | ma | ti | ke | to | pe | la | su | 於|在|于 | [^<>]{0,80}<[^<>@\s]+@[^<>\s]+> )",
    )
    .ok()
});

/// The last words of an attribution, by language.
static ATTRIBUTION_END: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?xi)(?: wrote | writes | schrieb(?:\ [^:]{0,120})? | a\ écrit | ecrit | escribió | ha\ scritto | scrisse | escreveu | schreef(?:\ [^:]{0,120})? | geschreven | skrev(?:\ [^:]{0,120})? | kirjoitti(?:\ [^:]{0,120})? | napisał(?:\(a\)|a)? | pisze | napsal\(?a?\)? | napísal\(?a?\)? | írta | scris | написал\(?а?\)? | пишет | писал | yazdı | 写道 | 寫道 | のメール | [^<>]<[^<>@\s]+@[^<>\s]+> ) [\s\u{a0}]*[:：]\s*$",
    )
    .ok()
});

/// The line after an attribution ("On … wrote:") that begins at line `at`, however it is wrapped.
fn attribution_end(lines: &[Line<'_>], at: usize) -> Option<usize> {
    let (begins, ends) = (ATTRIBUTION_START.as_ref()?, ATTRIBUTION_END.as_ref()?);
    // Cheap tests first: this runs for each line of every mail.
    let near = lines[at..].iter().take(ATTRIBUTION_LINES).take_while(|l| !l.is_blank());
    let colon = near.clone().position(|l| l.text.trim_end().ends_with([':', '：']))?;
    let last = at + colon;
    if !begins.is_match(lines[at].text) || lines[at..=last].iter().any(Line::is_quoted) {
        return None;
    }
    let joined = near.take(colon + 1).map(|l| l.text.trim()).collect::<Vec<_>>().join(" ");
    let dated = joined.bytes().any(|b| b.is_ascii_digit());
    (joined.len() <= ATTRIBUTION_LEN && dated && ends.is_match(&joined)).then_some(last + 1)
}

static SEPARATOR: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?xi)^\s*-{2,}\s*(?: original\ message | original\ appointment | forwarded\ message | forwarded\ by\b.* | ursprüngliche\ nachricht | originalnachricht | original-?nachricht | weitergeleitete\ nachricht | (?:message|courriel)\ d['’]origine | message\ original | message\ transféré | mensaje\ original | mensaje\ reenviado | messaggio\ originale | messaggio\ inoltrato | oorspronkelijk\ bericht | doorgestuurd\ bericht | mensagem\ original | ursprungligt\ meddelande | opprinnelig\ melding | oprindelig\ meddelelse | alkuperäinen\ viesti | wiadomość\ oryginalna | oryginalna\ wiadomość | исходное\ сообщение | пересылаемое\ сообщение | 原始邮件 | 原始郵件 | 元のメッセージ )\s*-{2,}\s*$",
    )
    .ok()
});

fn is_separator(lines: &[Line<'_>], at: usize) -> bool {
    let line = lines[at].text.trim();
    if line.starts_with("--") {
        return SEPARATOR.as_ref().is_some_and(|re| re.is_match(line));
    }
    // Outlook draws a rule over its block of headers.
    line.len() >= 10
        && line.bytes().all(|b| b == b'_')
        && (at + 1..lines.len())
            .find(|&i| !lines[i].is_blank())
            .is_some_and(|next| is_header_block(lines, next))
}

/// The header names that Outlook and others write over a quoted mail: sender, then date, then recipient or subject.
static HEADER_BLOCK: LazyLock<Option<RegexSet>> = LazyLock::new(|| {
    RegexSet::new([
        r"(?i)^\s*\*?(?:from|von|de|da|van|från|fra|lähettäjä|od|от|expéditeur|mittente|发件人|寄件者|差出人)\s?\*?\s?[:：]\*?\s*\S",
        r"(?i)^\s*\*?(?:sent|date|gesendet|datum|envoyé(?:\ le)?|enviado(?:\ el|\ em)?|fecha|data|inviato|verzonden|skickat|sendt|dato|lähetetty|wysłano|odesláno|отправлено|дата|发送时间|寄件日期|送信日時)\s?\*?\s?[:：]\*?\s*\S",
        r"(?i)^\s*\*?(?:to|an|à|para|a|aan|till|til|vastaanottaja|do|komu|кому|destinataire|收件人|收件者|宛先|cc|subject|betreff|objet|asunto|oggetto|onderwerp|assunto|ämne|emne|aihe|temat|předmět|тема|主题|主旨|件名)\s?\*?\s?[:：]\*?",
    ])
    .ok()
});

fn is_header_block(lines: &[Line<'_>], at: usize) -> bool {
    let Some(set) = HEADER_BLOCK.as_ref() else { return false };
    // A header line names its field within its first octets.
    let names_field = |line: &str| line.char_indices().take(32).any(|(_, c)| matches!(c, ':' | '：'));
    if !names_field(lines[at].text) || !set.matches(lines[at].text).matched(0) {
        return false;
    }
    let block = lines[at + 1..].iter().take(6).take_while(|l| !l.is_blank());
    let (mut dated, mut addressed) = (false, false);
    for line in block {
        let found = set.matches(line.text);
        dated |= found.matched(1);
        addressed |= found.matched(2);
    }
    dated && addressed
}

static DEVICE_FOOTER: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?xi)^\s*[\[(<]?(?: sent\ (?:from|via|with|using)\ (?:my|mail|outlook|yahoo|the|proton|samsung|a|blackberry|iphone|android|gmail|aol|mobile)\b.{0,80} | get\ outlook\ for\ .{1,60} | (?:von|aus)\ (?:meinem|mein|outlook|mail|web)\b.{0,80}\bgesendet.{0,40} | gesendet\ (?:von|mit)\ .{1,80} | diese\ nachricht\ wurde\ von\ mein.{1,80} | envoyé\ (?:de|depuis|à\ partir\ de|avec)\ .{1,80} | enviad[oa]\ (?:desde|do|de|a\ partir\ do)\ .{1,80} | inviato\ d(?:a|al|allo|all['’])\s?.{1,80} | verzonden\ v(?:anaf|anuit|an|ia)\ .{1,80} | skickat\ från\ .{1,80} | sendt\ fra\ .{1,80} | lähetetty\ .{1,60}sta | wysłan[eoy]\ z\ .{1,80} | отправлено\ (?:с|из)\ .{1,80} | 发自我的.{1,40} | iPhoneから送信 )[\])>]?\.?\s*$",
    )
    .ok()
});

/// Cuts a signature off the end: from the last `-- ` line, or from a device's footer among the last lines.
fn cut_signature(text: &str) -> (&str, &str) {
    let lines = lines(text);
    let from_last = lines.len().saturating_sub(SIGNATURE_LINES);
    let delimiter = (from_last..lines.len()).rfind(|&i| matches!(lines[i].text, "-- " | "--"));
    let start = delimiter.or_else(|| device_footer(&lines)).map_or(text.len(), |i| lines[i].start);
    text.split_at(start)
}

fn device_footer(lines: &[Line<'_>]) -> Option<usize> {
    let footer = DEVICE_FOOTER.as_ref()?;
    let written = (0..lines.len()).rev().filter(|&i| !lines[i].is_blank()).take(FOOTER_LINES);
    written.filter(|&i| lines[i].text.len() < 160 && footer.is_match(lines[i].text)).last()
}

#[cfg(test)]
#[path = "quote_tests.rs"]
mod tests;
