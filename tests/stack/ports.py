"""Free loopback ports that no other stack will take while this one lives."""

import random
import socket

from server import StackError

HOST = "127.0.0.1"
# Below the range from which Linux takes ports for outgoing connections.
FIRST, LAST, BLOCK = 20000, 30000, 10


class PortBlock:
    """Ten neighbouring ports.

    The first is a guard that stays bound as long as the stack lives: another stack cannot bind it and moves
    on. The other nine are therefore still ours while a server restarts, and the kernel frees the block even
    after `kill -9`.
    """

    def __init__(self, guard, first):
        self._guard = guard
        self._next = first + 1
        self._end = first + BLOCK

    @classmethod
    def reserve(cls):
        starts = list(range(FIRST, LAST, BLOCK))
        random.shuffle(starts)
        for first in starts:
            guard = _bind(first)
            if guard is None:
                continue
            if all(_is_free(port) for port in range(first + 1, first + BLOCK)):
                return cls(guard, first)
            guard.close()
        raise StackError(f"no ten neighbouring free ports between {FIRST} and {LAST}")

    def take(self):
        if self._next >= self._end:
            raise StackError("the block of ports is used up: make BLOCK larger")
        self._next += 1
        return self._next - 1

    def release(self):
        self._guard.close()


def greets(port, banner):
    """Whether a server on this port sends a greeting that begins with `banner`."""
    try:
        with socket.create_connection((HOST, port), timeout=1) as connection:
            return connection.recv(64).startswith(banner)
    except OSError:
        return False


def _bind(port):
    probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        probe.bind((HOST, port))
    except OSError:
        probe.close()
        return None
    return probe


def _is_free(port):
    probe = _bind(port)
    if probe is None:
        return False
    probe.close()
    return True
