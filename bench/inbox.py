"""A realistic inbox of a contact centre, the same bytes for the same seed.

Of the messages about 34 % are single-part text in 14 charsets and 4 encodings, 47 % multipart/alternative, 10 % have one or
two attachments of 50-200 KB in all, 3 % an inline image, 2 % are automatic replies, 2 % delivery reports (RFC 3464), 1 % carry
a forwarded message/rfc822, and 1 % are broken (unknown charset, missing boundary, 8-bit header, bare LF).
"""
import base64
import os
import quopri
import random
import time
from email.header import Header

CHARSETS = [  # label, python codec, sample words, weight
    ("utf-8", "utf-8", "grüße café naïve 日本語 привет заказ 🙂 €49 – “quoted”", 46),
    ("us-ascii", "ascii", "hello order invoice refund delivery parcel", 14),
    ("iso-8859-1", "latin-1", "déjà réglé façade señor straße été", 9),
    ("iso-8859-15", "iso8859-15", "prix 20 € cœur Œuvre déjà", 4),
    ("windows-1252", "cp1252", "“smart quotes” – it’s 49 € naïve", 9),
    ("iso-8859-2", "iso8859-2", "zażółć gęślą jaźń příliš žluťoučký", 2),
    ("windows-1251", "cp1251", "здравствуйте возврат заказ доставка", 3),
    ("koi8-r", "koi8-r", "добрый день где мой заказ", 3),
    ("iso-2022-jp", "iso2022_jp", "お世話になっております 注文の件", 2),
    ("shift_jis", "shift_jis", "返品について 商品が届きません", 2),
    ("euc-kr", "euc_kr", "안녕하세요 주문 취소 문의", 1),
    ("gb18030", "gb18030", "您好 订单 退款 什么时候发货", 2),
    ("big5", "big5", "您好 訂單 退款 何時出貨", 1),
    ("windows-1255", "cp1255", "שלום איפה ההזמנה שלי", 1),
]
SUBJECTS = ["Order {o} has not arrived", "Refund for invoice {o}", "Question about my account",
            "Cannot log in", "URGENT: wrong item in parcel {o}", "Cancel my subscription",
            "Delivery address change", "Feedback on your service", "Warranty claim {o}",
            "Rückfrage zu Bestellung {o}", "Où est ma commande {o} ?", "注文 {o} について",
            "Жалоба на заказ {o}", "Reclamação pedido {o}"]
FIRST = "Anna Ben Chloé Dmitri Elif Fatima Günter Hiro Inês José Kofi Léa Mei Noor Olaf Priya Quinn Rosa Søren Tomás".split()
LAST = "Müller Smith García Ivanova Tanaka Okafor O'Brien Dubois Rossi Novák Kim Haddad Silva Jensen".split()
WORDS = ("the order was placed on monday and still has not been shipped please check with your warehouse team "
         "because we need the parts before friday otherwise our own customer will cancel thanks for looking into "
         "this as soon as possible my customer number is below and the invoice is attached kind regards").split()
KINDS = [("text", 34), ("alternative", 47), ("attachment", 10), ("related", 3), ("autoreply", 2),
         ("dsn", 2), ("forward", 1), ("broken", 1)]


def pick(rng, pairs):
    return rng.choices([p[0] for p in pairs], [p[-1] for p in pairs])[0]


def fold64(data):
    return base64.encodebytes(data).replace(b"\n", b"\r\n")


def qp(data):
    return quopri.encodestring(data).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


