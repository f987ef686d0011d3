"""Requests per second of what every desk asks all the time, beside the least that could answer them."""

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from contextlib import ExitStack

from intake import ANCHORS
from service import Postroom, new_database, psql, rows_of

CLIENTS = 32
# How many agents ask in turn, and how many offers each has.
AGENTS = 64
WAITING = 200_000
OFFERS = 3

# wrk: each request as the next of the agents.
AS_AGENTS = """
local tokens = {{{tokens}}}
local turn = 0
request = function()
    turn = turn % #tokens + 1
    return wrk.format("{method}", "{path}", {{ ["Authorization"] = "Bearer " .. tokens[turn], ["Content-Type"] = "application/json" }}, {body})
end
"""
ROWS = 'request = function() return wrk.format("GET", "/row/" .. math.random(1, 20000)) end'


def wrk(address, path, seconds, script=None):
    """Requests per second; fails when a single answer was not a success."""
    with tempfile.TemporaryDirectory(prefix="postroom-bench-") as directory:
        words = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds}s"]
        if script:
            with open(f"{directory}/script.lua", "w", encoding="utf-8") as out:
                out.write(script)
            words += ["-s", f"{directory}/script.lua"]
        text = subprocess.run([*words, f"http://{address}{path}"], check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError(f"{path}: {text}")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1))


def as_agents(method, path, tokens, body="nil"):
    tokens = ", ".join(f'"{token}"' for token in tokens)
    return AS_AGENTS.format(method=method, path=path, tokens=tokens, body=body)


class Bare:
    """The bare actix-web handlers."""

    def __enter__(self):
        self.directory = tempfile.mkdtemp(prefix="postroom-bench-")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.process = subprocess.Popen([ANCHORS, "http", self.address.split(":")[1], f"{self.directory}/rows.db"])
        end = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"http://{self.address}/json").read()
                return self
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def __exit__(self, *_error):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


class Desk:
    """A service with agents who are ready, and an account whose mail they get."""

    def __init__(self, service, distribution):
        self.service = service
        self.root = service.log_in()
        names = [f"agent{number}" for number in range(AGENTS)]
        group = {"name": "Desk", "member_ids": [self.root.agent(name) for name in names],
                 "capacity": {"email": OFFERS if distribution != "manual" else 1000, "sms": 0}, "offer_timeout_s": 3600}
        group = self.root.post("/v1/agent-groups", group)["id"]
        queue = {"name": "Desk", "agent_group_ids": [group], "distribution": distribution}
        self.queue = self.root.post("/v1/queues", queue)["id"]
        self.account = self.root.account(self.queue, address="desk@centre.test")
        agents = [service.log_in(name) for name in names]
        for agent in agents:
            agent.put("/v1/agents/me/state", {"state": "ready"})
        self.tokens = [agent.token for agent in agents]

    def push(self, count):
        for number in range(count):
            mail = (f"From: customer{number}@customers.test\r\nTo: desk@centre.test\r\nSubject: Order {number}\r\n"
                    f"Message-ID: <{number}@customers.test>\r\n\r\nWhere is it?\r\n")
            path = f"/v1/accounts/{self.account}/messages"
            self.root.send("POST", path, mail.encode(), {"Content-Type": "message/rfc822"})

    def stats(self):
        return self.root.get(f"/v1/queues/{self.queue}/stats")


def list_offers(desk, seconds):
    return wrk(desk.service.address, "/v1/offers", seconds, as_agents("GET", "/v1/offers", desk.tokens))


def claim_next(desk, seconds):
    body = "'{}'"
    return wrk(desk.service.address, "/", seconds, as_agents("POST", "/v1/work-items/claim", desk.tokens, body))


def with_offers(service):
    """Every agent has a few offers."""
    desk = Desk(service, "longest_idle")
    desk.push(AGENTS * OFFERS)
    end = time.monotonic() + 60
    while desk.stats()["waiting"] > 0:
        if time.monotonic() > end:
            raise RuntimeError(f"not everything was offered: {desk.stats()}")
        time.sleep(0.1)
    return desk


