#!/usr/bin/env python3
"""Checks a mail's DKIM signatures and unsubscribe fields with other people's code: dkimpy and Python's email package.

    tools/verify-dkim.py RECORDS.json [--one-click] [--aligned] < mail.eml

RECORDS.json maps names (selector._domainkey.domain) to TXT values, and nothing is looked up anywhere else. Exits 0 when
there is a signature and every one verifies, and the unsubscribe fields, if there are any, are as RFC 8058 wants them.
With --one-click they must be there. With --aligned one signing domain must be that of From, or above it.

Needs dkimpy==1.1.8 and PyNaCl==1.6.2 (for Ed25519).
"""
import argparse
import email
import email.policy
import json
import re
import sys
import urllib.parse

import dkim

ONE_CLICK = "List-Unsubscribe=One-Click"


def signatures(mail, records):
    """The tags of each signature; a ValueError when one does not verify."""
    def txt(name, timeout=5):
        value = records.get(name.decode("ascii").rstrip("."))
        return None if value is None else value.encode("ascii")

    checked = dkim.DKIM(mail, minkey=2048)
    count = sum(name.lower() == b"dkim-signature" for name, _ in checked.headers)
    if count == 0:
        raise ValueError("there is no DKIM signature")
    found = []
    for index in range(count):
        verified = checked.verify(idx=index, dnsfunc=txt)
        tags = {name.decode(): value.decode() for name, value in checked.signature_fields.items()}
        what = f"{tags.get('a')} of {tags.get('s')}._domainkey.{tags.get('d')}"
        if not verified:
            raise ValueError(f"the signature {what} does not verify")
        print(f"verified: {what}")
        found.append(tags)
    return found


def check_one_click(message, found):
    """RFC 8058: exactly one https link, the word for one click, and a signature over both fields."""
    links = message.get_all("List-Unsubscribe", [])
    posts = message.get_all("List-Unsubscribe-Post", [])
    if len(links) != 1 or len(posts) != 1:
        raise ValueError(f"{len(links)} List-Unsubscribe and {len(posts)} List-Unsubscribe-Post instead of one each")
    if str(posts[0]).strip() != ONE_CLICK:
        raise ValueError(f"List-Unsubscribe-Post is {str(posts[0])!r}")
    offered = [urllib.parse.urlsplit(link.strip()) for link in re.findall(r"<([^<>]*)>", str(links[0]))]
    local = ("127.0.0.1", "::1", "localhost")
    web = [url for url in offered if url.scheme == "https" or (url.scheme == "http" and url.hostname in local)]
    if len(web) != 1 or any(url.scheme not in ("https", "http", "mailto") for url in offered):
        raise ValueError(f"List-Unsubscribe offers {links[0]!s}")
    for tags in found:
        names = [name.strip().lower() for name in tags["h"].split(":")]
        if "list-unsubscribe" in names and "list-unsubscribe-post" in names:
            print(f"one click: {web[0].geturl()}")
            return
    raise ValueError("no signature covers both unsubscribe fields")


def check_aligned(message, found):
    """One signature is by the domain of From or one above it."""
    domain = message["From"].addresses[0].domain.lower()
    if not any(domain == tags["d"] or domain.endswith("." + tags["d"]) for tags in found):
        raise ValueError(f"no signature speaks for {domain}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("records", type=argparse.FileType("r", encoding="utf-8"))
    parser.add_argument("--one-click", action="store_true", help="the unsubscribe fields must be there")
    parser.add_argument("--aligned", action="store_true", help="a signature must speak for From's domain")
    options = parser.parse_args()
    mail = sys.stdin.buffer.read()
    message = email.message_from_bytes(mail, policy=email.policy.default)
    try:
        found = signatures(mail, json.load(options.records))
        if options.one_click or "List-Unsubscribe-Post" in message:
            check_one_click(message, found)
        if options.aligned:
            check_aligned(message, found)
    except (ValueError, dkim.DKIMException) as error:
        print(f"not verified: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
