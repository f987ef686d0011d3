"""How long it takes from the arrival of a mail to its offer on the agent's event stream.

Dovecot waits up to 500 ms before it tells the clients that IDLE of new mail. So a second client IDLEs on the same mailbox, and
the time counts from the moment when that one is told, too.
"""

import asyncio
import json
import os
import re
import statistics
import time
import uuid

from service import Postroom

LANES = 8
CUSTOMER = "customer@customers.test"


class Line:
    """A connection that speaks in lines."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, address):
        host, port = address.split(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    async def say(self, text, wanted):
        """Sends a line and reads on until one that fits."""
        self.writer.write(text.encode() + b"\r\n")
        return await self.hear(wanted)

    async def hear(self, wanted):
        while True:
            line = (await self.reader.readline()).decode()
            if not line:
                raise RuntimeError(f"the server hung up before {wanted}")
            if re.match(wanted, line):
                return line


class Lane:
    """An account with its own queue and agent: one mail under way at a time."""

    def __init__(self, service, root, number):
        # Nobody's mailbox of an earlier run.
        self.address = f"{uuid.uuid4().hex}@centre.test"
        name = f"agent{number}"
        agent = root.agent(name)
        group = root.post("/v1/agent-groups", {"name": name, "member_ids": [agent]})["id"]
        queue = root.post("/v1/queues", {"name": name, "agent_group_ids": [group]})["id"]
        root.account(queue, address=self.address)
        self.client = service.log_in(name)
        self.client.put("/v1/agents/me/state", {"state": "ready"})
        self.service = service

    async def open(self):
        self.lmtp = await Line.open(os.environ["POSTROOM_TEST_LMTP"])
        await self.lmtp.hear("220 ")
        await self.lmtp.say("LHLO bench", "250 ")
        self.watcher = await Line.open(os.environ["POSTROOM_TEST_IMAP"])
        await self.watcher.say(f"a LOGIN {self.address} {os.environ['POSTROOM_TEST_MAIL_PASSWORD']}", "a OK")
        await self.watcher.say("b EXAMINE INBOX", "b OK")
        await self.watcher.say("c IDLE", r"\+ ")
        self.events = await Line.open(self.service.address)
        self.events.writer.write((f"GET /v1/events/stream HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n"
                                  f"Authorization: Bearer {self.client.token}\r\n\r\n").encode())
        await self.events.hear("HTTP/1.1 200")

    async def told(self):
        await self.watcher.hear(r"\* \d+ EXISTS")
        return time.monotonic()

    async def offered(self):
        while True:
            line = await self.events.hear("data:")
            event = json.loads(line[5:])
            if event["type"] == "offer.created":
                return time.monotonic(), event["subject_id"]

    async def mail(self, number):
        """Delivers a mail; gives the milliseconds since its delivery and since Dovecot told of it."""
        told, offered = asyncio.create_task(self.told()), asyncio.create_task(self.offered())
        await self.lmtp.say(f"MAIL FROM:<{CUSTOMER}>", "250 ")
        await self.lmtp.say(f"RCPT TO:<{self.address}>", "250 ")
        await self.lmtp.say("DATA", "354 ")
        await self.lmtp.say(f"From: {CUSTOMER}\r\nTo: {self.address}\r\nSubject: Order {number}\r\n"
                            f"Message-ID: <{number}.{self.address}>\r\n\r\nWhere is it?\r\n.", "250 ")
        delivered = time.monotonic()
        at, offer = await asyncio.wait_for(offered, 60)
        since_told = at - await told
        item = (await asyncio.to_thread(self.client.post, f"/v1/offers/{offer}/accept"))["work_item"]["id"]
        await asyncio.to_thread(self.client.post, f"/v1/work-items/{item}/complete", {})
        return (at - delivered) * 1000, since_told * 1000


async def measure(service, mails):
    root = service.log_in()
    lanes = [Lane(service, root, number) for number in range(LANES)]
    for lane in lanes:
        await lane.open()

    async def drive(lane):
        return [await lane.mail(number) for number in range(mails // LANES)]

    found = await asyncio.gather(*(drive(lane) for lane in lanes))
    return [pair for lane in found for pair in lane]


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def run(table, options):
    rows = []
    for database in options.databases:
        with Postroom(database) as service:
            found = asyncio.run(measure(service, options.mails))
        for what, values in zip(("since Dovecot's 250", "since Dovecot told its IDLE clients"), zip(*found)):
            times = [statistics.median(values), percentile(values, 0.99), max(values)]
            rows.append([f"Postroom on {database}, {what}", *(f"{value:.1f}" for value in times)])
    title = f"(b) from a mail's arrival to the offer on the event stream, ms, {options.mails:,} mails in {LANES} mailboxes"
    table.print(title, ["", "p50", "p99", "most"], rows)
