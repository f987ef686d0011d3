//! The operation that shows what an SMS account would make of a mail, before any comes.

use actix_web::{HttpResponse, post, web};
use sea_orm::EntityTrait;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    entity::{Channel, account},
    sms::SmsSettings,
};
use crate::{
    app::App,
    http::{Body, Code, Path, Problem},
    id::AccountId,
    mail::{
        parse::{Limits, Parsed, parse},
        sms::{
            gateway::{Fate, Held, NoText},
            inbound::GatewayMail,
            keywords::Keyword,
            segments::{Segments, measure},
        },
    },
};

/// A mail to be tried: given as its source, or in the parts that patterns look at.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "from": "447700900123@sms.example.com", "subject": "SMS", "text": "Where is my order?" }))]
pub struct TextPreviewRequest {
    /// The mail's source (RFC 5322), instead of the parts.
    #[serde(default)]
    #[schema(max_length = 200_000)]
    pub mail: Option<String>,
    /// The sender, as `Name <address>` or the address alone.
    #[serde(default)]
    #[schema(max_length = 1000, default = "", examples("447700900123@sms.example.com"))]
    pub from: String,
    /// The subject.
    #[serde(default)]
    #[schema(max_length = 2000, default = "", examples("SMS"))]
    pub subject: String,
    /// The plain text.
    #[serde(default)]
    #[schema(max_length = 100_000, default = "", examples("Where is my order?"))]
    pub text: String,
    /// Settings to try instead of the account's own.
    #[serde(default)]
    pub sms: Option<SmsSettings>,
}

/// What a mail to an SMS account is taken for.
///
/// - `text`: a text from somebody.
/// - `receipt`: the gateway says what became of a text of ours.
/// - `none`: neither; it would be kept as an `unparsed` message that an agent can open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TextPreviewKind {
    /// A text from somebody.
    Text,
    /// What became of a text of ours.
    Receipt,
    /// Neither.
    None,
}

/// What a word asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SmsKeyword {
    /// To get no more texts.
    Stop,
    /// To get texts again.
    Start,
    /// To be told who sends and how to stop.
    Help,
}

/// What a receipt says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SmsFate {
    /// The text arrived.
    Delivered,
    /// It will not arrive.
    Failed,
    /// Something else, which changes nothing.
    Reported,
}

/// What an SMS account would make of a mail.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TextPreview {
    /// What it is taken for.
    pub kind: TextPreviewKind,
    /// Whose text it is, or whom the receipt is about.
    #[schema(examples("+447700900123"))]
    pub number: Option<String>,
    /// What the text says.
    #[schema(examples("Where is my order?"))]
    pub text: Option<String>,
    /// What the text asks for, when it is one of the words.
    pub keyword: Option<SmsKeyword>,
    /// What the receipt says.
    pub fate: Option<SmsFate>,
    /// The gateway's own words in the receipt.
    pub status: Option<String>,
    /// Why it is neither: `not_from_gateway`, `number_not_found`, `invalid_number` or `text_not_found`.
    #[schema(examples("number_not_found"))]
    pub code: Option<String>,
    /// The same in words.
    pub detail: Option<String>,
    /// Where an answer to the number would be sent.
    #[schema(examples("447700900123@sms.example.com"))]
    pub answered_at: Option<String>,
    /// What the text takes, if it were sent.
    pub segments: Option<Segments>,
}

impl TextPreview {
    fn of(read: Result<Held, NoText>, settings: &SmsSettings) -> Self {
        let none = Self {
            kind: TextPreviewKind::None,
            number: None,
            text: None,
            keyword: None,
            fate: None,
            status: None,
            code: None,
            detail: None,
            answered_at: None,
            segments: None,
        };
        match read {
            Err(why) => Self { code: Some(why.code().to_owned()), detail: Some(why.to_string()), ..none },
            Ok(Held::Text { number, text, keyword }) => Self {
                kind: TextPreviewKind::Text,
                answered_at: settings.route().address(&number).ok().map(|address| address.to_string()),
                number: Some(number.to_string()),
                segments: Some(measure(&text)),
                text: Some(text),
                keyword: keyword.map(|keyword| match keyword {
                    Keyword::Stop => SmsKeyword::Stop,
                    Keyword::Start => SmsKeyword::Start,
                    Keyword::Help => SmsKeyword::Help,
                }),
                ..none
            },
            Ok(Held::Receipt { number, fate, words }) => Self {
                kind: TextPreviewKind::Receipt,
                number: Some(number.to_string()),
                fate: Some(match fate {
                    Fate::Delivered => SmsFate::Delivered,
                    Fate::Failed => SmsFate::Failed,
                    Fate::Reported => SmsFate::Reported,
                }),
                status: Some(words),
                ..none
            },
        }
    }
}

/// What patterns see of a parsed mail: the sender's address, and the parts.
pub fn seen(mail: &Parsed) -> (String, String, String, String) {
    let from = mail.from.as_ref().or(mail.sender.as_ref());
    let address = from.map(|from| from.address.clone()).unwrap_or_default();
    let shown = from.map(ToString::to_string).unwrap_or_default();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (address, shown, text(&mail.subject), text(&mail.text))
}

/// See what an SMS account would make of a mail: the number, the text, a word, a receipt, or why it is no text.
///
/// Changes nothing and sends nothing. With `sms` other settings are tried than the account's own, so that patterns can be
/// worked out before they are stored; settings that cannot be used are refused as they would be when stored.
#[utoipa::path(tag = "accounts", params(("id" = AccountId, Path)), request_body = TextPreviewRequest,
    responses((status = 200, description = "What it would be.", body = TextPreview)))]
#[post("/accounts/{id}/preview-text")]
pub async fn preview_text(
    app: web::Data<App>,
    id: Path<AccountId>,
    body: Body<TextPreviewRequest>,
) -> Result<HttpResponse, Problem> {
    let row = account::Entity::find_by_id(*id).one(app.db.read()).await?;
    let row = row.ok_or_else(|| Problem::not_found("account"))?;
    if row.channel != Channel::Sms {
        return Err(Problem::new(Code::InvalidState, "the account is for e-mail: nothing in it is a text"));
    }
    let TextPreviewRequest { mail, from, subject, text, sms } = body.0;
    let settings = sms.or_else(|| SmsSettings::of(&row));
    let settings = settings.ok_or_else(|| Problem::internal("an SMS account without a gateway"))?;
    let wrong = settings.wrong();
    if !wrong.is_empty() {
        return Err(Problem::validation(wrong));
    }
    let (address, from, subject, text) = match mail {
        Some(source) => {
            let limits = Limits::default();
            let parsed =
                web::block(move || parse(source.as_bytes(), &limits)).await.map_err(Problem::internal)?;
            seen(&parsed.map_err(|error| Problem::invalid("/mail", "unparsable", error.to_string()))?)
        }
        None => (address_in(&from), from, subject, text),
    };
    let mail = GatewayMail { from: &from, subject: &subject, text: &text };
    let gateway = settings.gateway().map_err(Problem::validation)?;
    Ok(HttpResponse::Ok().json(TextPreview::of(gateway.read(&address, &mail), &settings)))
}

/// The address of `Name <address>` or `address`.
fn address_in(from: &str) -> String {
    let address = match from.rsplit_once('<') {
        Some((_, rest)) => rest.split('>').next().unwrap_or(rest),
        None => from,
    };
    address.trim().to_owned()
}
