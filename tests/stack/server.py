"""What every server of the stack has in common: one process, its log, its start, its stop."""

import ctypes
import os
import signal
import subprocess
import time

CONF = os.path.join(os.path.dirname(os.path.abspath(__file__)), "conf")
PR_SET_PDEATHSIG = 1


class StackError(Exception):
    """The stack cannot do what was asked; the text is for a person."""


def render(template, target, values):
    """Writes `conf/TEMPLATE` to `target` with each `@name@` replaced."""
    with open(os.path.join(CONF, template), encoding="utf-8") as source:
        text = source.read()
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    with open(target, "w", encoding="utf-8") as out:
        out.write(text)


def tail(path, lines=25):
    """The last lines of a log, for an error message."""
    try:
        with open(path, encoding="utf-8", errors="replace") as log:
            return "".join(log.readlines()[-lines:])
    except OSError as error:
        return f"(no log: {error})\n"


class Server:
    """A server in the foreground as our child.

    A child is told to stop when we die (`PR_SET_PDEATHSIG`), so that even `kill -9` of the
    stack leaves nothing running. The signal belongs to the thread that started the child:
    start servers from the main thread only.
    """

    name = ""
    stop_signal = signal.SIGTERM
    stop_deadline_s = 10

    def __init__(self, directory):
        self.directory = os.path.join(directory, self.name)
        self.log = os.path.join(self.directory, f"{self.name}.log")
        self.process = None

    def command(self):
        """The argument list that runs the server in the foreground."""
        raise NotImplementedError

    def answers(self):
        """Whether the server does its job now; must return within a second."""
        raise NotImplementedError

    def describe(self):
        """What the state file says about this server."""
        return {"pid": self.pid, "directory": self.directory, "log": self.log}

    @property
    def pid(self):
        return self.process.pid if self.running else None

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def spawn(self, arguments, **options):
        """Starts a child of ours, detached from the terminal, its output in the log."""
        libc = ctypes.CDLL(None)

        def die_with_parent():
            libc.prctl(PR_SET_PDEATHSIG, self.stop_signal)

        with open(self.log, "ab") as log:
            return subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
                **options,
            )

    def launch(self):
        """Starts the process and returns at once."""
        self.process = self.spawn(self.command())

    def wait_until_ready(self, deadline_s=30):
        deadline = time.monotonic() + deadline_s
        while not self.answers():
            if not self.running:
                raise StackError(f"{self.name} ended while starting:\n{tail(self.log)}")
            if time.monotonic() > deadline:
                raise StackError(f"{self.name} is not ready after {deadline_s} s:\n{tail(self.log)}")
            time.sleep(0.02)

    def start(self):
        self.launch()
        self.wait_until_ready()

    def ask_to_stop(self):
        """Tells the process to end and returns at once."""
        if self.running:
            self.process.send_signal(self.stop_signal)

    def stop(self):
        """Ends the process: politely, and after the deadline for certain."""
        if not self.running:
            return
        self.ask_to_stop()
        try:
            self.process.wait(self.stop_deadline_s)
        except subprocess.TimeoutExpired:
            kill_descendants(self.process.pid)
            self.process.kill()
            self.process.wait()


def kill_descendants(pid):
    """Ends what a server that no longer answers has started."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as stat:
                    parent = int(stat.read().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry))
    waiting = list(children.get(pid, []))
    while waiting:
        child = waiting.pop()
        waiting.extend(children.get(child, []))
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            pass
