"""Broadcasts: messages per second beside Postfix's smtp-source, memory, the import before them, and how long a message of
more weight waits meanwhile."""

import json
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection

from service import ROOT, Postroom, rows_of

CONNECTIONS = (1, 10, 50)
# A far server: how late its replies are, and how many messages each connection carries, so that a run takes some 16 seconds.
DELAY_MS = 40
EACH = 100
# Agents' replies beside a broadcast.
REPLIES = 50
# What smtp-source sends, in bytes: about what the template makes.
LENGTH = 900
# Access tokens live for 15 minutes at most.
RENEW = 300
TEXT = ("Dear {{ customer.name }},\n\nyour number is {{ customer.data.number }}. " + "This is what we wanted to tell you. " * 8
        + "\n\n{{ account.display_name }}\n")


class Sink:
    """Postfix's smtp-sink on a free port: it takes everything and keeps nothing."""

    def __enter__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        program = shutil.which("smtp-sink") or "/usr/sbin/smtp-sink"
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self.process = subprocess.Popen(
            [program, "-u", "nobody", "-m", "2000", f"127.0.0.1:{self.port}", "1024"], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8192), most)))
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("smtp-sink did not open its port")

    def __exit__(self, *_error):
        self.process.terminate()
        self.process.wait()


class SlowSink:
    """`slow_sink.py` on a free port."""

    def __enter__(self):
        words = [sys.executable, f"{ROOT}/bench/slow_sink.py", "--delay-ms", str(DELAY_MS)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        return self

    def __exit__(self, *_error):
        """How many messages it took is in `messages`."""
        self.process.terminate()
        self.messages = int(self.process.communicate()[0] or 0)


def smtp_source(port, connections, messages):
    program = shutil.which("smtp-source") or "/usr/sbin/smtp-source"
    began = time.perf_counter()
    subprocess.run([program, "-d", "-N", "-s", str(connections), "-m", str(messages), "-l", str(LENGTH), "-f", "a@example.org",
                    "-t", "b@example.com", f"inet:127.0.0.1:{port}"], check=True, stdout=subprocess.DEVNULL)
    return messages / (time.perf_counter() - began)


def customers(count):
    """The body of an import, made while it is sent."""
    for begin in range(0, count, 1000):
        rows = (json.dumps({"ref": f"c{n}", "name": f"Customer {n}", "email": f"c{n}@example.com", "data": {"number": n}})
                for n in range(begin, min(count, begin + 1000)))
        yield ("\n".join(rows) + "\n").encode()


def import_customers(service, admin, name, count):
    """Gives the list's id and how many rows a second were taken."""
    made = admin.post("/v1/lists", {"name": name})["id"]
    started = admin.post(f"/v1/lists/{made}/imports", {"format": "ndjson"})["id"]
    began = time.perf_counter()
    connection = HTTPConnection(service.address, timeout=600)
    connection.request("PUT", f"/v1/imports/{started}/rows", customers(count), encode_chunked=True, headers={
        "Authorization": f"Bearer {admin.token}", "Content-Type": "application/x-ndjson", "Transfer-Encoding": "chunked"})
    answer = connection.getresponse()
    done = json.loads(answer.read())
    if answer.status != 200 or done["created_count"] != count:
        raise RuntimeError(f"import: {answer.status} {done}")
    return made, count / (time.perf_counter() - began)


def peak_mib(process):
    with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


class Run:
    """One broadcast to `count` customers over so many connections, on a fresh database."""

    def __init__(self, database, port, connections, count):
        self.database, self.port, self.connections, self.count = database, port, connections, count
        self.waits, self.reply_waits = [], []

    def go(self, meanwhile=False, replies=0):
        with Postroom(self.database) as service:
            admin = service.log_in()
            admin.put("/v1/outgoing-server", {"transport": "smtp", "host": "127.0.0.1", "port": self.port, "security": "none",
                                              "max_connections": self.connections, "max_messages_per_connection": 1000})
            agent = admin.agent("anna") if replies else None
            group = admin.post("/v1/agent-groups", {"name": "Front", "member_ids": [agent] if agent else []})["id"]
            queue = admin.post("/v1/queues", {"name": "Front", "distribution": "manual", "agent_group_ids": [group]})["id"]
            account = admin.post("/v1/accounts", {"address": "offers@example.org", "display_name": "The offers",
                                                  "inbound": {"protocol": "push"}, "fallback_queue_id": queue})["id"]
            admin.post(f"/v1/accounts/{account}/activate")
            template = admin.post("/v1/templates", {"name": "Offer", "purpose": "general", "subject": "For {{ customer.name }}",
                                                    "text": TEXT})["id"]
            admin.post(f"/v1/templates/{template}/publish")
            for number in range(replies):
                mail = (f"From: c{number}@customers.test\r\nTo: offers@example.org\r\nSubject: Order {number}\r\n"
                        f"Message-ID: <{number}@customers.test>\r\n\r\nWhere is it?\r\n")
                admin.send("POST", f"/v1/accounts/{account}/messages", mail.encode(), {"Content-Type": "message/rfc822"})
            listed, self.imported = import_customers(service, admin, "Everybody", self.count)
            broadcast = admin.post("/v1/broadcasts", {"name": "Offer", "target": {"list_id": listed}, "template_id": template,
                                                      "account_id": account})["id"]
            admin.post(f"/v1/broadcasts/{broadcast}/start")
            over = threading.Event()
            besides = [threading.Thread(target=self.ask, args=(service, account, over))] if meanwhile else []
            if replies:
                besides.append(threading.Thread(target=self.reply, args=(service, replies, over)))
            for thread in besides:
                thread.start()
            self.wait(service, broadcast)
            over.set()
            for thread in besides:
                thread.join()
            self.peak = peak_mib(service.process)
            service.stop()
            first, last = (int(rows_of(service, f"SELECT {edge}(sent_at) FROM broadcast_recipients")[0]) for edge in ("min", "max"))
            sent = int(rows_of(service, "SELECT count(*) FROM broadcast_recipients WHERE state = 'sent'")[0])
            if sent != self.count:
                raise RuntimeError(f"{sent} of {self.count} were sent")
            if meanwhile:
                rows = rows_of(service, "SELECT sent_at - created_at FROM messages WHERE direction = 'outbound' AND state = 'sent'")
                self.waits = sorted(int(row) for row in rows)
            if replies:
                # MAIL is the first thing that a server is told of a message.
                rows = rows_of(service, "SELECT min(step.at) - message.created_at FROM messages AS message "
                               "JOIN delivery_steps AS step ON step.message_id = message.id AND step.verb = 'mail' "
                               "WHERE message.direction = 'outbound' GROUP BY message.id, message.created_at")
                self.reply_waits = sorted(int(row) for row in rows)
            return self.count / max(0.001, (last - first) / 1000)

    def wait(self, service, broadcast):
        """Until it is over."""
        client, renew_at = service.log_in(), time.monotonic() + RENEW
        while True:
            if time.monotonic() > renew_at:
                client, renew_at = service.log_in(), time.monotonic() + RENEW
            shown = client.get(f"/v1/broadcasts/{broadcast}")
            if shown["ended_at"]:
                if shown["state"] != "completed":
                    raise RuntimeError(f"{shown['state']}: {shown['counts']}")
                return
            time.sleep(1)

    def reply(self, service, replies, over):
        """An agent who answers one mail after the other while the broadcast runs."""
        client = service.log_in("anna")
        client.put("/v1/agents/me/state", {"state": "ready"})
        for _ in range(replies):
            if over.wait(0.05):
                return
            item = client.post("/v1/work-items/claim")
            client.post(f"/v1/work-items/{item['id']}/reply", {"expected_last_message_id": item["last_message_id"],
                                                              "text": "It is on its way.", "complete": True})

    def ask(self, service, account, over):
        """One message every 50 ms, as a CRM would."""
        client = service.log_in()
        while not over.wait(0.05):
            client.post("/v1/messages", {"to": {"address": "anna@example.com"}, "account_id": account,
                                         "content": {"subject": "Hello", "text": "Now."}})


def percentile(values, percent):
    return values[min(len(values) - 1, len(values) * percent // 100)]


def far_server(table, options):
    """The same to a server far away, where what counts is how often a connection waits for it."""
    took = 0
    with SlowSink() as sink:
        for connections in CONNECTIONS:
            count = EACH * connections
            measures = [("smtp-source", lambda: smtp_source(sink.port, connections, count))]
            for database in options.databases:
                measures.append((f"Postroom, {database}", lambda database=database: Run(
                    database, sink.port, connections, count).go()))
            title = f"{count:,} messages over {connections} connections to a server whose replies take {DELAY_MS} ms, messages/s"
            table.measure(title, measures, 1)
            took += count * len(measures)
    if sink.messages != took:
        raise RuntimeError(f"the far server took {sink.messages} of {took} messages")


def replies_beside(table, options):
    """How long an agent's reply waits until a server is told of it, while a broadcast has all connections."""
    rows = []
    for name, sink, count in (("smtp-sink", Sink(), 200_000), (f"replies take {DELAY_MS} ms", SlowSink(), 2_000)):
        with sink:
            for database in options.databases:
                run = Run(database, sink.port, 10, count)
                run.go(replies=REPLIES)
                waits = run.reply_waits
                rows.append([f"{database}, {name}", f"{statistics.median(waits):,.0f}", f"{percentile(waits, 99):,}",
                             f"{waits[-1]:,}", str(len(waits))])
    table.print("An agent's reply beside a running broadcast over 10 connections, ms until it is handed to the server",
                ["", "p50", "p99", "most", "replies"], rows)


def run(table, options):
    far_server(table, options)
    with Sink() as sink:
        for connections in CONNECTIONS:
            measures = [("smtp-source", lambda: smtp_source(sink.port, connections, options.recipients))]
            for database in options.databases:
                measures.append((f"Postroom, {database}", lambda database=database: Run(
                    database, sink.port, connections, options.recipients).go()))
            table.measure(f"Broadcast to {options.recipients:,} over {connections} connections, messages/s", measures, options.rounds)
        rows = []
        for database in options.databases:
            small, large = (Run(database, sink.port, 10, count) for count in (10_000, options.crowd))
            small.go()
            rate = large.go(meanwhile=True)
            rows.append([database, f"{large.imported:,.0f}", f"{rate:,.0f}", f"{small.peak:,.0f}", f"{large.peak:,.0f}",
                         f"{statistics.median(large.waits):,.0f}", f"{percentile(large.waits, 99):,}", f"{len(large.waits):,}"])
        table.print(f"A crowd of {options.crowd:,} over 10 connections, and single sends meanwhile",
                    ["", "imported/s", "sent/s", "MiB at 10,000", f"MiB at {options.crowd:,}", "wait p50 ms", "p99 ms", "sends"], rows)
    replies_beside(table, options)