class Gen:
    def __init__(self, seed, pool_mb=4):
        self.rng = random.Random(seed)
        self.pool = self.rng.randbytes(pool_mb << 20)   # attachment bytes are slices of this
        self.t0 = 1_760_000_000                          # fixed clock: output must not depend on today
        self.threads = []

    def prose(self, n, extra):
        r = self.rng
        out, line = [], []
        ws = extra.split()
        for i in range(n):
            line.append(r.choice(ws) if i % 7 == 3 else r.choice(WORDS))
            if len(line) > 11:
                out.append(" ".join(line)); line = []
        out.append(" ".join(line))
        return "\r\n".join(out)

    def text_part(self, cs, body, subtype="plain"):
        label, codec = cs
        raw = body.encode(codec, "replace")
        r = self.rng.random()
        if codec == "iso2022_jp" or (codec == "ascii"):
            cte, enc = "7bit", raw
        elif r < .5:
            cte, enc = "quoted-printable", qp(raw)
        elif r < .8:
            cte, enc = "base64", fold64(raw)
        else:
            cte, enc = "8bit", raw
        h = f'Content-Type: text/{subtype}; charset="{label}"\r\nContent-Transfer-Encoding: {cte}\r\n'
        return h.encode(), enc

    def multi(self, subtype, parts, params=""):
        b = f"=_{self.rng.getrandbits(80):020x}"
        head = f'Content-Type: multipart/{subtype}; boundary="{b}"{params}\r\n'.encode()
        body = b"This is a multi-part message in MIME format.\r\n"
        for h, c in parts:
            body += f"--{b}\r\n".encode() + h + b"\r\n" + c + b"\r\n"
        return head, body + f"--{b}--\r\n".encode()

    def html(self, text):
        style = "<style>p{margin:0 0 1em;font:14px/1.4 Arial,sans-serif}td{padding:4px}</style>"
        paras = "".join(f"<p>{p}</p>\r\n" for p in text.split("\r\n"))
        sig = '<table><tr><td><a href="https://shop.example/t?u=1&amp;c=2">Shop</a></td><td>Tel +49 30 1234</td></tr></table>'
        return f"<!DOCTYPE html><html><head><meta charset=utf-8>{style}</head><body>\r\n{paras}{sig}</body></html>\r\n"

    def headers(self, i, frm, subj, ref, cs, extra=()):
        r = self.rng
        t = self.t0 + i * 37
        date = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(t))
        mid = f"<{t}.{i:06d}.{r.getrandbits(48):012x}@mail{i % 40}.example.net>"
        name, addr = frm
        h = []
        for hop in range(3):
            h.append(f"Received: from mx{hop}.example.net (mx{hop}.example.net [192.0.2.{hop + 1}])\r\n"
                     f"\tby in{hop}.example.org (Postfix) with ESMTPS id {r.getrandbits(44):011X}\r\n"
                     f"\tfor <support@example.org>; {date}")
        sig = base64.b64encode(self.pool[i % 1000:i % 1000 + 192]).decode()
        h.append("DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.net; s=s1;\r\n"
                 "\th=from:to:subject:date:message-id; bh=" + sig[:44] + ";\r\n\tb=" +
                 "\r\n\t ".join(sig[k:k + 64] for k in range(0, 256, 64)))
        h.append("Authentication-Results: mx.example.org; dkim=pass header.d=example.net;\r\n"
                 "\tspf=pass smtp.mailfrom=example.net; dmarc=pass")
        enc = Header(name, "utf-8").encode() if not name.isascii() else f'"{name}"'
        h.append(f"From: {enc} <{addr}>")
        h.append(f"To: Support <support+q{i % 12}@example.org>")
        if i % 9 == 0:
            h.append("Cc: " + ", ".join(f"cc{k}@example.com" for k in range(1 + i % 4)))
        h.append("Subject: " + (subj if subj.isascii() else
                                Header(subj, "utf-8", maxlinelen=72, header_name="Subject").encode(linesep="\r\n")))
        h.append(f"Date: {date}\r\nMessage-ID: {mid}")
        if ref:
            h.append(f"In-Reply-To: {ref[-1]}\r\nReferences: " + "\r\n\t".join(ref))
        h.append("MIME-Version: 1.0\r\nX-Mailer: Example Mail 7.2\r\nX-Spam-Score: -1.2")
        h += extra
        return ("\r\n".join(h) + "\r\n").encode("utf-8"), mid

    def attachment(self, size):
        r = self.rng
        ext, ct = r.choice([("pdf", "application/pdf"), ("png", "image/png"), ("jpg", "image/jpeg"),
                            ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
                            ("zip", "application/zip")])
        name = r.choice(["invoice", "Rechnung", "screenshot", "rapport d'été", "契約書"]) + f"-{r.randrange(9999)}.{ext}"
        off = r.randrange(len(self.pool) - size)
        if name.isascii():
            disp = f'Content-Disposition: attachment; filename="{name}"'
        else:
            q = "".join(chr(b) if chr(b).isalnum() and b < 128 or chr(b) in "-." else f"%{b:02X}" for b in name.encode())
            disp = f"Content-Disposition: attachment;\r\n\tfilename*=UTF-8''{q}"
        return (f"Content-Type: {ct}\r\nContent-Transfer-Encoding: base64\r\n{disp}\r\n".encode(),
                fold64(self.pool[off:off + size]), name)

    def message(self, i):
        r = self.rng
        kind = pick(r, KINDS)
        cs = r.choices([(c[0], c[1], c[2]) for c in CHARSETS], [c[3] for c in CHARSETS])[0]
        label, extra, cs = cs[0], cs[2], cs[:2]
        name = f"{r.choice(FIRST)} {r.choice(LAST)}"
        frm = (name, f"user{r.randrange(4000)}@example.net")
        order = f"{r.randrange(10**8):08d}"
        subj, ref, ticket = r.choice(SUBJECTS).format(o=order), None, None
        if r.random() < .35 and self.threads:
            t = r.choice(self.threads[-500:])
            subj, ref, ticket = "Re: " + t[0], t[1][-6:], t[2]
            if ticket:
                subj += f" [#{ticket}]"
        elif r.random() < .3:
            ticket = f"T{r.randrange(10**6):06d}"
        text = self.prose(r.randint(40, 260), extra)
        if ref:
            text += "\r\n\r\nOn Mon, support wrote:\r\n" + "\r\n".join("> " + l for l in self.prose(r.randint(60, 400), extra).split("\r\n"))
        atts, hx, broken = [], [], None
        if kind in ("text", "autoreply"):
            if kind == "autoreply":
                hx = ["Auto-Submitted: auto-replied", "X-Auto-Response-Suppress: All", "Precedence: bulk"]
                subj, text = "Automatic reply: " + subj, "I am out of the office until Monday.\r\n" + text[:200]
            bh, body = self.text_part(cs, text)
        elif kind == "dsn":
            frm = ("Mail Delivery System", f"MAILER-DAEMON@mx{i % 9}.example.net")
            subj = "Undelivered Mail Returned to Sender"
            st = (f"Reporting-MTA: dns; mx.example.net\r\n\r\nFinal-Recipient: rfc822; user{r.randrange(4000)}@example.com\r\n"
                  f"Action: failed\r\nStatus: {r.choice(['5.1.1', '5.2.2', '4.4.1'])}\r\n"
                  "Diagnostic-Code: smtp; 550 5.1.1 User unknown\r\n").encode()
            orig = f"From: support@example.org\r\nTo: x@example.com\r\nSubject: Your ticket\r\nMessage-ID: <{order}@example.org>\r\n".encode()
            bh, body = self.multi("report", [
                (b"Content-Type: text/plain; charset=us-ascii\r\n", b"I'm sorry to have to inform you that your message could not be delivered.\r\n"),
                (b"Content-Type: message/delivery-status\r\n", st),
                (b"Content-Type: text/rfc822-headers\r\n", orig)], "; report-type=delivery-status")
            hx = ["Auto-Submitted: auto-replied"]
        else:
            alt = self.multi("alternative", [self.text_part(cs, text), self.text_part(cs, self.html(text), "html")])
            bh, body = alt
            if kind == "attachment":
                total = r.randint(50_000, 200_000)
                cuts = [total] if r.random() < .7 else [total // 3, total - total // 3]
                parts = [alt]
                for sz in cuts:
                    h, c, nm = self.attachment(sz)
                    parts.append((h, c)); atts.append({"name": nm, "size": sz})
                bh, body = self.multi("mixed", parts)
            elif kind == "related":
                sz = r.randint(2_000, 12_000)
                off = r.randrange(len(self.pool) - sz)
                img = (b"Content-Type: image/png; name=\"logo.png\"\r\nContent-Transfer-Encoding: base64\r\n"
                       b"Content-ID: <logo@x>\r\nContent-Disposition: inline; filename=\"logo.png\"\r\n", fold64(self.pool[off:off + sz]))
                atts.append({"name": "logo.png", "size": sz, "inline": True})
                bh, body = self.multi("related", [alt, img])
            elif kind == "forward":
                ih, _ = self.headers(i, frm, "Inner: " + subj, None, cs)
                tb = self.text_part(cs, text)
                bh, body = self.multi("mixed", [self.text_part(cs, "see below"),
                                                (b"Content-Type: message/rfc822\r\n", ih + tb[0] + b"\r\n" + tb[1])])
            elif kind == "broken":
                broken = r.choice(["charset", "boundary", "header8", "barelf"])
                if broken == "charset":
                    body = body.replace(b'charset="' + label.encode(), b'charset="x-unknown-77')
                elif broken == "boundary":
                    body = body[:-40]
                elif broken == "header8":
                    hx = ["X-Comment: caf\u00e9 na\u00efve"]
        head, mid = self.headers(i, frm, subj, ref, cs, hx)
        raw = head + bh + b"\r\n" + body
        if broken == "barelf":
            raw = raw.replace(b"\r\n", b"\n")
        if kind not in ("dsn", "autoreply") and (not ref or r.random() < .7):
            base = subj[4:].split(" [#")[0] if ref else subj
            self.threads.append((base, (ref or []) + [mid], ticket))
        return raw, {"i": i, "kind": kind, "broken": broken, "charset": label, "subject": subj, "from": frm[1], "name": frm[0],
                     "message_id": mid, "references": ref or [], "ticket": ticket, "attachments": atts, "size": len(raw)}


def write(out, count, seed=1):
    """Writes a Maildir of `count` messages to `out` and gives their size in bytes."""
    generator, size = Gen(seed), 0
    for part in ("cur", "new", "tmp"):
        os.makedirs(os.path.join(out, part))
    for i in range(count):
        raw, _ = generator.message(i)
        size += len(raw)
        with open(os.path.join(out, "cur", f"{generator.t0 + i * 37}.M{i:06d}P1.gen,S={len(raw)}:2,"), "wb") as file:
            file.write(raw)
    return size
