#!/usr/bin/env python3
"""An SMTP server that takes everything and is far away: each reply comes a given time after what it answers.

    slow_sink.py [--delay-ms 40] [--port 0]

Prints its port, and at its end (SIGTERM) how many messages it took. Replies of a pipelined group come together, as they do over
a long line: it is the line that is slow and not the server.
"""

import argparse
import asyncio
import signal

EHLO = b"250-slow.test\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250 8BITMIME\r\n"


class Session(asyncio.Protocol):
    """One connection."""

    def __init__(self, sink):
        self.sink, self.held, self.is_text = sink, b"", False

    def connection_made(self, transport):
        self.transport = transport
        self.say(b"220 slow.test ESMTP\r\n")

    def say(self, reply, then=None):
        self.sink.loop.call_later(self.sink.delay, self.said, reply, then)

    def said(self, reply, then):
        if not self.transport.is_closing():
            self.transport.write(reply)
            if then:
                then()

    def data_received(self, data):
        self.held += data
        while self.take():
            pass

    def take(self):
        """Takes a text or a line of what came; false when there is none in full."""
        end = b"\r\n.\r\n" if self.is_text else b"\r\n"
        taken, found, rest = self.held.partition(end)
        if not found:
            return False
        self.held = rest
        if self.is_text:
            self.is_text = False
            self.sink.messages += 1
            self.say(b"250 2.0.0 taken\r\n")
            return True
        verb = taken[:4].upper()
        if verb == b"EHLO":
            self.say(EHLO)
        elif verb == b"DATA":
            self.is_text = True
            self.say(b"354 go on\r\n")
        elif verb == b"QUIT":
            self.say(b"221 2.0.0 bye\r\n", self.transport.close)
        elif verb in (b"HELO", b"MAIL", b"RCPT", b"RSET", b"NOOP"):
            self.say(b"250 2.0.0 well\r\n")
        else:
            self.say(b"500 5.5.2 what?\r\n")
        return True


class Sink:
    """What all connections share."""

    def __init__(self, delay):
        self.delay, self.messages, self.loop = delay, 0, asyncio.get_running_loop()


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delay-ms", type=float, default=40)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    sink, over = Sink(options.delay_ms / 1000), asyncio.Event()
    server = await sink.loop.create_server(lambda: Session(sink), "127.0.0.1", options.port, backlog=1024)
    for number in (signal.SIGTERM, signal.SIGINT):
        sink.loop.add_signal_handler(number, over.set)
    print(server.sockets[0].getsockname()[1], flush=True)
    await over.wait()
    server.close()
    print(sink.messages, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
