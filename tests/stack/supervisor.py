"""The whole stack: its directory, its servers, the state file, and the socket on which tests ask for a restart."""

import fcntl
import glob
import json
import os
import shutil
import signal
import socket
import tempfile

import certificates
from dovecot import PASSWORD, Dovecot
from ports import HOST, PortBlock
from postfix import Postfix
from postgres import Postgres
from server import StackError

PREFIX = "postroom-stack-"


class Stack:
    """Servers in start order. Use as a context manager: leaving it stops them and removes the directory."""

    def __init__(self, only=None, durable=False):
        self._only, self._durable = only, durable
        self.servers = []
        self.environment = {}
        self.directory = None
        self._lock = self._ports = self._control = None

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_error):
        self.stop()

    def _start(self):
        remove_leftovers()
        self.directory = tempfile.mkdtemp(prefix=PREFIX)
        self._lock = _lock(self.directory)
        # The servers run as users of their own and must reach their parts.
        os.chmod(self.directory, 0o755)
        self._ports = PortBlock.reserve()
        database = None
        if self._only in (None, "pg"):
            database = Postgres(self.directory, self._ports, self._durable)
            self.servers.append(database)
            database.begin_initdb()
        if self._only in (None, "mail"):
            self._launch_mail()
        if database is not None:
            database.launch()
            self.environment["POSTROOM_TEST_PG"] = database.url
        for server in self.servers:
            server.wait_until_ready()
        self._open_control()
        self.environment["POSTROOM_TEST_STACK"] = os.path.join(self.directory, "state.json")
        self.write_state()

    def _launch_mail(self):
        ca, cert, key = certificates.make(os.path.join(self.directory, "tls"))
        dovecot = Dovecot(self.directory, self._ports, cert, key)
        postfix = Postfix(self.directory, self._ports, dovecot, cert, key)
        for server in (dovecot, postfix):
            self.servers.append(server)
            server.launch()
        self.environment.update({
            "POSTROOM_TEST_IMAP": f"{HOST}:{dovecot.imap}",
            "POSTROOM_TEST_IMAPS": f"{HOST}:{dovecot.imaps}",
            "POSTROOM_TEST_LMTP": f"{HOST}:{dovecot.lmtp}",
            "POSTROOM_TEST_SMTP": f"{HOST}:{postfix.smtp}",
            "POSTROOM_TEST_SUBMISSION": f"{HOST}:{postfix.submission}",
            "POSTROOM_TEST_CA": ca,
            "POSTROOM_TEST_MAIL_PASSWORD": PASSWORD,
            "POSTROOM_TEST_OAUTH_KEY": dovecot.oauth_key,
        })

    def state(self):
        """What the state file holds."""
        return {
            "pid": os.getpid(),
            "directory": self.directory,
            "control": os.path.join(self.directory, "control"),
            "environment": self.environment,
            "servers": {server.name: server.describe() for server in self.servers},
        }

    def write_state(self):
        path = os.path.join(self.directory, "state.json")
        with open(f"{path}.new", "w", encoding="utf-8") as out:
            json.dump(self.state(), out, indent=2)
        os.replace(f"{path}.new", path)

    def dead_server(self):
        """The first server that should run and does not."""
        return next((s for s in self.servers if s.process is not None and not s.running), None)

    def _open_control(self):
        self._control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._control.bind(os.path.join(self.directory, "control"))
        self._control.listen(16)

    @property
    def control(self):
        return self._control

    def answer_control(self):
        """Serves one request: `start NAME`, `stop NAME` or `restart NAME`; answers `ok` or `error: …`."""
        connection, _ = self._control.accept()
        with connection:
            connection.settimeout(2)
            try:
                request = connection.makefile("r", encoding="utf-8").readline().split()
                answer = self._obey(request)
            except (OSError, StackError) as error:
                answer = f"error: {error}"
            try:
                connection.settimeout(2)
                connection.sendall(f"{answer}\n".encode())
            except OSError:
                pass

    def _obey(self, request):
        if len(request) != 2 or request[0] not in ("start", "stop", "restart"):
            raise StackError(f"not understood: {' '.join(request)}")
        verb, name = request
        server = next((s for s in self.servers if s.name == name), None)
        if server is None:
            raise StackError(f"no server called {name} in this stack")
        if verb in ("stop", "restart"):
            server.stop()
            server.process = None
        if verb in ("start", "restart") and not server.running:
            server.start()
        self.write_state()
        return "ok"

    def stop(self):
        """Stops the servers and removes the directory. May be called again."""
        for server in self.servers:
            server.ask_to_stop()
        while self.servers:
            self.servers.pop().stop()
        if self._control is not None:
            self._control.close()
        if self._ports is not None:
            self._ports.release()
        if self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)
            self.directory = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def ask(state_path, verb, name):
    """Sends one request to the stack that wrote this state file and waits for the answer."""
    with open(state_path, encoding="utf-8") as source:
        control = json.load(source)["control"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(60)
        connection.connect(control)
        connection.sendall(f"{verb} {name}\n".encode())
        answer = connection.makefile("r", encoding="utf-8").read().strip()
    if answer != "ok":
        raise StackError(answer or "the stack closed the connection")


def _lock(directory):
    """Held for life; the kernel lets go of it when we die, however we die."""
    lock = os.open(os.path.join(directory, "owner.lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock


def remove_leftovers():
    """Clears up after stacks whose owner was killed. A living owner holds its lock."""
    for directory in glob.glob(os.path.join(tempfile.gettempdir(), f"{PREFIX}*")):
        try:
            lock = os.open(os.path.join(directory, "owner.lock"), os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        else:
            _end_leftover_servers(directory)
            shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(lock)


def _end_leftover_servers(directory):
    """Ends servers that outlived their stack: recorded pids, and only if the command line names the directory."""
    try:
        with open(os.path.join(directory, "state.json"), encoding="utf-8") as source:
            servers = json.load(source)["servers"].values()
    except (OSError, ValueError, KeyError):
        return
    for pid in (server.get("pid") for server in servers):
        try:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as cmdline:
                if pid and directory in cmdline.read():
                    os.kill(pid, signal.SIGTERM)
        except OSError:
            continue
