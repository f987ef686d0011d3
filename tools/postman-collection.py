#!/usr/bin/env python3
"""Writes postman/ anew: the walk that a newcomer takes, and one request for every operation of openapi/openapi.json.

    tools/postman-collection.py

Method, path, media type and description come from the document; what is sent, and what is checked, is said here.
An operation that no folder names fails.
"""
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCUMENT = json.loads((ROOT / "openapi/openapi.json").read_text(encoding="utf-8"))
OPERATIONS = {
    operation["operationId"]: (method, path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
WAIT_MS, TRIES = 100, 100
seen = set()


def script(kind, lines):
    return {"listen": kind, "script": {"type": "text/javascript", "exec": lines}}


def request(op, name=None, *, who="admin", body=None, path=None, query=None, status=None, save=None, test=(), until=None,
            before=()):
    """One request. `save` maps variables to JavaScript over `body` (the answer); `until` repeats while it is false."""
    method, template, operation = OPERATIONS[op]
    seen.add(op)
    for key, value in (path or {}).items():
        template = template.replace("{%s}" % key, value)
    assert "{" not in template.replace("{{", "").replace("}}", ""), f"{op}: {template}"
    expected = status or [int(code) for code in operation["responses"] if code.startswith("2")]
    expected = expected if isinstance(expected, list) else [expected]
    url = "{{base_url}}" + template
    parsed = {"raw": url, "host": ["{{base_url}}"], "path": template.strip("/").split("/")}
    if query:
        parsed["raw"] += "?" + "&".join(f"{key}={value}" for key, value in query.items())
        parsed["query"] = [{"key": key, "value": value} for key, value in query.items()]
    item = {"name": name or op, "request": {"method": method.upper(), "header": [], "url": parsed,
                                            "description": operation.get("summary", "")}}
    if who:
        item["request"]["auth"] = {"type": "bearer", "bearer": [{"key": "token", "value": "{{%s_token}}" % who}]}
    else:
        item["request"]["auth"] = {"type": "noauth"}
    if body is not None:
        content = operation["requestBody"]["content"]
        media = "text/csv" if isinstance(body, str) and "text/csv" in content else next(iter(content))
        item["request"]["header"].append({"key": "Content-Type", "value": media})
        if media == "application/x-www-form-urlencoded":
            pairs = [{"key": key, "value": value} for key, value in body.items()]
            item["request"]["body"] = {"mode": "urlencoded", "urlencoded": pairs}
        else:
            text = body if isinstance(body, str) else json.dumps(body, indent=2, ensure_ascii=False)
            item["request"]["body"] = {"mode": "raw", "raw": text}
    lines = [f"pm.test('{' or '.join(map(str, expected))}', () => pm.expect(pm.response.code).to.be.oneOf({expected}));"]
    if save or test or until:
        lines.append("let body; try { body = pm.response.json(); } catch (e) { body = pm.response.text(); }")
    after = [f"pm.collectionVariables.set('{key}', String({value}));" for key, value in (save or {}).items()]
    after += [f"pm.test({json.dumps(text)}, () => pm.expect(Boolean({check}), pm.response.text()).to.equal(true));"
              for text, check in test]
    if until:
        # Asks again a little later, and fails in the end.
        lines = [
            "let body; try { body = pm.response.json(); } catch (e) { body = pm.response.text(); }",
            "const tries = Number(pm.collectionVariables.get('tries') || 0) + 1;",
            f"if (!({until}) && tries < {TRIES}) {{",
            "  pm.collectionVariables.set('tries', String(tries));",
            "  pm.execution.setNextRequest(pm.info.requestId);",
            f"  setTimeout(() => {{}}, {WAIT_MS});",
            "} else {",
            "  pm.collectionVariables.set('tries', '0');",
            *("  " + line for line in [lines[0], f"pm.test('it has come', () => pm.expect(Boolean({until})).to.equal(true));",
                                       *after]),
            "}",
        ]
    else:
        lines += after
    item["event"] = [script("test", lines)]
    if before:
        item["event"].insert(0, script("prerequest", list(before)))
    return item


def folder(name, about, items):
    return {"name": name, "description": about, "item": items}


def mail(subject, text="It was due on Monday.", sender="Chris Customer <chris@customer.test>", cc="", attachment=False):
    head = [f"From: {sender}", "To: desk-{{run}}@centre.test", *([f"Cc: {cc}"] if cc else []), f"Subject: {subject}",
            "Message-ID: <{{$guid}}@customer.test>", "MIME-Version: 1.0"]
    if not attachment:
        return "\r\n".join([*head, "Content-Type: text/plain; charset=utf-8", "", text, ""])
    return "\r\n".join([
        *head, 'Content-Type: multipart/mixed; boundary="parts"', "", "--parts", "Content-Type: text/plain; charset=utf-8",
        "", text, "--parts", "Content-Type: text/plain", 'Content-Disposition: attachment; filename="receipt.txt"', "",
        "Receipt 4711", "--parts--", ""])


def push(label, letter, subject, **content):
    save = {f"item_{letter}": "body.work_item_id", f"message_{letter}": "body.message.id",
            f"conversation_{letter}": "body.conversation_id"}
    return request("push_message", label, path={"id": "{{account_id}}"}, body=mail(subject, **content), save=save,
                   test=[("the mail is work", "body.work_item_id")])


def await_offer(label, letter):
    find = f"body.items && body.items.find((offer) => offer.work_item_id === pm.collectionVariables.get('item_{letter}'))"
    return request("list_offers", label, who="agent", query={"state": "pending", "limit": "100"}, until=find,
                   save={f"offer_{letter}": f"({find}).id"})


def log_in(label, who, username, password, save=None):
    form = {"grant_type": "password", "username": username, "password": password}
    return request("issue_token", label, who=None, body=form,
                   save=save or {f"{who}_token": "body.access_token", f"{who}_refresh": "body.refresh_token"},
                   test=[("a bearer token", "body.token_type.toLowerCase() === 'bearer'")],
                   before=["if (!pm.collectionVariables.get('run')) "
                           "pm.collectionVariables.set('run', Date.now().toString(36));"])


ID = {"id": "body.id"}


def state_is(state):
    return [(f"it is {state}", f"body.state === '{state}'")]


def crud(noun, plural, body, change, id_name, who="admin"):
    path = {"id": "{{%s}}" % id_name}
    return [
        request(f"create_{noun}", body=body, who=who, save={id_name: "body.id"}, test=[("it has an id", "body.id")]),
        request(f"list_{plural}", who=who, query={"limit": "100"},
                test=[("it is listed", f"body.items.some((one) => one.id === pm.collectionVariables.get('{id_name}'))")]),
        request(f"get_{noun}", who=who, path=path,
                test=[("it is the one", f"body.id === pm.collectionVariables.get('{id_name}')"),
                      ("it has an ETag", "pm.response.headers.get('ETag')")]),
        request(f"update_{noun}", who=who, path=path, body=change,
                test=[("it is changed", f"body.{key} === {json.dumps(value)}") for key, value in change.items()]),
    ]


def delete(noun, id_name):
    return request(f"delete_{noun}", path={"id": "{{%s}}" % id_name})


DEFINITION = {"start": "about", "steps": {
    "about": {"type": "condition", "when": "message.subject|lower|contains('complaint')",
              "next": {"yes": "hurry", "no": "queue"}},
    "hurry": {"type": "set_priority", "priority": 1, "next": {"done": "queue"}},
    "queue": {"type": "enqueue", "queue_id": "{{queue_id}}",
              "next": {"assigned": "done", "queue_full": "fallback", "closed": "fallback"}},
    "fallback": {"type": "enqueue", "next": {"assigned": "done"}},
    "done": {"type": "end", "result": "done"}}}
SIMPLE = {"start": "queue", "steps": {"queue": {"type": "enqueue", "next": {"assigned": "done"}},
                                      "done": {"type": "end", "result": "done"}}}
ITEM, OFFER = {"id": "{{item_a}}"}, {"id": "{{offer_a}}"}


def walk():
    version = {"id": "{{script_id}}", "number": "1"}
    return folder("From a customer's mail to the answer", "The whole job, from top to bottom.", [
        log_in("Log in as the administrator", "admin", "{{admin_username}}", "{{admin_password}}"),
        log_in("Log in as an agent", "agent", "{{agent_username}}", "{{agent_password}}"),
        request("get_me", "Who is the agent?", who="agent", save={"agent_id": "body.id"},
                test=[("an agent", "body.role === 'agent'")]),
        request("replace_outgoing_server", "Keep what would be sent", body={"transport": "capture"}),
        request("update_agent", "Give the agent room for more work", path={"id": "{{agent_id}}"},
                body={"capacity": {"email": 100, "sms": 5}}, test=[("room for 100", "body.capacity.email === 100")]),
        request("create_agent_group", "Make a group of the agent",
                body={"name": "Desk {{run}}", "member_ids": ["{{agent_id}}"], "offer_timeout_s": 600},
                save={"group_id": "body.id"}),
        request("create_queue", "Make a queue that the group serves",
                body={"name": "Desk {{run}}", "agent_group_ids": ["{{group_id}}"]}, save={"queue_id": "body.id"}),
        request("create_script", "Make a routing script", body={"name": "Desk {{run}}", "definition": DEFINITION},
                save={"script_id": "body.id"}),
        request("validate_script_version", "Is the script complete?", path=version,
                test=[("it is valid", "body.valid && body.problems.length === 0")]),
        request("activate_script_version", "Put the script in force", path=version, test=state_is("active")),
        request("create_account", "Make an account that mail is pushed into", body={
            "address": "desk-{{run}}@centre.test", "display_name": "Desk", "inbound": {"protocol": "push"},
            "script_id": "{{script_id}}", "fallback_queue_id": "{{queue_id}}"}, save={"account_id": "body.id"},
                test=state_is("draft")),
        request("activate_account", "Open the account", path={"id": "{{account_id}}"}, test=state_is("active")),
        request("set_agent_state", "The agent is ready", who="agent", path={"id": "{{agent_id}}"}, body={"state": "ready"},
                test=state_is("ready")),
        push("A customer writes", "w", "Where is my order {{run}}?", attachment=True),
        await_offer("Wait until the agent is offered the mail", "w"),
        request("accept_offer", "Take it", who="agent", path={"id": "{{offer_w}}"}, test=state_is("accepted")),
        request("get_work_item", "The work is the agent's", who="agent", path={"id": "{{item_w}}"},
                test=[*state_is("assigned"), ("the agent has it",
                                              "body.assigned_agent_id === pm.collectionVariables.get('agent_id')")]),
        request("get_message", "Read the mail", who="agent", path={"id": "{{message_w}}"},
                save={"attachment_number": "body.attachments[0].number"},
                test=[("the text", "body.text.includes('due on Monday')")]),
        request("get_reply_template", "What an answer would begin with", who="agent", path={"id": "{{item_w}}"},
                query={"kind": "reply"}, save={"last_message_id": "body.expected_last_message_id"},
                test=[("Re:", "body.subject.startsWith('Re: ')")]),
        request("reply_work_item", "Answer", who="agent", path={"id": "{{item_w}}"},
                body={"expected_last_message_id": "{{last_message_id}}", "text": "It left us yesterday."},
                save={"answer_w": "body.message_id"},
                test=[("to the customer", "body.to[0].address === 'chris@customer.test'")]),
        request("complete_work_item", "Done", who="agent", path={"id": "{{item_w}}"}, body={"outcome_code": "answered"},
                test=state_is("completed")),
        request("get_message_delivery", "Wait until the answer has left", who="agent", path={"id": "{{answer_w}}"},
                until="body.state === 'sent'"),
        request("get_message_timeline", "How the answer left", who="agent", path={"id": "{{answer_w}}"},
                test=[("every step is told", "body.items.length > 0")]),
        request("list_captured_messages", "What was captured", query={"limit": "100"},
                save={"captured_id": "body.items.find((one) => one.message_id === "
                                     "pm.collectionVariables.get('answer_w')).id"}),
        request("get_captured_message_raw", "The captured mail itself", path={"id": "{{captured_id}}"},
                test=[("the answer", "pm.response.text().includes('It left us yesterday.')"),
                      ("an answer to the customer's mail", "/^In-Reply-To:/im.test(pm.response.text())")]),
    ])


def service():
    return [request("get_health", who=None, test=[("ok", "body.status === 'ok'")]),
            request("get_readiness", who=None, test=[("ready", "body.workers && body.database && body.migrations")]),
            request("get_metrics", who=None, test=[("postroom's", "pm.response.text().includes('postroom_')")]),
            request("list_problems", who=None, test=[("a table", "body.items.length > 10")])]


def access():
    user, key = {"id": "{{user_id}}"}, {"id": "{{key_id}}"}
    new, other = "first-password-{{run}}", "second-password-{{run}}"
    return [
        log_in(None, "admin", "{{admin_username}}", "{{admin_password}}"),
        request("get_me", test=[("the administrator", "body.role === 'admin'")]),
        request("get_jwks", who=None, test=[("a key", "body.keys.length > 0")]),
        *crud("user", "users", {"username": "clerk-{{run}}", "display_name": "Clerk", "role": "agent", "password": new,
                                "must_change_password": False}, {"display_name": "Chief clerk"}, "user_id"),
        log_in("Log in as the new user", "user", "clerk-{{run}}", new),
        request("change_password", who="user", body={"current_password": new, "new_password": other}),
        log_in("Log in with the new password", "user", "clerk-{{run}}", other),
        request("revoke_token", who=None, body={"token": "{{user_refresh}}"}),
        request("reset_user_password", path=user),
        delete("user", "user_id"),
        *crud("api_key", "api_keys", {"name": "Gateway {{run}}", "scopes": ["inbound:write"]},
              {"name": "Gateway of the shop"}, "key_id"),
        request("revoke_api_key", path=key),
        request("rotate_signing_key"),
        request("list_audit_entries", query={"limit": "20"}, test=[("entries", "body.items.length > 0")]),
    ]


def accounts():
    one = {"id": "{{mailbox_id}}"}
    return [
        *crud("account", "accounts", {
            "address": "box-{{run}}@centre.test", "username": "box", "password": "not-a-secret",
            "inbound": {"protocol": "imap", "host": "127.0.0.1", "port": 1, "security": "tls"},
            "fallback_queue_id": "{{queue_id}}"}, {"display_name": "Box"}, "mailbox_id"),
        request("check_account", path=one, test=[("nobody listens there", "body.ok === false")]),
        request("activate_account", path=one),
        request("poll_account", path=one),
        request("backfill_account", path=one, body={"limit": 10}),
        request("pause_account", path=one, test=state_is("paused")),
        request("resume_account", path=one),
        request("disable_account", path=one, test=state_is("disabled")),
        request("create_account", "A draft", body={"address": "draft-{{run}}@centre.test", "inbound": {"protocol": "push"}},
                save={"draft_account_id": "body.id"}, test=state_is("draft")),
        delete("account", "draft_account_id"),
        request("push_message", path={"id": "{{account_id}}"}, body=mail("Complaint {{run}}"),
                save={"item_p": "body.work_item_id"}, test=[("it is parsed", "body.message.state === 'parsed'")]),
    ]


def text(label, words, **expected):
    letter = "From: 447700900123@gw-{{run}}.test\r\nTo: texts-{{run}}@centre.test\r\nSubject: SMS\r\n\r\n" + words + "\r\n"
    return request("push_message", label, path={"id": "{{text_account_id}}"}, body=letter, **expected)


def texts():
    one = {"id": "{{text_account_id}}"}
    return [
        request("create_account", "Make an account for texts", save={"text_account_id": "body.id"}, body={
            "channel": "sms", "address": "texts-{{run}}@centre.test", "display_name": "Texts", "inbound": {"protocol": "push"},
            "fallback_queue_id": "{{queue_id}}", "sms": {"destination": "@gw-{{run}}.test", "country_code": "44"}},
                test=[("it confirms a stop word", "body.sms.stop_reply !== ''")]),
        request("activate_account", "Open it", path=one, test=state_is("active")),
        request("preview_text", path=one, body={"from": "07700900123@gw-{{run}}.test", "text": "Is it there?"},
                test=[("a text of the number", "body.kind === 'text' && body.number === '+447700900123'")]),
        text("A customer sends a text", "Is it there?", save={"item_t": "body.work_item_id"},
             test=[("a text", "body.message.channel === 'sms'"), ("the number", "body.message.from.address === '+447700900123'")]),
        await_offer("Wait until the agent is offered the text", "t"),
        request("accept_offer", "Take it", who="agent", path={"id": "{{offer_t}}"}, test=state_is("accepted")),
        request("get_reply_template", "Whom the answer goes to", who="agent", path={"id": "{{item_t}}"},
                query={"kind": "reply"}, save={"last_text_id": "body.expected_last_message_id"},
                test=[("the number", "body.to[0].address === '+447700900123'")]),
        request("forward_work_item", "A text is not passed on", who="agent", path={"id": "{{item_t}}"}, status=409,
                body={"to": [{"address": "ben@example.net"}], "text": "Look"}, test=[("it is said", "body.code === 'not_for_texts'")]),
        request("reply_work_item", "Answer it", who="agent", path={"id": "{{item_t}}"},
                body={"expected_last_message_id": "{{last_text_id}}", "text": "Yes, come in.", "complete": True},
                test=[("one segment", "body.segments.segments === 1")]),
        request("create_message", "Send a text", body={"to": {"number": "+44 7700 900123"}, "account_id": "{{text_account_id}}",
                                                       "content": {"text": "We close at six."}},
                test=[("a text", "body.channel === 'sms' && body.segments.encoding === 'gsm7'")]),
        text("The customer has enough", "STOP", test=[("nobody's work", "body.work_item_id === null")]),
        request("create_message", "Nothing more goes there", body={"to": {"number": "+447700900123"}, "dry_run": True,
                                                                   "account_id": "{{text_account_id}}", "content": {"text": "Hello?"}},
                test=[("stopped", "body.suppressed_by === 'stopped'")]),
        text("And comes back", "START", test=[("nobody's work", "body.work_item_id === null")]),
    ]


def scripts():
    script_, calendar = {"id": "{{other_script_id}}"}, {"id": "{{calendar_id}}"}
    first, second, third = ({**script_, "number": number} for number in "123")
    return [
        *crud("script", "scripts", {"name": "Other {{run}}", "definition": SIMPLE}, {"description": "Sorts nothing"},
              "other_script_id"),
        request("list_script_versions", path=script_, test=[("one", "body.items.length === 1")]),
        request("create_script_version", path=script_, body={"copy_of": 1}, test=[("number 2", "body.number === 2")]),
        request("get_script_version", path=second, test=state_is("draft")),
        request("replace_script_version", path=second, body={"description": "Anew", "definition": SIMPLE}),
        request("update_script_version", path=second, body={"description": "Renamed"}),
        request("validate_script_version", path=second, test=[("it is valid", "body.valid")]),
        request("simulate_script_version", path=second, body={
            "facts": {"message": {"from": {"address": "kim@customer.test"}, "subject": "Where is my order?"},
                      "fallback_queue_id": "{{queue_id}}"}}),
        request("lock_script_version", path=second, test=[("locked", "body.locked")]),
        request("unlock_script_version", path=second, test=[("unlocked", "!body.locked")]),
        request("activate_script_version", path=second, test=state_is("active")),
        request("create_script_version", "A third version", path=script_, body={"copy_of": 1}),
        request("delete_script_version", path=third),
        delete("script", "other_script_id"),
        *crud("calendar", "calendars", {"name": "Hours {{run}}", "timezone": "Europe/London", "entries": [
            {"name": "Office hours", "kind": "open",
             "rule": {"type": "weekly", "days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "17:30"}}]},
              {"description": "When somebody is there"}, "calendar_id"),
        request("get_calendar_status", path=calendar, query={"at": "2026-03-02T10:00:00Z"}, test=[("open", "body.open")]),
        delete("calendar", "calendar_id"),
        request("put_variable", path={"name": "centre_closed_{{run}}"}, body={"type": "boolean", "value": True}),
        request("list_variables"),
        request("get_variable", path={"name": "centre_closed_{{run}}"}, test=[("true", "body.value === true")]),
        request("delete_variable", path={"name": "centre_closed_{{run}}"}),
    ]


def templates():
    one = {"id": "{{template_id}}"}
    return [
        *crud("template", "templates", {
            "name": "Thanks {{run}}", "purpose": "receipt", "subject": "We have your message: {{ message.subject }}",
            "text": "Thank you for writing to {{ account.display_name }}."}, {"description": "A receipt"}, "template_id"),
        request("preview_template", path=one, body={
            "variables": {"message": {"subject": "Lamp"}, "account": {"display_name": "Desk"}}}),
        request("publish_template", path=one, test=state_is("published")),
        request("create_template", "Make a template that reads a field", body={
            "name": "Balance {{run}}", "subject": "Your balance", "text": "Dear {{ to.name }}, you owe {{ balance }}.",
            "fields": [{"name": "balance", "type": "number", "source": "customer.data.balance", "required": True}]},
                save={"field_template_id": "body.id"}),
        request("test_send_template", path={"id": "{{field_template_id}}"}, body={
            "to": {"name": "Editor", "address": "editor@centre.test"}, "variables": {"balance": 12.5},
            "account_id": "{{account_id}}"}, test=[("marked", "body.subject === '[Test] Your balance'")]),
        request("archive_template", path=one, test=state_is("archived")),
        delete("template", "template_id"),
        *parts(),
    ]


def parts():
    """Languages, partials and files of a template."""
    letter, footer = {"id": "{{letter_template_id}}"}, {"id": "{{partial_id}}"}
    logo = {**letter, "attachment_id": "{{attachment_id}}"}
    return [
        *crud("template_partial", "template_partials", {
            "name": "imprint-{{run}}", "text": "{{ account.display_name }}, 12 Harbour Street",
            "html": "<p>{{ account.display_name }}, 12 Harbour Street</p>"}, {"description": "Who we are"}, "partial_id"),
        request("create_template", "In two languages, with a partial", save={"letter_template_id": "body.id"}, body={
            "name": "Letter {{run}}", "subject": "Hello {{ customer.name }}", "text": "Hello. {% include 'imprint-{{run}}' %}",
            "html": "<img src=\"cid:logo\">{% include 'imprint-{{run}}' %}",
            "variants": [{"locale": "de", "subject": "Guten Tag {{ customer.name }}", "text": "Guten Tag."}]}),
        request("create_upload", "A picture for it", query={"filename": "logo.png"}, body="not really a picture",
                save={"picture_id": "body.id"}),
        request("create_template_attachment", path=letter, body={"upload_id": "{{picture_id}}", "content_id": "logo"},
                save={"attachment_id": "body.id"}),
        request("get_template_attachment", path=logo),
        request("preview_template", "Austrians read German", path=letter, body={
            "locale": "de-AT", "variables": {"customer": {"name": "Kim"}}}, test=[("German", "body.variant === 'de'")]),
        request("publish_template", "Publish it", path=letter, test=state_is("published")),
        request("update_template_partial", "We move", path=footer, body={"text": "14 Harbour Street"},
                test=[("it is frozen", "body.used_by[0].outdated === true")]),
        request("publish_template", "Take that over", path=letter, test=[("again", "body.revision === 2")]),
        request("revise_template", path=letter, save={"revision_id": "body.id"}, test=[
            *state_is("draft"), ("of that template", "body.revises && body.attachments.length === 1")]),
        request("update_template", "Word it anew", path={"id": "{{revision_id}}"}, body={"description": "Reworded"}),
        request("publish_template", "It takes the template's place", path={"id": "{{revision_id}}"}, test=[
            ("the third", "body.revision === 3 && body.description === 'Reworded' && !body.revises")]),
        request("delete_template_partial", "What is included is not taken away", path=footer, status=409,
                test=[("in use", "body.code === 'in_use'")]),
        request("create_template_partial", "One that is not needed", body={"name": "spare-{{run}}", "text": "x"},
                save={"spare_partial_id": "body.id"}),
        delete("template_partial", "spare_partial_id"),
        request("create_template", "A draft that loses its file", save={"draft_template_id": "body.id"}, body={
            "name": "Draft {{run}}", "subject": "x", "text": "x"}),
        request("create_upload", "Its file", query={"filename": "terms.txt"}, body="Our terms.", save={"terms_id": "body.id"}),
        request("create_template_attachment", "Attach it", path={"id": "{{draft_template_id}}"},
                body={"upload_id": "{{terms_id}}"}, save={"terms_attachment_id": "body.id"}),
        request("delete_template_attachment", path={
            "id": "{{draft_template_id}}", "attachment_id": "{{terms_attachment_id}}"}),
    ]


def campaigns():
    one, list_ = {"id": "{{campaign_id}}"}, {"id": "{{rules_list_id}}"}
    report = {"attempt_ref": "call-{{run}}", "campaign_id": "{{campaign_id}}"}
    return [
        request("create_template", "Make a template for whoever we tried to reach", save={"tried_id": "body.id"}, body={
            "name": "Tried {{run}}", "subject": "We tried to reach you", "text": "Dear {{ customer.name }}, we called."}),
        request("publish_template", "Publish it", path={"id": "{{tried_id}}"}, test=state_is("published")),
        *crud("campaign", "campaigns", {
            "name": "Renewals {{run}}", "email_account_id": "{{account_id}}", "message_rules": [
                {"name": "We tried to reach you", "trigger": "first_attempt", "template_id": "{{tried_id}}", "delay_s": 600}]},
              {"description": "Contracts that end in spring"}, "campaign_id"),
        request("start_campaign", path=one, test=state_is("active")),
        request("archive_template", "What a rule sends is not taken away", path={"id": "{{tried_id}}"}, status=409,
                test=[("in use", "body.code === 'in_use'")]),
        request("suspend_campaign", path=one, test=state_is("suspended")),
        request("resume_campaign", path=one, test=state_is("active")),
        request("create_list", "Put a list under it", body={"name": "Renewals {{run}}", "campaign_id": "{{campaign_id}}"},
                save={"rules_list_id": "body.id"}),
        request("get_list_message_rules", path=list_, test=[("the campaign's", "body.own === false")]),
        request("replace_list_message_rules", path=list_, body={"message_rules": []}, test=[("its own", "body.own")]),
        request("delete_list_message_rules", path=list_),
        request("create_customer", "Put a customer on it", save={"tried_customer_id": "body.id"}, body={
            "list_id": "{{rules_list_id}}", "ref": "T-{{run}}", "name": "Sam", "email": "sam-{{run}}@customer.test"}),
        request("create_attempt", path={"id": "{{tried_customer_id}}"}, body=report, status=201, test=[
            ("the rule fired", "body.messages.length === 1 && body.messages[0].state === 'scheduled'"),
            ("in progress", "body.customer.status === 'in_progress'")]),
        request("create_attempt_by_ref", path={"ref": "T-{{run}}"}, body=report, status=200,
                test=[("the same answer", "body.messages.length === 1")]),
        request("list_attempts", path={"id": "{{tried_customer_id}}"}, test=[("one", "body.items.length === 1")]),
        request("stop_campaign", path=one, test=state_is("stopped")),
        request("create_campaign", "Another one, which nothing refers to", body={"name": "Empty {{run}}"},
                save={"empty_campaign_id": "body.id"}),
        delete("campaign", "empty_campaign_id"),
    ]


def simple(noun, plural):
    return [*crud(noun, plural, {"name": noun.capitalize() + " {{run}}"}, {"description": "Changed"}, f"new_{noun}_id"),
            delete(noun, f"new_{noun}_id")]


def queues():
    return [
        *simple("queue", "queues"),
        request("list_queue_items", path={"id": "{{queue_id}}"}, test=[("a page", "Array.isArray(body.items)")]),
        request("get_queue_stats", path={"id": "{{queue_id}}"}),
    ]


def agents():
    one = {"id": "{{agent_id}}"}
    return [
        request("list_agents", test=[("the agent is listed",
                                      "body.items.some((one) => one.id === pm.collectionVariables.get('agent_id'))")]),
        request("get_agent", path=one, test=state_is("ready")),
        request("update_agent", path=one, body={"capacity": {"email": 200, "sms": 5}}),
        request("set_agent_state", path=one, who="agent", body={"state": "ready"}, test=state_is("ready")),
    ]


def offers():
    return [
        push("A first mail", "a", "First {{run}}", cc="Pat <pat@customer.test>", attachment=True),
        await_offer("list_offers", "a"),
        request("get_offer", who="agent", path=OFFER, test=state_is("pending")),
        request("accept_offer", who="agent", path=OFFER, test=state_is("accepted")),
        push("A second mail", "b", "Second {{run}}", sender="Kim <kim@customer.test>"),
        await_offer("Wait for the second offer", "b"),
        request("reject_offer", who="agent", path={"id": "{{offer_b}}"}, body={"reason": "not my field"},
                test=state_is("rejected")),
    ]


def work_items():
    upload = {"id": "{{upload_id}}"}
    answer = {"expected_last_message_id": "{{message_a}}", "text": "Thank you."}
    return [
        request("claim_work_item", who="agent", path={"id": "{{item_b}}"}, test=state_is("assigned")),
        push("A third mail", "c", "Third {{run}}", sender="Lou <lou@customer.test>"),
        await_offer("Wait for the third offer", "c"),
        request("reject_offer", "Reject it", who="agent", path={"id": "{{offer_c}}"}, body={}),
        request("claim_next_work_item", who="agent", body={"queue_id": "{{queue_id}}"}, save={"item_c": "body.id"},
                test=state_is("assigned")),
        request("release_work_item", who="agent", path={"id": "{{item_c}}"}),
        request("list_work_items", query={"limit": "100"}, test=[
            ("the first is listed", "body.items.some((one) => one.id === pm.collectionVariables.get('item_a'))")]),
        request("get_work_item", who="agent", path=ITEM, test=state_is("assigned")),
        request("get_work_item_trace", who="agent", path=ITEM, test=[("told", "body.items.length > 0")]),
        request("explain_work_item", who="agent", path=ITEM),
        request("set_work_item_outcome", who="agent", path=ITEM, body={"code": "question"}),
        request("set_work_item_priority", path=ITEM, body={"priority": 2}, test=[("2", "body.priority === 2")]),
        request("set_work_item_class", path=ITEM, body={"class_id": None}),
        request("create_work_item_note", who="agent", path=ITEM, body={"text": "She called."}),
        request("get_reply_template", who="agent", path=ITEM, query={"kind": "reply_all"}),
        request("replace_draft", who="agent", path=ITEM, body={"text": "Dear"}),
        request("get_draft", who="agent", path=ITEM, test=[("kept", "body.content.text === 'Dear'")]),
        request("delete_draft", who="agent", path=ITEM),
        request("create_upload", who="agent", query={"filename": "terms.txt"}, body="Our terms.",
                save={"upload_id": "body.id"}),
        request("get_upload", who="agent", path=upload, test=[("its name", "body.filename === 'terms.txt'")]),
        request("reply_work_item", who="agent", path=ITEM, body={**answer, "attachment_ids": ["{{upload_id}}"]},
                save={"answer_a": "body.message_id"}),
        request("create_upload", "A further file", who="agent", query={"filename": "draft.txt"}, body="Not sent.",
                save={"upload_id": "body.id"}),
        request("delete_upload", who="agent", path=upload),
        request("forward_work_item", who="agent", path=ITEM,
                body={"to": [{"address": "expert@centre.test"}], "text": "What do you think?"}),
        request("pause_outgoing_server", test=state_is("paused")),
        request("get_reply_template", "What is the newest message?", who="agent", path=ITEM, query={"kind": "reply_all"},
                save={"last_message_id": "body.expected_last_message_id"}),
        request("reply_all_work_item", who="agent", path=ITEM,
                body={**answer, "expected_last_message_id": "{{last_message_id}}"}, save={"unsent_id": "body.message_id"},
                test=[("Pat gets a copy", "JSON.stringify(body.cc).includes('pat@customer.test')")]),
    ]


def work_items_end():
    return [
        request("get_sandbox_clock", "What time is it?", save={
            "until": "new Date(new Date(body.now).getTime() + 30000).toISOString()"}),
        request("snooze_work_item", who="agent", path=ITEM, body={"until": "{{until}}"}, test=state_is("waiting")),
        request("advance_sandbox_clock", "Let a minute pass", body={"seconds": 60}),
        await_offer("Wait until it is offered again", "a"),
        request("accept_offer", "Take it up again", who="agent", path=OFFER, test=state_is("accepted")),
        request("update_agent_group", "Give time to wrap up", path={"id": "{{group_id}}"}, body={"wrap_up_s": 600}),
        request("complete_work_item", who="agent", path=ITEM, body={"outcome_code": "answered"}, test=state_is("wrapping")),
        request("finish_work_item_wrap_up", who="agent", path=ITEM, test=state_is("completed")),
        request("transfer_work_item", who="agent", path={"id": "{{item_b}}"},
                body={"queue_id": "{{queue_id}}", "note": "Somebody else, please"}),
    ]


def conversations():
    one = {"id": "{{conversation_w}}"}
    return [
        request("list_conversations", query={"limit": "100"}, test=[("some", "body.items.length > 0")]),
        request("get_conversation", who="agent", path=one,
                test=[("closed with its work item", "body.state === 'closed' && body.allowed_actions.length === 0")]),
        request("list_conversation_messages", who="agent", path=one, test=[("mail and answer", "body.items.length === 2")]),
        request("create_conversation_note", who="agent", path=one, body={"text": "Was friendly."}),
        request("list_conversation_notes", who="agent", path=one, test=[("one", "body.items.length === 1")]),
        request("close_conversation", path=one, status=409,
                test=[("it is closed already", "body.code === 'invalid_state'")]),
    ]


def messages():
    one, answer = {"id": "{{message_w}}"}, {"id": "{{answer_w}}"}
    letter = {"account_id": "{{account_id}}", "template_id": "{{letter_id}}", "variables": {"number": 4711},
              "to": {"name": "Chris", "address": "chris@customer.test"}}
    return [
        request("list_messages", query={"limit": "100"}, test=[("some", "body.items.length > 0")]),
        request("get_message", who="agent", path=one),
        request("get_message_raw", who="agent", path=one, test=[("byte for byte", "pm.response.text().startsWith('From: ')")]),
        request("get_message_attachment", who="agent", path={**one, "number": "{{attachment_number}}"},
                test=[("the file", "pm.response.text().includes('Receipt 4711')")]),
        request("get_message_delivery", who="agent", path=answer, test=state_is("sent")),
        request("get_message_timeline", who="agent", path=answer),
        request("cancel_message", who="agent", path={"id": "{{unsent_id}}"}, test=state_is("cancelled")),
        request("retry_message", who="agent", path=answer, status=409,
                test=[("what was sent is not sent again", "body.code === 'invalid_state'")]),
        request("create_template", "A letter for one customer", save={"letter_id": "body.id"}, body={
            "name": "Shipped {{run}}", "purpose": "general", "subject": "Order {{ number }} is on its way",
            "text": "Dear {{ to.name }},\n\nyour order {{ number }} left us today.\n\n{{ account.display_name }}",
            "fields": [{"name": "number", "type": "integer", "required": True}]}),
        request("publish_template", "Publish it", path={"id": "{{letter_id}}"}, test=state_is("published")),
        request("create_message", "What would the customer get?", body={**letter, "dry_run": True}, status=200,
                test=[("with the order's number", "body.subject === 'Order 4711 is on its way'"), ("not sent", "!body.id")]),
        request("create_message", body={**letter, "external_ref": "order-4711-{{run}}"}, status=201,
                save={"direct_id": "body.id"}, test=state_is("queued")),
        request("create_message_batch", body={"messages": [
            {**letter, "external_ref": "order-4712-{{run}}"}, {"to": {"address": "nobody"}, "content": {
                "subject": "Hello", "text": "Hello"}}]}, test=[("one of two", "body.created === 1 && body.refused === 1")]),
        request("get_message_timeline", "What became of it?", path={"id": "{{direct_id}}"},
                test=[("made and queued", "body.items.map((line) => line.step).join() === 'created,queued'")]),
        request("list_messages", "Find it by the order", query={"external_ref": "order-4711-{{run}}"},
                test=[("that one", "body.items[0].id === pm.collectionVariables.get('direct_id')")]),
        request("create_message", "Send one tomorrow", status=201, save={"later_id": "body.id"}, test=state_is("scheduled"),
                before=["pm.collectionVariables.set('tomorrow', new Date(Date.now() + 86400000).toISOString());"],
                body={"account_id": "{{account_id}}", "to": {"address": "chris@customer.test"}, "send_at": "{{tomorrow}}",
                      "content": {"subject": "Is everything well?", "text": "Tell us what you think."}}),
        request("cancel_message", "Or rather not", path={"id": "{{later_id}}"}, test=state_is("cancelled")),
    ]


def suppressions():
    one = {"id": "{{suppression_id}}"}
    to_them = {"account_id": "{{account_id}}", "to": {"address": "No-More-{{run}}@customer.test"},
               "content": {"subject": "News", "text": "There is news."}}
    return [
        request("create_suppression", body={"address": "no-more-{{run}}@customer.test", "note": "Asked by telephone"},
                save={"suppression_id": "body.id"}, test=[("it holds", "body.in_force")]),
        request("list_suppressions", query={"address": "no-more-{{run}}@customer.test"},
                test=[("that one", "body.items[0].id === pm.collectionVariables.get('suppression_id')")]),
        request("get_suppression", path=one, test=[("decided here", "body.reason === 'manual'")]),
        request("create_message", "A send to them is held back", body=to_them, status=201, test=state_is("suppressed")),
        request("delete_suppression", path=one),
        request("import_suppressions", body="address,reason\r\nfrom-a-file-{{run}}@customer.test,unsubscribed\r\n",
                test=[("one more", "body.created_count === 1")]),
        request("export_suppressions", query={"format": "ndjson"},
                test=[("it is there", "pm.response.text().includes('from-a-file-')")]),
        request("create_message", "Now it would go out", body={**to_them, "dry_run": True}, status=200,
                test=[("nothing is against it", "body.suppressed_by === null")]),
    ]


def broadcasts():
    one, later = {"id": "{{broadcast_id}}"}, {"id": "{{later_broadcast_id}}"}
    body = {"name": "Autumn {{run}}", "target": {"list_id": "{{broadcast_list_id}}"}, "template_id": "{{advert_id}}",
            "account_id": "{{account_id}}"}
    is_over = [("it is too late", "body.code === 'invalid_state'")]
    return [
        request("create_list", "Make a list", body={"name": "Autumn {{run}}"}, save={"broadcast_list_id": "body.id"}),
        request("create_customer", "Put a customer on it", body={
            "list_id": "{{broadcast_list_id}}", "ref": "B-{{run}}", "name": "Robin", "email": "robin-{{run}}@customer.test"}),
        request("create_template", "Make an advertisement", save={"advert_id": "body.id"}, body={
            "name": "Advert {{run}}", "category": "marketing", "subject": "An offer for {{ customer.name }}",
            "text": "Dear {{ customer.name }}, buy now. No more of these: {{ unsubscribe_url }}"}),
        request("publish_template", "Publish it", path={"id": "{{advert_id}}"}, test=state_is("published")),
        *crud("broadcast", "broadcasts", body, {"description": "To everybody"}, "broadcast_id"),
        request("preflight_broadcast", path=one, test=[("one would get it", "body.recipients === 1")]),
        request("test_send_broadcast", path=one, body={"to": [{"address": "editor@centre.test"}]},
                test=[("marked", "body.subject === '[Test] An offer for Robin'")]),
        request("start_broadcast", path=one, test=state_is("preparing")),
        request("get_broadcast", "Wait until it is over", path=one, until="body.state === 'completed'",
                test=[("sent", "body.counts.sent === 1")]),
        request("list_broadcast_recipients", path=one, query={"limit": "1"}, save={"advert_message_id": "body.items[0].message_id"},
                test=[("the ledger says so", "body.items[0].state === 'sent'")]),
        request("get_message", "What was sent", path={"id": "{{advert_message_id}}"},
                save={"unsubscribe_token": "body.text.match(/\\/u\\/([a-z2-7]+)/)[1]"}),
        request("get_unsubscribe_page", who=None, path={"token": "{{unsubscribe_token}}"}),
        request("create_unsubscribe", who=None, path={"token": "{{unsubscribe_token}}"}),
        request("list_suppressions", "They get no more", query={"address": "robin-{{run}}@customer.test"},
                test=[("unsubscribed", "body.items[0].reason === 'unsubscribed'")]),
        request("pause_broadcast", path=one, status=409, test=is_over),
        request("resume_broadcast", path=one, status=409, test=is_over),
        request("retry_failed_broadcast", path=one, status=409, test=is_over),
        request("create_broadcast", "One for later", body={**body, "scheduled_at": "2099-01-01T00:00:00Z"},
                save={"later_broadcast_id": "body.id"}),
        request("start_broadcast", "It is scheduled", path=later, test=state_is("scheduled")),
        request("cancel_broadcast", path=later, test=state_is("cancelled")),
        request("create_broadcast", "One that is not needed", body=body, save={"spare_broadcast_id": "body.id"}),
        delete("broadcast", "spare_broadcast_id"),
    ]


def outcomes():
    return [
        *crud("outcome", "outcomes", {"code": "no_answer_{{run}}", "category": "non_contact"}, {"name": "No answer"}, "outcome_id"),
        request("create_outcome", "One that is not needed", body={"code": "spare_{{run}}", "category": "system"},
                save={"spare_outcome_id": "body.id"}),
        delete("outcome", "spare_outcome_id"),
    ]


def lists():
    one, file = {"id": "{{list_id}}"}, {"id": "{{import_id}}"}
    csv = ("ref,name,email,sms_number,plan\r\nfile-1-{{run}},Anna Example,anna@customer.test,+44 20 7946 0018,Premium\r\n"
           "file-2-{{run}},Ben Example,nobody,,Basic\r\n")
    return [
        *crud("list", "lists", {"name": "March {{run}}"}, {"state": "passive"}, "list_id"),
        request("create_import", path=one, body={"format": "csv"}, save={"import_id": "body.id"}, test=state_is("waiting")),
        request("put_import_rows", path=file, body=csv, test=[
            *state_is("completed"), ("one is taken, one is not", "body.created_count === 1 && body.failed_count === 1")]),
        request("get_import", path=file, test=[("it has ended", "body.allowed_actions.length === 0")]),
        request("list_import_errors", path=file, test=[
            ("line 3 has no address", "body.items[0].line === 3 && body.items[0].member === 'email'")]),
        request("create_import", "Another one", path=one, body={"format": "ndjson"}, save={"import_id": "body.id"}),
        request("cancel_import", path=file, test=state_is("cancelled")),
        request("list_imports", query={"list_id": "{{list_id}}"}, test=[("both", "body.items.length === 2")]),
        request("get_list_stats", path=one, test=[("one", "body.unused === 1 && body.total === 1")]),
        request("export_customers", path=one, query={"format": "csv"},
                test=[("no formula", "pm.response.text().includes(\"'+442079460018\")")]),
        request("create_list", "One that is not needed", body={"name": "Spare {{run}}"}, save={"spare_list_id": "body.id"}),
        delete("list", "spare_list_id"),
    ]


def customers():
    one, known = {"id": "{{customer_id}}"}, {"ref": "C-{{run}}"}
    status_is = lambda status: [(f"they are {status}", f"body.status === '{status}'")]
    return [
        *crud("customer", "customers", {"list_id": "{{list_id}}", "ref": "C-{{run}}", "email": "gone-{{run}}@customer.test"},
              {"name": "Anna Example"}, "customer_id"),
        request("get_customer_by_ref", path=known,
                test=[("the same", "body.id === pm.collectionVariables.get('customer_id')")]),
        request("put_customer_by_ref", path=known, status=200,
                body={"list_id": "{{list_id}}", "name": "Anna", "email": "gone-{{run}}@customer.test", "data": {"plan": "Basic"}}),
        request("set_customer_callback", path=one, body={"at": "{{tomorrow}}", "note": "In the evening"},
                before=["pm.collectionVariables.set('tomorrow', new Date(Date.now() + 86400000).toISOString());"],
                test=status_is("callback")),
        request("clear_customer_callback", path=one, test=status_is("unused")),
        request("terminate_customer", path=one, body={"outcome_code": "no_answer_{{run}}"}, test=status_is("terminated")),
        request("redial_customer", path=one, test=status_is("unused")),
        request("create_message", "Write to them tomorrow", status=201, save={"erased_message_id": "body.id"}, test=state_is("scheduled"),
                before=["pm.collectionVariables.set('tomorrow', new Date(Date.now() + 86400000).toISOString());"],
                body={"account_id": "{{account_id}}", "customer_ref": "C-{{run}}", "send_at": "{{tomorrow}}",
                      "content": {"subject": "For {{run}}", "text": "Hello"}}),
        request("erase_customer", path=one, test=[("nothing is known", "body.email === null && body.erased_at")]),
        request("get_customer", "Their texts are gone, too", path=one, until="body.texts_erased_at"),
        request("get_message", "Nothing is left of the message", path={"id": "{{erased_message_id}}"}, test=[
            *state_is("cancelled"), ("it is empty", "body.erased_at && body.subject === '' && body.to.length === 0")]),
        request("get_message_raw", "Nor of its source", path={"id": "{{erased_message_id}}"}, status=410),
        request("list_suppressions", "Nothing is sent there any more", query={"address": "gone-{{run}}@customer.test"},
                test=[("without the address", "body.items[0].in_force && body.items[0].address === null")]),
        delete("customer", "customer_id"),
    ]


def dkim_keys():
    one = {"id": "{{dkim_key_id}}"}
    return [
        request("create_dkim_key", body={"domain": "centre.test", "selector": "s-{{run}}", "algorithm": "ed25519"},
                save={"dkim_key_id": "body.id", "dkim_record": "body.dns_record"},
                test=[*state_is("draft"), ("no secret", "!pm.response.text().includes('PRIVATE')")]),
        request("list_dkim_keys", query={"domain": "centre.test"}, test=[("it is listed", "body.items.length > 0")]),
        request("get_dkim_key", path=one, test=state_is("draft")),
        request("check_dkim_key", path=one, body={"published": "{{dkim_record}}"},
                test=[("the record fits", "body.steps.find((step) => step.name === 'record').ok")]),
        request("activate_dkim_key", path=one, test=state_is("active")),
        request("retire_dkim_key", path=one, test=state_is("retired")),
        delete("dkim_key", "dkim_key_id"),
    ]


def outgoing():
    one = {"id": "{{captured_id}}"}
    return [
        request("get_outgoing_server", test=[("capture", "body.transport === 'capture'")]),
        request("resume_outgoing_server", test=state_is("running")),
        request("check_outgoing_server", test=[("ok", "body.ok")]),
        request("send_test_message", body={"to": "postmaster@centre.test", "from_account_id": "{{account_id}}"}),
        request("list_captured_messages", test=[("some", "body.items.length > 0")]),
        request("get_captured_message", path=one),
        request("get_captured_message_raw", path=one),
        request("delete_captured_messages"),
        request("delete_outgoing_server"),
        request("replace_outgoing_server", body={"transport": "capture"}, status=201),
    ]


def events():
    return [
        request("list_events", query={"limit": "100"}, test=[("some", "body.items.length > 0")]),
        request("create_event_ticket", who="agent", test=[("a ticket", "body.ticket")]),
        # The stream itself never ends, which no runner of collections bears: it is asked with a ticket that is none.
        request("stream_events", who=None, query={"ticket": "none"}, status=401),
    ]


def sandbox():
    return [request("get_sandbox_clock", test=[("a minute ahead", "body.ahead_s >= 60")]),
            request("advance_sandbox_clock", body={"seconds": 1})]


def collection():
    about = {tag["name"]: tag["description"] for tag in DOCUMENT["tags"]}
    tags = [
        ("service", service()), ("access", access()), ("accounts", accounts()), ("texts (SMS)", texts()), ("scripts", scripts()),
        ("templates", templates()), ("classes", simple("class", "classes")), ("skills", simple("skill", "skills")),
        ("agent groups", simple("agent_group", "agent_groups")), ("agents", agents()), ("queues", queues()),
        ("offers", offers()), ("work items", work_items()), ("messages", messages()), ("suppressions", suppressions()),
        ("outcomes", outcomes()), ("lists", lists()), ("customers", customers()),
        ("campaigns", campaigns()),
        ("outgoing server", outgoing()), ("DKIM keys", dkim_keys()), ("broadcasts", broadcasts()),
        ("conversations", conversations()), ("work items, to the end", work_items_end()), ("events", events()),
        ("sandbox", sandbox()),
    ]
    items = [walk(), *(folder(name, about.get(name, ""), requests) for name, requests in tags)]
    missing = sorted(set(OPERATIONS) - {request_["name"] for part in items for request_ in part["item"]})
    if missing:
        sys.exit("no request is named " + ", ".join(missing))
    return {
        "info": {
            "name": "Postroom", "schema": "https://schema.getpostman.com/json/collection/v2.1.0/collection.json",
            "description": "Run it from top to bottom against `postroom sandbox`: the first folder is the whole job, the "
                           "others have every operation under its operationId. Each request checks its answer."},
        "item": items,
    }


def environment():
    values = [("base_url", "http://127.0.0.1:8080", "default"), ("admin_username", "admin", "default"),
              ("admin_password", "postroom-sandbox", "secret"), ("agent_username", "anna", "default"),
              ("agent_password", "postroom-sandbox", "secret")]
    return {"name": "Postroom sandbox", "_postman_variable_scope": "environment",
            "values": [{"key": key, "value": value, "type": kind, "enabled": True} for key, value, kind in values]}


def write(name, content):
    path = ROOT / "postman" / f"postroom.postman_{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


write("collection", collection())
write("environment", environment())
