#!/usr/bin/env python3
"""Real servers for tests and for trying things out: Dovecot, Postfix and PostgreSQL, all on 127.0.0.1.

    stack.py run [--only pg|mail] -- COMMAND…   start, run COMMAND with POSTROOM_TEST_* set, stop; exits as COMMAND did
    stack.py up  [--only pg|mail] [--json]      start, say how to connect, run until SIGINT or SIGTERM
    stack.py restart-dovecot STATE              restart Dovecot of a running stack on the same ports
    stack.py start|stop|restart SERVER STATE    the same for dovecot, postfix or postgres

STATE is the path in POSTROOM_TEST_STACK. README.md beside this file tells the rest.
"""

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import time

from server import StackError, tail
from supervisor import Stack, ask

GRACE_S = 10


class Signals:
    """Turns SIGINT and SIGTERM into a flag and SIGCHLD into a wake-up, so that nothing is interrupted half done."""

    def __init__(self):
        self.asked_to_stop = None
        self.wakeup, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _note(self, number, _frame):
        self.asked_to_stop = number


def main():
    arguments = parse()
    try:
        if arguments.verb in ("start", "stop", "restart"):
            ask(arguments.state, arguments.verb, arguments.server)
            return 0
        if arguments.verb == "restart-dovecot":
            ask(arguments.state, "restart", "dovecot")
            return 0
        return serve(arguments)
    except (StackError, OSError) as error:
        print(f"stack: {error}", file=sys.stderr)
        return 1


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("run", "up"):
        sub = verbs.add_parser(verb)
        sub.add_argument("--only", choices=("pg", "mail"), help="start only the database or only the mail servers")
        sub.add_argument("--durable", action="store_true", help="PostgreSQL with fsync, for measurements")
        if verb == "up":
            sub.add_argument("--json", action="store_true", help="print the state as one line of JSON, nothing else")
            sub.add_argument("--state", help="write the state to this file as well")
        else:
            sub.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND…")
    sub = verbs.add_parser("restart-dovecot")
    sub.add_argument("state")
    for verb in ("start", "stop", "restart"):
        sub = verbs.add_parser(verb)
        sub.add_argument("server", choices=("dovecot", "postfix", "postgres"))
        sub.add_argument("state")
    arguments = parser.parse_args()
    if arguments.verb == "run":
        if arguments.command[:1] == ["--"]:
            del arguments.command[0]
        if not arguments.command:
            parser.error("run needs a COMMAND after --")
    return arguments


def serve(arguments):
    signals = Signals()
    begun = time.monotonic()
    with Stack(arguments.only, arguments.durable) as stack:
        took = time.monotonic() - begun
        if arguments.verb == "run":
            print(f"stack: ready in {took:.1f} s", file=sys.stderr)
            return run(stack, signals, arguments.command)
        announce(stack, arguments, took)
        return watch(stack, signals)


def watch(stack, signals):
    """Waits to be told to stop; a server that ends by itself is an error."""
    while signals.asked_to_stop is None:
        wait(stack, signals)
        dead = stack.dead_server()
        if dead is not None:
            raise StackError(f"{dead.name} has ended by itself:\n{tail(dead.log)}")
    return 0


def run(stack, signals, command):
    try:
        child = subprocess.Popen(command, env={**os.environ, **stack.environment})
    except OSError as error:
        print(f"stack: cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    complained = set()
    while child.poll() is None:
        if signals.asked_to_stop is not None:
            return end(child, signals.asked_to_stop)
        wait(stack, signals)
        dead = stack.dead_server()
        if dead is not None and dead.name not in complained:
            complained.add(dead.name)
            print(f"stack: {dead.name} has ended by itself:\n{tail(dead.log)}", file=sys.stderr)
    if complained and child.returncode == 0:
        return 1
    return exit_code(child)


def wait(stack, signals):
    """Sleeps until a signal, the end of a child, or a request; at most a second."""
    ready, _, _ = select.select([signals.wakeup, stack.control], [], [], 1)
    if signals.wakeup in ready:
        os.read(signals.wakeup, 4096)
    if stack.control in ready:
        stack.answer_control()


def end(child, number):
    # A terminal sends SIGINT to the command as well; twice does no harm.
    child.send_signal(number)
    try:
        child.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    return 128 + number


def exit_code(child):
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def announce(stack, arguments, took):
    if arguments.state:
        with open(arguments.state, "w", encoding="utf-8") as out:
            json.dump(stack.state(), out, indent=2)
    if arguments.json:
        print(json.dumps(stack.state()), flush=True)
        return
    print(f"Ready in {took:.1f} s. Ctrl-C stops everything.\n")
    values = stack.environment
    if "POSTROOM_TEST_PG" in values:
        print(f"PostgreSQL   DATABASE_URL={values['POSTROOM_TEST_PG']}\n")
    if "POSTROOM_TEST_IMAP" in values:
        print(mail_text(values))
    print("For tests:\n")
    print("\n".join(f"export {name}='{value}'" for name, value in values.items()), flush=True)


def mail_text(values):
    host, imap = values["POSTROOM_TEST_IMAP"].split(":")
    _, imaps = values["POSTROOM_TEST_IMAPS"].split(":")
    _, smtp = values["POSTROOM_TEST_SMTP"].split(":")
    _, submission = values["POSTROOM_TEST_SUBMISSION"].split(":")
    password = values["POSTROOM_TEST_MAIL_PASSWORD"]
    account = {
        "channel": "email",
        "address": "help@centre.test",
        "display_name": "Help",
        "username": "help@centre.test",
        "password": password,
        "inbound": {"protocol": "imap", "host": host, "port": int(imap), "security": "none", "auth": "password",
                    "folder": "INBOX"},
    }
    server = {"transport": "smtp", "host": host, "port": int(smtp), "security": "none"}
    return f"""\
Mail: every address of every domain has a mailbox; the user name is the address, the password `{password}`.

  IMAP        {host}:{imap}   plain or STARTTLS
  IMAPS       {host}:{imaps}
  SMTP        {host}:{smtp}   no login
  submission  {host}:{submission}   STARTTLS and login
  authority   {values['POSTROOM_TEST_CA']}

POST /v1/accounts
{json.dumps(account, indent=2)}

PUT /v1/outgoing-server
{json.dumps(server, indent=2)}

A customer writes:
  curl smtp://{host}:{smtp} --mail-from user@customer.test --mail-rcpt help@centre.test \\
    -T - <<< $'From: user@customer.test\\nTo: help@centre.test\\nSubject: Hello\\n\\nMy order has not come.'
"""


if __name__ == "__main__":
    sys.exit(main())
