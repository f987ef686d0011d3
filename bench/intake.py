"""How fast a full mailbox comes in: fetched, stored, parsed, threaded, routed and queued."""

import json
import os
import shutil
import subprocess
import tempfile
import time

import inbox
from service import ROOT, Postroom, rows_of

ANCHORS = os.path.join(ROOT, "target/anchors/release/anchors")
USER = "bench@centre.test"

MBSYNCRC = """\
FSync yes

IMAPAccount bench
Host {host}
Port {port}
User {user}
Pass {password}
SSLType None
AuthMechs LOGIN
PipelineDepth 50

IMAPStore far
Account bench

MaildirStore near
Path {directory}/
Inbox {directory}/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns INBOX
Create Near
Sync Pull
SyncState *
"""


def fill(count):
    """Puts the inbox into Dovecot. The messages are made once and kept below target/."""
    kept = os.path.join(ROOT, f"target/bench/inbox-{count}")
    if not os.path.exists(kept):
        fresh = f"{kept}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        inbox.write(fresh, count)
        os.rename(fresh, kept)
    with open(os.environ["POSTROOM_TEST_STACK"], encoding="utf-8") as state:
        mail = json.load(state)["servers"]["dovecot"]["mail"]
    home = os.path.join(mail, USER)
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(kept, os.path.join(home, "Maildir"))
    owner = os.stat(mail)
    subprocess.run(["chown", "-R", f"{owner.st_uid}:{owner.st_gid}", home], check=True)
    # The first client makes Dovecot's index; nobody's time should hold that.
    with tempfile.TemporaryDirectory(prefix="postroom-bench-") as scratch:
        bare(count, scratch)


def mbsync(count, scratch):
    host, port = os.environ["POSTROOM_TEST_IMAP"].split(":")
    directory = tempfile.mkdtemp(dir=scratch)
    config = os.path.join(directory, "mbsyncrc")
    with open(config, "w", encoding="utf-8") as out:
        out.write(MBSYNCRC.format(host=host, port=port, user=USER, directory=directory,
                                  password=os.environ["POSTROOM_TEST_MAIL_PASSWORD"]))
    begun = time.monotonic()
    subprocess.run(["mbsync", "-q", "-c", config, "all"], check=True, stderr=subprocess.DEVNULL)
    took = time.monotonic() - begun
    found = sum(len(os.listdir(os.path.join(directory, "INBOX", part))) for part in ("cur", "new"))
    expect(found, count, "mbsync")
    return count / took


def bare(count, scratch):
    database = os.path.join(tempfile.mkdtemp(dir=scratch), "bare.db")
    words = [ANCHORS, "intake", os.environ["POSTROOM_TEST_IMAP"], USER, os.environ["POSTROOM_TEST_MAIL_PASSWORD"], database]
    done = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    expect(done["n"], count, "the bare program")
    return done["n"] / done["secs"]


def ours(count, database):
    with Postroom(database) as service:
        root = service.log_in()
        queue = root.post("/v1/queues", {"name": "All"})["id"]
        begun = time.monotonic()
        root.account(queue, address=USER)
        while root.counter("postroom_poll_messages_total") < count:
            if time.monotonic() - begun > 300:
                raise RuntimeError("the mailbox did not come in within 5 minutes")
            time.sleep(0.05)
        took = time.monotonic() - begun
        check(service, root, queue, count)
    return count / took


def check(service, root, queue, count):
    """All messages are there, each is in work or needs none, and what waits is in the queue."""
    waiting = root.get(f"/v1/queues/{queue}/stats")["waiting"]
    service.stop()
    for what, query, wanted in (
        ("messages", "SELECT count(*) FROM messages", count),
        ("raw messages", "SELECT count(*) FROM raw_messages", count),
        ("messages without work", "SELECT count(*) FROM messages WHERE work_item_id IS NULL AND classification = 'normal'", 0),
        ("items in the queue", "SELECT count(*) FROM work_items WHERE state = 'queued'", waiting),
    ):
        expect(int(rows_of(service, query)[0]), wanted, what)
    if waiting < count / 3:
        raise RuntimeError(f"only {waiting} items wait in the queue")


def expect(found, wanted, what):
    if found != wanted:
        raise RuntimeError(f"{what}: {found} instead of {wanted}")


def run(table, options):
    count = options.messages
    fill(count)
    # What the others stored is removed at the end: a file system that has just lost thousands of files makes new ones slowly.
    with tempfile.TemporaryDirectory(prefix="postroom-bench-") as scratch:
        measures = [
            ("mbsync, fsync for each message", lambda: mbsync(count, scratch)),
            ("bare fetch, parse, store", lambda: bare(count, scratch)),
            *((f"Postroom on {database}", lambda database=database: ours(count, database)) for database in options.databases),
        ]
        table.measure(f"(a) intake of {count:,} messages from Dovecot, messages/s", measures, options.rounds)
