"""Teaches Schemathesis the one media type it does not know: a raw mail (RFC 5322) as a body."""

import schemathesis


@schemathesis.serializer("message/rfc822")
def as_it_is(_context, value):
    """The text of the mail, unchanged."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", errors="replace")
