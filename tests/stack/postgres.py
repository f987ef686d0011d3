"""PostgreSQL: one throw-away cluster in which each test makes its own database."""

import glob
import os
import pwd
import shutil
import signal
import subprocess

from ports import HOST
from server import Server, StackError, tail

# Nothing here outlives the stack, so no write waits for the disc; our own `kill -9` tests end Postroom, not
# PostgreSQL, and a commit is acknowledged only once it is in the server (`synchronous_commit` stays on).
SETTINGS = {
    "listen_addresses": HOST,
    "max_connections": "300",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "on",
    "shared_buffers": "128MB",
    "max_wal_size": "4GB",
    "jit": "off",
    # Containers often give /dev/shm 64 MB.
    "dynamic_shared_memory_type": "mmap",
    "timezone": "UTC",
    "log_line_prefix": "%m [%p] %d ",
}
DURABLE = {"fsync": "on", "full_page_writes": "on"}


class Postgres(Server):
    """Trust authentication for the superuser `postgres`, on TCP and on a socket in the stack's directory."""

    name = "postgres"
    # Fast shutdown: ends sessions instead of waiting for them.
    stop_signal = signal.SIGINT

    def __init__(self, directory, ports, durable=False):
        super().__init__(directory)
        self.port = ports.take()
        self.data = os.path.join(self.directory, "data")
        self._settings = {**SETTINGS, **(DURABLE if durable else {})}
        self._bin = _binaries()
        self._account = {}
        os.makedirs(self.directory)
        # PostgreSQL refuses to run as root.
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            self._account = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(self.directory, user.pw_uid, user.pw_gid)
        self._initdb = None

    def begin_initdb(self):
        """Starts making the cluster; takes about a second, in which other servers can start."""
        self._initdb = self.spawn(
            [os.path.join(self._bin, "initdb"), "-D", self.data, "-U", "postgres", "-A", "trust",
             "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"],
            cwd=self.directory, **self._account)

    def launch(self):
        if self._initdb is not None:
            if self._initdb.wait() != 0:
                raise StackError(f"initdb failed:\n{tail(self.log)}")
            self._initdb = None
        self.process = self.spawn(self.command(), cwd=self.directory, **self._account)

    def command(self):
        settings = {**self._settings, "port": str(self.port), "unix_socket_directories": self.directory}
        pairs = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [os.path.join(self._bin, "postgres"), "-D", self.data, *pairs]

    def answers(self):
        probe = [os.path.join(self._bin, "pg_isready"), "-q", "-t", "1", "-h", HOST, "-p", str(self.port),
                 "-U", "postgres"]
        return subprocess.run(probe, stdin=subprocess.DEVNULL, check=False).returncode == 0

    def stop(self):
        if self._initdb is not None:
            self._initdb.kill()
            self._initdb.wait()
            self._initdb = None
        super().stop()

    def describe(self):
        return {**super().describe(), "data": self.data, "bin": self._bin}

    @property
    def url(self):
        return f"postgres://postgres@{HOST}:{self.port}/postgres"


def _binaries():
    def version(path):
        number = path.split("/")[-2]
        return float(number) if number.replace(".", "", 1).isdigit() else 0.0

    installed = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=version)
    if installed and os.path.exists(os.path.join(installed[-1], "postgres")):
        return installed[-1]
    found = shutil.which("postgres")
    if found is None:
        raise StackError("postgresql is not installed (run tools/setup.sh)")
    return os.path.dirname(os.path.realpath(found))
