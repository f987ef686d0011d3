"""The program under measurement: a process on a fresh database, and a client of its API."""

import http.client
import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
import urllib.parse
import uuid
from contextlib import closing

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BINARY = os.path.join(ROOT, "target/release/postroom")
PASSWORD = "a password for benches"


class Postroom:
    """`with Postroom("sqlite") as service:` — the process is stopped and its data removed at the end."""

    def __init__(self, database, **settings):
        self.directory = tempfile.mkdtemp(prefix="postroom-bench-")
        self.kind = database
        self.url = f"sqlite://{self.directory}/postroom.db?mode=rwc" if database == "sqlite" else new_database()
        self.settings = {f"POSTROOM__{name.upper()}": str(value) for name, value in settings.items()}
        self.process = None
        self.address = None

    def __enter__(self):
        self.command("create-admin", "--username", "root", "--password-stdin", stdin=PASSWORD + "\n")
        self.start()
        return self

    def __exit__(self, *_error):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def environment(self):
        return {
            **os.environ,
            "DATABASE_URL": self.url,
            "POSTROOM__STORAGE__DATA_DIR": self.directory,
            "POSTROOM__AUTH__FIRST_ADMIN": "",
            "POSTROOM__HTTP__LISTEN": "127.0.0.1:0",
            # Tokens stay good when the process is started again at another port.
            "POSTROOM__HTTP__PUBLIC_URL": "http://postroom.test",
            # One line a request would be measured too.
            "POSTROOM__LOG__LEVEL": "warn,postroom::api=info",
            **self.settings,
        }

    def command(self, *words, stdin):
        subprocess.run([BINARY, *words], input=stdin, text=True, check=True, env=self.environment(), cwd=self.directory,
                       stdout=subprocess.DEVNULL)

    def start(self):
        log = open(os.path.join(self.directory, "log"), "a+", encoding="utf-8")
        self.process = subprocess.Popen([BINARY, "serve"], env=self.environment(), cwd=self.directory,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            log.write(line)
            if "listening url=" in line:
                self.address = line.split("listening url=")[1].strip().strip('"').removeprefix("http://")
                break
        else:
            log.seek(0)
            raise RuntimeError("the service did not start:\n" + log.read())
        # Read on, or the service would block on its log.
        self.drain = subprocess.Popen(["cat"], stdin=self.process.stderr, stdout=log)
        log.close()

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.drain.wait()
            self.process = None

    def log_in(self, username="root"):
        form = urllib.parse.urlencode({"grant_type": "password", "username": username, "password": PASSWORD})
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return Client(self, Client(self, None).send("POST", "/v1/auth/token", form, headers)["access_token"])

    def sql(self, *statements):
        """Runs statements on the database while the process is stopped."""
        if self.kind == "sqlite":
            with closing(sqlite3.connect(f"{self.directory}/postroom.db")) as db, db:
                for statement in statements:
                    db.execute(statement)
        else:
            psql(self.url, *statements)


class Client:
    """Calls the API as one user and gives the JSON of the answer."""

    def __init__(self, service, token):
        self.service, self.token = service, token
        self.connection = None

    def send(self, method, path, body=None, headers=None):
        if self.connection is None:
            self.connection = http.client.HTTPConnection(self.service.address, timeout=60)
        headers = dict(headers or {})
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        if isinstance(body, dict):
            body = json.dumps(body)
            headers["Content-Type"] = "application/merge-patch+json" if method == "PATCH" else "application/json"
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        text = answer.read().decode()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text}")
        return json.loads(text) if text.startswith(("{", "[")) else text

    def get(self, path):
        return self.send("GET", path)

    def post(self, path, body=None):
        return self.send("POST", path, body or {})

    def put(self, path, body):
        return self.send("PUT", path, body)

    def agent(self, name):
        """Makes an agent and gives the id."""
        user = {"username": name, "display_name": name, "role": "agent", "password": PASSWORD}
        return self.post("/v1/users", user)["id"]

    def account(self, queue, **fields):
        """Makes an account and activates it; gives the id."""
        host, port = os.environ["POSTROOM_TEST_IMAP"].split(":")
        inbound = {"protocol": "imap", "host": host, "port": int(port), "security": "none"}
        wanted = {"username": fields["address"], "password": os.environ["POSTROOM_TEST_MAIL_PASSWORD"],
                  "inbound": inbound, "fallback_queue_id": queue, **fields}
        made = self.post("/v1/accounts", wanted)["id"]
        self.post(f"/v1/accounts/{made}/activate")
        return made

    def counter(self, name):
        """The value of a counter in /metrics; 0 while it was never counted."""
        lines = (line for line in self.get("/metrics").splitlines() if line.startswith(name + " "))
        return next((int(float(line.split()[1])) for line in lines), 0)


def new_database():
    url, name = os.environ["POSTROOM_TEST_PG"], f"bench_{uuid.uuid4().hex}"
    psql(url, f"CREATE DATABASE {name}")
    return f"{url.rsplit('/', 1)[0]}/{name}"


def psql(url, *statements):
    words = [word for statement in statements for word in ("-c", statement)]
    subprocess.run(["psql", "-q", "-v", "ON_ERROR_STOP=1", url, *words], check=True, stdout=subprocess.DEVNULL)


def rows_of(service, query):
    """The first column of a query on the database while the process is stopped."""
    if service.kind == "sqlite":
        with closing(sqlite3.connect(f"{service.directory}/postroom.db")) as db:
            return [row[0] for row in db.execute(query)]
    words = ["psql", "-qAt", service.url, "-c", query]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()
