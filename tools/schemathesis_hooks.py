"""What Schemathesis has to be told about Postroom: a media type, who it runs as, and what a refusal may say."""

import os
import uuid

import schemathesis

SELF = os.environ.get("POSTROOM_SELF_ID")

# The codes of the schema validator. The document itself is the validator, so data that fits it never gets one.
# Not here: `required` and `type`, which rules between members give too (an SMS account needs a gateway).
SCHEMA_CODES = {
    "unknown_value", "too_long", "too_short", "too_large", "too_small",
    "format", "pattern", "not_unique", "unknown_member", "no_variant",
}


@schemathesis.serializer("message/rfc822", "text/csv", "application/x-ndjson")
def as_it_is(_context, value):
    """The text of the mail or the rows, unchanged."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", errors="replace")


@schemathesis.hook
def before_call(_context, case, **_kwargs):
    """Nobody else than the run's own user is changed, deleted or given another password: the run goes on as it."""
    own = case.path_parameters and case.path_parameters.get("id") == SELF
    if SELF and own and case.method.upper() != "GET":
        case.path_parameters["id"] = str(uuid.UUID(int=0))


@schemathesis.check
def every_problem_is_one(_context, response, case):
    """Every 4xx and 5xx is `application/problem+json` with the members that clients rely on."""
    if response.status_code < 400:
        return
    kind = response.headers.get("content-type", [""])[0]
    assert kind.startswith("application/problem+json"), f"{response.status_code} as {kind or 'nothing'}"
    if case.method.upper() == "HEAD":
        return
    problem = response.json()
    missing = {"type", "title", "status", "detail", "instance", "code", "request_id"} - set(problem)
    assert not missing, f"the problem lacks {', '.join(sorted(missing))}"
    assert problem["status"] == response.status_code, "the problem's status is not the answer's"


@schemathesis.check
def what_fits_is_never_said_not_to(_context, response, case):
    """A body that fits its schema may break a rule, but the answer never says that it does not fit."""
    if response.status_code != 422 or case.meta is None or not case.meta.generation.mode.is_positive:
        return
    errors = response.json().get("errors", [])
    wrong = [error for error in errors if error["code"] in SCHEMA_CODES]
    assert not wrong, f"schema-valid data was said not to fit: {wrong}"
