"""Dovecot: IMAP, LMTP, and SASL for Postfix."""

import base64
import os
import pwd
import secrets
import shutil

from ports import greets
from server import Server, StackError, render

PASSWORD = "secret"


class Dovecot(Server):
    """Any user name with the password `secret`; mail as Maildir, owned by the system's `mail` user."""

    name = "dovecot"

    def __init__(self, directory, ports, certificate, key):
        super().__init__(directory)
        self.imap, self.imaps, self.lmtp = ports.take(), ports.take(), ports.take()
        self.config = os.path.join(self.directory, "dovecot.conf")
        self.sasl_socket = os.path.join(self.directory, "run", "auth-postfix")
        self.oauth_key = base64.b64encode(secrets.token_bytes(32)).decode()
        self._binary = shutil.which("dovecot", path=os.environ.get("PATH", "") + ":/usr/sbin")
        if self._binary is None:
            raise StackError("dovecot is not installed (run tools/setup.sh)")
        self._prepare(certificate, key)

    def _prepare(self, certificate, key):
        owner = pwd.getpwnam("mail")
        for part in ("run", "state", "mail", "oauth2-keys/default/HS256"):
            os.makedirs(os.path.join(self.directory, part))
        os.chown(os.path.join(self.directory, "mail"), owner.pw_uid, owner.pw_gid)
        with open(os.path.join(self.directory, "oauth2-keys/default/HS256/default"), "w", encoding="utf-8") as out:
            out.write(self.oauth_key)
        values = {
            "dir": self.directory,
            "cert": certificate,
            "key": key,
            "mail_uid": owner.pw_uid,
            "mail_gid": owner.pw_gid,
            "password": PASSWORD,
            "imap_port": self.imap,
            "imaps_port": self.imaps,
            "lmtp_port": self.lmtp,
        }
        render("dovecot.conf.in", self.config, values)
        render("dovecot-oauth2.conf.in", os.path.join(self.directory, "oauth2.conf"), values)

    def command(self):
        return [self._binary, "-F", "-c", self.config]

    def answers(self):
        return (
            greets(self.imap, b"* OK")
            and greets(self.lmtp, b"220")
            and os.path.exists(self.sasl_socket)
        )

    def describe(self):
        return {**super().describe(), "config": self.config, "mail": os.path.join(self.directory, "mail")}
