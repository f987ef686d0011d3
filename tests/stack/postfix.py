"""Postfix: a relay and a submission server in front of Dovecot. The system's own Postfix is not touched."""

import grp
import os
import pwd
import shutil
import subprocess

from ports import greets
from server import CONF, Server, StackError, render

# Modes as postfix-files(5) has them; the last two let the set-gid commands write.
QUEUES = ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace")


class Postfix(Server):
    """SMTP without login for 127.0.0.1, and a second port that wants STARTTLS and a login."""

    name = "postfix"

    def __init__(self, directory, ports, dovecot, certificate, key):
        super().__init__(directory)
        self.smtp, self.submission = ports.take(), ports.take()
        self.config = os.path.join(self.directory, "conf")
        self._leash = None
        self._prepare(dovecot, certificate, key)

    def _prepare(self, dovecot, certificate, key):
        postconf = shutil.which("postconf", path=os.environ.get("PATH", "") + ":/usr/sbin")
        if postconf is None:
            raise StackError("postfix is not installed (run tools/setup.sh)")
        if os.geteuid() != 0:
            raise StackError("Postfix needs root: run the stack as root, or only the database with --only pg")
        owner = pwd.getpwnam("postfix").pw_uid
        postdrop = grp.getgrnam("postdrop").gr_gid
        queue = os.path.join(self.directory, "queue")
        os.makedirs(self.config)
        os.makedirs(os.path.join(queue, "pid"))
        os.makedirs(os.path.join(self.directory, "data"))
        os.chown(os.path.join(self.directory, "data"), owner, 0)
        for name in QUEUES:
            _own(os.path.join(queue, name), owner, 0, 0o700)
        _own(os.path.join(queue, "maildrop"), owner, postdrop, 0o1730)
        _own(os.path.join(queue, "public"), owner, postdrop, 0o2710)
        values = {
            "dir": self.directory,
            "cert": certificate,
            "key": key,
            "command_directory": os.path.dirname(postconf),
            "daemon_directory": _built_in(postconf, "daemon_directory"),
            "lmtp_port": dovecot.lmtp,
            "sasl_socket": dovecot.sasl_socket,
            "smtp_port": self.smtp,
            "submission_port": self.submission,
        }
        self._daemons = values["daemon_directory"]
        render("postfix-main.cf.in", os.path.join(self.config, "main.cf"), values)
        render("postfix-master.cf.in", os.path.join(self.config, "master.cf"), values)
        for table in ("recipients", "transport"):
            shutil.copyfile(os.path.join(CONF, f"postfix-{table}"), os.path.join(self.config, table))

    def command(self):
        # The master itself instead of `postfix start`: it stays our child, and nothing checks or mends /etc/postfix.
        return [os.path.join(self._daemons, "master"), "-c", self.config, "-d"]

    def launch(self):
        super().launch()
        # Postfix changes its user for a moment, and Linux then forgets the signal that our death would send.
        # This shell waits on a pipe that only we hold open.
        self._leash = subprocess.Popen(
            ["sh", "-c", "read -r _; kill -TERM $0", str(self.process.pid)],
            stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)

    def stop(self):
        super().stop()
        if self._leash is not None:
            self._leash.kill()
            self._leash.wait()
            self._leash.stdin.close()
            self._leash = None

    def answers(self):
        return greets(self.smtp, b"220") and greets(self.submission, b"220")

    def describe(self):
        return {**super().describe(), "config": self.config, "queue": os.path.join(self.directory, "queue")}


def _built_in(postconf, name):
    done = subprocess.run([postconf, "-dh", name], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _own(path, uid, gid, mode):
    os.makedirs(path)
    os.chown(path, uid, gid)
    os.chmod(path, mode)
