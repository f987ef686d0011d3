#!/usr/bin/env python3
"""The stack does what tests rely on. Run with `make test-stack`; needs the servers installed."""

import base64
import email.message
import email.utils
import glob
import hashlib
import hmac
import imaplib
import json
import os
import signal
import smtplib
import ssl
import subprocess
import sys
import tempfile
import time
import unittest
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
STACK = [sys.executable, os.path.join(HERE, "stack.py")]
DEADLINE_S = 15


def until(condition, deadline_s=DEADLINE_S):
    """Polls until the condition gives something true; the deadline is a failure."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("the deadline passed")
        time.sleep(0.02)


def split(address):
    host, port = address.rsplit(":", 1)
    return host, int(port)


def new_message(sender, recipient, subject):
    message = email.message.EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, recipient, subject
    message["Message-ID"] = email.utils.make_msgid(domain="customer.test")
    message.set_content("My order has not come.\n")
    return message


class Running:
    """A stack started with `up --json`."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen([*STACK, "up", "--json", *arguments], stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError("the stack did not start")
        self.state = json.loads(line)
        self.environment = self.state["environment"]

    def __getitem__(self, name):
        return self.environment[f"POSTROOM_TEST_{name}"]

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        code = self.process.wait(DEADLINE_S)
        self.process.stdout.close()
        return code

    def ask(self, *arguments):
        return subprocess.run([*STACK, *arguments], capture_output=True, text=True, timeout=60, check=False)

    def imap(self, user):
        client = imaplib.IMAP4(*split(self["IMAP"]), timeout=DEADLINE_S)
        client.login(user, "secret")
        client.select("INBOX")
        return client

    def deliver(self, message, port="SMTP"):
        with smtplib.SMTP(*split(self[port]), timeout=DEADLINE_S) as client:
            client.send_message(message)

    def subjects(self, user):
        client = self.imap(user)
        try:
            numbers = client.search(None, "ALL")[1][0].split()
            fetched = [client.fetch(number, "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1][0][1] for number in numbers]
            return [line.decode().partition(":")[2].strip() for line in fetched]
        finally:
            client.logout()

    def sql(self, statement):
        done = subprocess.run(
            [os.path.join(self.state["servers"]["postgres"]["bin"], "psql"), "-XAtq", self["PG"], "-c", statement],
            capture_output=True, text=True, timeout=DEADLINE_S, check=True)
        return done.stdout.strip()

    def pids(self):
        return [server["pid"] for server in self.state["servers"].values()]


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class MailAndDatabase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = Running()

    @classmethod
    def tearDownClass(cls):
        assert cls.stack.stop() == 0
        assert not any(alive(pid) for pid in cls.stack.pids())
        assert not os.path.exists(cls.stack.state["directory"])

    def setUp(self):
        self.user = f"help-{uuid.uuid4().hex[:8]}@centre.test"

    def test_mail_sent_to_postfix_is_read_over_imap(self):
        self.stack.deliver(new_message("user@customer.test", self.user, "Order 1"))
        self.assertEqual(until(lambda: self.stack.subjects(self.user)), ["Order 1"])

    def test_mail_given_to_lmtp_is_read_at_once(self):
        with smtplib.LMTP(*split(self.stack["LMTP"])) as client:
            client.send_message(new_message("user@customer.test", self.user, "Order 2"))
        self.assertEqual(self.stack.subjects(self.user), ["Order 2"])

    def test_idle_tells_of_new_mail(self):
        client = self.stack.imap(self.user)
        client.send(b"a1 IDLE\r\n")
        self.assertTrue(client.readline().startswith(b"+"))
        begun = time.monotonic()
        with smtplib.LMTP(*split(self.stack["LMTP"])) as lmtp:
            lmtp.send_message(new_message("user@customer.test", self.user, "Order 3"))
        line = client.readline()
        print(f"IDLE spoke {1000 * (time.monotonic() - begun):.0f} ms after the delivery began", file=sys.stderr)
        self.assertEqual(line.strip(), b"* 1 EXISTS")
        client.send(b"DONE\r\n")
        until(lambda: client.readline().startswith(b"a1 OK"))
        client.logout()

    def test_tls_certificates_verify_against_the_authority(self):
        context = ssl.create_default_context(cafile=self.stack["CA"])
        host, port = split(self.stack["IMAPS"])
        for name in (host, "localhost"):
            with imaplib.IMAP4_SSL(name, port, ssl_context=context, timeout=DEADLINE_S) as client:
                client.login(self.user, "secret")
        with imaplib.IMAP4(*split(self.stack["IMAP"]), timeout=DEADLINE_S) as client:
            client.starttls(context)
            client.login(self.user, "secret")

    def test_a_wrong_password_is_refused_without_delay(self):
        begun = time.monotonic()
        for _ in range(5):
            with imaplib.IMAP4(*split(self.stack["IMAP"]), timeout=DEADLINE_S) as client:
                with self.assertRaises(imaplib.IMAP4.error):
                    client.login(self.user, "wrong")
        self.assertLess(time.monotonic() - begun, 5)

    def test_xoauth2_takes_a_signed_token_and_no_other(self):
        def login(key):
            token = json_web_token({"sub": self.user, "exp": int(time.time()) + 60, "scope": "imap"}, key)
            with imaplib.IMAP4(*split(self.stack["IMAP"]), timeout=DEADLINE_S) as client:
                client.authenticate("XOAUTH2", lambda challenge: b"" if challenge else
                                    f"user={self.user}\1auth=Bearer {token}\1\1".encode())
                return client.select("INBOX")[0]

        self.assertEqual(login(base64.b64decode(self.stack["OAUTH_KEY"])), "OK")
        with self.assertRaises(imaplib.IMAP4.error):
            login(b"another key of the same length..")

    def test_archive_is_there_with_its_special_use(self):
        client = self.stack.imap(self.user)
        self.assertIn(rb'(\HasNoChildren \Archive) "/" Archive', client.list()[1])
        client.logout()

    def test_submission_wants_starttls_and_a_login(self):
        message = new_message(self.user, "user@customer.test", "Answer")
        context = ssl.create_default_context(cafile=self.stack["CA"])
        with smtplib.SMTP(*split(self.stack["SUBMISSION"]), timeout=DEADLINE_S) as client:
            with self.assertRaises(smtplib.SMTPResponseException):
                client.send_message(message)
        with smtplib.SMTP("localhost", split(self.stack["SUBMISSION"])[1], timeout=DEADLINE_S) as client:
            client.starttls(context=context)
            with self.assertRaises(smtplib.SMTPRecipientsRefused):
                client.send_message(message)
            with self.assertRaises(smtplib.SMTPAuthenticationError):
                client.login(self.user, "wrong")
            client.login(self.user, "secret")
            client.send_message(message)
        until(lambda: "Answer" in self.stack.subjects("user@customer.test"))

    def test_chosen_recipients_are_refused_deferred_and_bounced(self):
        for recipient, code in (("rejected@customer.test", 550), ("deferred@customer.test", 450)):
            with self.assertRaises(smtplib.SMTPRecipientsRefused) as refused:
                self.stack.deliver(new_message(self.user, recipient, "No"))
            self.assertEqual(refused.exception.recipients[recipient][0], code)
        self.stack.deliver(new_message(self.user, "bouncing@customer.test", "Bounce"))
        subjects = until(lambda: self.stack.subjects(self.user))
        self.assertEqual(subjects, ["Undelivered Mail Returned to Sender"])

    def test_dovecot_restarts_on_its_ports_and_keeps_the_mail(self):
        before = self.stack.state["servers"]["dovecot"]["pid"]
        self.stack.deliver(new_message("user@customer.test", self.user, "Before"))
        until(lambda: self.stack.subjects(self.user))
        done = self.stack.ask("restart-dovecot", self.stack["STACK"])
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        with open(self.stack["STACK"], encoding="utf-8") as state:
            after = json.load(state)["servers"]["dovecot"]["pid"]
        self.assertNotEqual(before, after)
        self.stack.state["servers"]["dovecot"]["pid"] = after
        self.assertEqual(self.stack.subjects(self.user), ["Before"])

    def test_mail_for_a_stopped_dovecot_waits_in_postfix(self):
        self.assertEqual(self.stack.ask("stop", "dovecot", self.stack["STACK"]).returncode, 0)
        with self.assertRaises(ConnectionRefusedError):
            self.stack.imap(self.user)
        self.stack.deliver(new_message("user@customer.test", self.user, "In the gap"))
        self.assertEqual(self.stack.ask("start", "dovecot", self.stack["STACK"]).returncode, 0)
        self.assertEqual(until(lambda: self.stack.subjects(self.user)), ["In the gap"])
        with open(self.stack["STACK"], encoding="utf-8") as state:
            self.stack.state = json.load(state)

    def test_uidvalidity_can_be_changed(self):
        self.stack.deliver(new_message("user@customer.test", self.user, "Stays"))
        until(lambda: self.stack.subjects(self.user))
        config = self.stack.state["servers"]["dovecot"]["config"]
        subprocess.run(["doveadm", "-c", config, "mailbox", "update", "-u", self.user,
                        "--uid-validity", "4711", "INBOX"], check=True, timeout=DEADLINE_S)
        client = self.stack.imap(self.user)
        self.assertEqual(client.response("UIDVALIDITY")[1], [b"4711"])
        client.logout()
        self.assertEqual(self.stack.subjects(self.user), ["Stays"])

    def test_postgresql_takes_a_database_per_test(self):
        name = f"test_{uuid.uuid4().hex}"
        self.stack.sql(f"CREATE DATABASE {name}")
        self.assertEqual(self.stack.sql(f"SELECT count(*) FROM pg_database WHERE datname = '{name}'"), "1")
        self.assertEqual(self.stack.sql("SHOW synchronous_commit"), "on")
        self.assertEqual(self.stack.sql("SHOW max_connections"), "300")

    def test_a_request_that_makes_no_sense_is_refused(self):
        done = self.stack.ask("restart-dovecot", "/nonexistent/state.json")
        self.assertEqual(done.returncode, 1)
        self.assertIn("stack:", done.stderr)


def json_web_token(claims, key):
    def part(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    signed = part(json.dumps({"alg": "HS256", "typ": "JWT"}).encode()) + b"." + part(json.dumps(claims).encode())
    return (signed + b"." + part(hmac.new(key, signed, hashlib.sha256).digest())).decode()


class Running_a_command(unittest.TestCase):
    def run_in_stack(self, *command, only="pg"):
        return subprocess.run([*STACK, "run", "--only", only, "--", *command],
                              capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False)

    def test_the_exit_code_is_the_command_s(self):
        self.assertEqual(self.run_in_stack("sh", "-c", "exit 7").returncode, 7)
        self.assertEqual(self.run_in_stack("sh", "-c", "kill -9 $$").returncode, 137)
        self.assertEqual(self.run_in_stack("/nonexistent").returncode, 127)

    def test_only_what_was_asked_for_is_started(self):
        names = self.run_in_stack("sh", "-c", "env | grep -o '^POSTROOM_TEST_[A-Z_]*' | sort").stdout.split()
        self.assertEqual(names, ["POSTROOM_TEST_PG", "POSTROOM_TEST_STACK"])

    def test_a_server_that_ends_by_itself_is_reported_and_fails_the_run(self):
        script = "kill -INT $(head -1 \"$(dirname $POSTROOM_TEST_STACK)\"/postgres/data/postmaster.pid); sleep 2"
        done = self.run_in_stack("sh", "-c", script)
        self.assertEqual(done.returncode, 1)
        self.assertIn("postgres has ended by itself", done.stderr)


class Stopping(unittest.TestCase):
    def test_two_stacks_live_side_by_side(self):
        first, second = Running(), Running()
        try:
            for stack in (first, second):
                stack.deliver(new_message("user@customer.test", "help@centre.test", f"for {stack['IMAP']}"))
            for stack in (first, second):
                subjects = until(lambda stack=stack: stack.subjects("help@centre.test"))
                self.assertEqual(subjects, [f"for {stack['IMAP']}"])
            self.assertEqual(first.stop(signal.SIGINT), 0)
            self.assertEqual(second.subjects("help@centre.test"), [f"for {second['IMAP']}"])
        finally:
            if first.process.poll() is None:
                first.stop()
            self.assertEqual(second.stop(), 0)

    def test_a_killed_stack_leaves_no_process_and_the_next_clears_its_directory(self):
        stack = Running()
        stack.stop(signal.SIGKILL)
        until(lambda: not any(alive(pid) for pid in stack.pids()))
        self.assertTrue(os.path.exists(stack.state["directory"]))
        subprocess.run([*STACK, "run", "--only", "pg", "--", "true"], check=True, timeout=60, capture_output=True)
        self.assertFalse(os.path.exists(stack.state["directory"]))

    def test_sigterm_ends_the_command_too(self):
        with tempfile.TemporaryDirectory() as directory:
            pid_file = os.path.join(directory, "pid")
            run = subprocess.Popen([*STACK, "run", "--only", "pg", "--", "sh", "-c",
                                    f"echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 60"],
                                   stderr=subprocess.DEVNULL)
            until(lambda: os.path.exists(pid_file), 30)
            with open(pid_file, encoding="utf-8") as source:
                pid = int(source.read())
            run.send_signal(signal.SIGTERM)
            self.assertEqual(run.wait(DEADLINE_S), 128 + signal.SIGTERM)
            self.assertFalse(alive(pid))


class Files(unittest.TestCase):
    def test_no_template_keeps_a_placeholder(self):
        stack = Running("--only", "mail")
        try:
            directory = stack.state["directory"]
            for path in glob.glob(f"{directory}/*/*.conf") + glob.glob(f"{directory}/postfix/conf/*.cf"):
                with open(path, encoding="utf-8") as source:
                    self.assertNotRegex(source.read(), r"@[a-z_]+@", path)
        finally:
            stack.stop()


if __name__ == "__main__":
    unittest.main()