def with_a_long_queue(service):
    """Nobody is offered anything, and 200,000 conversations wait: copies of one that came in by itself."""
    desk = Desk(service, "manual")
    desk.push(1)
    service.stop()
    sqlite = service.kind == "sqlite"
    fresh = "randomblob(16)" if sqlite else "gen_random_uuid()"
    numbers = (f"WITH RECURSIVE numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers "
               f"WHERE number < {WAITING}) ")
    columns = columns_of(service, "conversations"), columns_of(service, "work_items")
    one, item = ", ".join(columns[0]), ", ".join(columns[1])
    copied = ", ".join(fresh if column == "id" else column for column in columns[0])
    replaced = {"id": fresh, "conversation_id": "conversations.id", "rank": "work_items.rank + 1"}
    placed = ", ".join(replaced.get(column, f"work_items.{column}") for column in columns[1])
    service.sql(
        f"INSERT INTO conversations ({one}) {numbers} SELECT {copied} FROM conversations, numbers",
        f"INSERT INTO work_items ({item}) SELECT {placed} FROM work_items, conversations "
        "WHERE conversations.id <> work_items.conversation_id",
        "ANALYZE",
    )
    service.start()
    return desk


def columns_of(service, table):
    if service.kind == "sqlite":
        return rows_of(service, f"SELECT name FROM pragma_table_info('{table}')")
    return rows_of(service, f"SELECT column_name FROM information_schema.columns WHERE table_name = '{table}'")


def store_claims(database, seconds):
    """What the store itself does: take the oldest of 200,000 waiting rows, a durable transaction each."""
    if database == "sqlite":
        with tempfile.TemporaryDirectory(prefix="postroom-bench-") as directory:
            words = [ANCHORS, "claim", f"{directory}/claim.db", str(1000 * seconds)]
            done = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        return done["n"] / done["secs"]
    url = new_database()
    psql(url, f"CREATE TABLE job AS SELECT g::bigint id, 'billing'::text queue, 0 status, g::bigint received, NULL::int agent, "
         f"'Where is my order' subject FROM generate_series(1, {WAITING}) g", "ALTER TABLE job ADD PRIMARY KEY (id)",
         "CREATE INDEX ON job (queue, status, received)", "VACUUM ANALYZE job")
    with tempfile.NamedTemporaryFile("w", suffix=".sql", encoding="utf-8") as script:
        script.write("UPDATE job SET status = 1, agent = :client_id WHERE id = (SELECT id FROM job WHERE queue = 'billing' AND "
                     "status = 0 ORDER BY received LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id, subject;\n")
        script.flush()
        words = ["pgbench", "-n", "-M", "prepared", "-c", "8", "-j", "1", "-T", str(seconds), "-f", script.name, url]
        text = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return float(re.search(r"tps = ([\d.]+)", text).group(1))


def run(table, options):
    seconds, rounds = options.seconds, options.rounds
    with Bare() as bare, ExitStack() as services:
        desks = {name: with_offers(services.enter_context(Postroom(name))) for name in options.databases}
        measures = [
            ("bare actix-web, JSON from memory", lambda: wrk(bare.address, "/json", seconds)),
            ("bare actix-web, one SQLite row", lambda: wrk(bare.address, "/row/1", seconds, ROWS)),
            *((f"Postroom on {name}", lambda desk=desk: list_offers(desk, seconds)) for name, desk in desks.items()),
        ]
        table.measure(f"(c) list my {OFFERS} offers, requests/s, {CLIENTS} connections", measures, rounds)
    for name in options.databases:
        with Postroom(name) as service:
            desk = with_a_long_queue(service)
            # Each run takes what it claims out of the queue: agents have room for 64,000.
            measures = [
                (f"{name} itself", lambda: store_claims(name, seconds)),
                (f"Postroom on {name}", lambda: claim_next(desk, seconds)),
            ]
            title = f"(c) claim the next of {WAITING:,} items on {name}, requests/s, {CLIENTS} connections"
            table.measure(title, measures, rounds)
