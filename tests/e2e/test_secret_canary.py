"""A secret goes through a real job that shouts it in every spelling, and afterwards it stands nowhere: no table, no
message, no log, no page, no process, no export."""

import base64
import json
import os
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import psycopg
import pytest
import redis
from psycopg import sql

from tests.stack import Stack, wait_until

pytestmark = pytest.mark.timeout(300)

MARK = "[redacted]"
# What the command does with it. Nobody but the command knows the value: it stands in no argument.
SHOUT = r"""
import base64, json, os, sys, time, traceback, urllib.parse
value = os.environ["DEPLOY_TOKEN"]
raw = value.encode()
out = [value, value[::-1], raw.hex(), raw.hex().upper(), urllib.parse.quote(value), urllib.parse.quote(value, safe=""),
       urllib.parse.quote_plus(value), json.dumps({"token": value}), json.dumps(json.dumps(value)), repr(value),
       *(base64.b64encode(b"x" * n + raw + b"y").decode() for n in range(3)),
       *(base64.urlsafe_b64encode(b"x" * n + raw).decode() for n in range(3)),
       base64.encodebytes(b"login:" * 20 + raw).decode(), "Authorization: Bearer " + value,
       "https://bot:" + value + "@example.org/x", " ".join(raw.hex()[i:i + 4] for i in range(0, len(raw) * 2, 4)),
       "\x1b[31m" + value[:9] + "\x1b[0m" + value[9:]]
for line in out:
    print(line)
    print(line, file=sys.stderr, flush=True)
for letter in value:
    sys.stdout.write(letter)
    sys.stdout.flush()
    time.sleep(0.005)
print()
open("note.txt", "w").write("the token is " + value + "\n")
open("name " + value.replace("/", "_"), "w").write("a file's name")
try:
    raise RuntimeError("it failed with " + value)
except RuntimeError:
    traceback.print_exc()
open("shouted", "w").write("yes")
while not os.path.exists("go"):
    time.sleep(0.02)
os.remove("go")
raise SystemExit("refused: " + value)
"""


def spellings(value: str) -> set[str]:
    """Made here, and not by the code that is tested."""
    raw = value.encode()
    coded = {base64.b64encode(b"x" * n + raw + b"yz").decode()[4:-4] for n in range(3)}
    coded |= {base64.urlsafe_b64encode(b"x" * n + raw + b"yz").decode()[4:-4] for n in range(3)}
    quoted = {urllib.parse.quote(value, safe=""), urllib.parse.quote(value), json.dumps(value)[1:-1]}
    return {value, value[::-1], raw.hex(), raw.hex().upper(), *quoted, *coded, value.replace("/", "_"), value[:20]}


class Canary:
    """The secret, and where it was looked for."""

    def __init__(self) -> None:
        self.value = f'cnry/{uuid4().hex}+S3cret=%7E&"{uuid4().hex[:8]}'
        self.forms = [form.encode() for form in sorted(spellings(self.value))]
        self.found: list[str] = []
        self.looked: dict[str, int] = {}

    def look(self, where: str, data: bytes | str) -> None:
        data = data.encode(errors="surrogateescape") if isinstance(data, str) else data
        self.looked[where] = self.looked.get(where, 0) + len(data)
        hits = [form.decode() for form in self.forms if form in data]
        if hits:
            at = data.index(hits[0].encode())
            self.found.append(f"{where}: {hits[0]!r} in {data[max(0, at - 80) : at + 80]!r}")


@pytest.fixture(scope="module")
def canary() -> Canary:
    return Canary()


@pytest.fixture(scope="module")
def handle(stack: Stack, canary: Canary) -> str:
    name = f"canary-{uuid4().hex[:8]}"
    folder = stack.folder / "agent-secrets"
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / name).write_text(canary.value + "\n")
    (folder / name).chmod(0o600)
    made = stack.manage("secret", "add", name, "--file", name, "--tool", "shell.*", "--variable", "DEPLOY_TOKEN")
    assert made.returncode == 0, made.stderr
    return name


@pytest.fixture
def traffic(stack: Stack, canary: Canary) -> Iterator[None]:
    """Everything that anybody says to Redis meanwhile, messages to workers among it."""
    ended = threading.Event()

    def listen() -> None:
        with redis.Redis.from_url(stack.redis_url) as client, client.monitor() as monitor:
            ready.set()
            while not ended.is_set():
                canary.look("redis traffic", str(monitor.next_command()["command"]))

    ready = threading.Event()
    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    assert ready.wait(20)
    yield
    ended.set()
    with redis.Redis.from_url(stack.redis_url) as client:
        client.ping()  # the listener wakes up
    listener.join(10)


def api(stack: Stack, user: str, *scopes: str) -> httpx2.Client:
    wanted = [word for scope in scopes for word in ("--scope", scope)]
    made = stack.manage("token", "create", "--user", user, "--name", "canary", "--json", *wanted)
    assert made.returncode == 0, made.stderr
    headers = {"Authorization": f"Bearer {json.loads(made.stdout)['token']}"}
    return httpx2.Client(base_url=f"{stack.base_url}/api/v1", headers=headers, trust_env=False, timeout=30)


def plan(handle: str) -> list[dict[str, Any]]:
    shout = {"argv": ["python3", "-c", SHOUT], "secrets": {"DEPLOY_TOKEN": handle}}
    after = {"needs": ["shout"], "needs_success": False}
    return [
        {"key": "shout", "tool": "shell.exec", "arguments": shout},
        {"key": "read", "tool": "files.read", "arguments": {"path": "note.txt"}, **after},
        {"key": "list", "tool": "files.list", "arguments": {}, **after},
        {"key": "cat", "tool": "shell.exec", "arguments": {"argv": ["sh", "-c", "ls; cat note.txt | base64"]}, **after},
        {"key": "status", "tool": "git.status", "arguments": {}, **after},
        {"key": "keep", "tool": "artifacts.keep", "arguments": {"files": [{"path": "note.txt"}]}, **after},
    ]


def test_a_secret_that_a_job_shouts_stands_nowhere(
    stack: Stack, canary: Canary, handle: str, signed_in: httpx2.Client, traffic: None, tmp_path: Path
) -> None:
    admin = signed_in
    with api(stack, "demo", "jobs:read", "jobs:write") as mine:
        made = mine.post("/jobs", json={"steps": plan(handle), "title": "a canary", "repository": "sample"})
        assert made.status_code == 201, made.text
        job = str(made.json()["id"])
        approve(stack, admin, job)
        workspace = stack.folder / "workspaces" / job / "tree"
        wait_until(lambda: (workspace / "shouted").exists(), timeout_s=90, why=f"it shouts: {steps(mine, job)}")
        look_at_processes(stack, canary)
        look_at_redis(stack, canary)
        (workspace / "go").touch()
        wait_until(
            lambda: mine.get(f"/jobs/{job}").json()["state"] in {"succeeded", "failed"},
            timeout_s=120,
            why="the job ends",
        )
        shown = {step["key"]: step for step in steps(mine, job)}
        assert [shown[key]["state"] for key in ("read", "keep", "status")] == ["succeeded"] * 3, shown
        for path in (f"/jobs/{job}/", f"/jobs/{job}/steps/shout/"):
            canary.look(f"page {path.replace(job, 'JOB')}", admin.get(path).text)
        for path in (f"/jobs/{job}", f"/jobs/{job}/steps", f"/jobs/{job}/steps/shout", f"/jobs/{job}/events"):
            canary.look(f"API {path.replace(job, 'JOB')}", mine.get(path).text)
        for path in ("tasks?limit=1000", "workers", "task/types"):
            canary.look(f"flower {path}", admin.get(f"/flower/api/{path}").text)
    rows = dict(stack.query("SELECT key, result FROM agents_step WHERE job_id = %s", job))
    shouted = rows["shout"]["data"]
    assert shouted["exit_code"] == 1
    assert min(shouted["stdout"].count(MARK), shouted["stderr"].count(MARK)) >= 18, shouted
    assert rows["shout"]["sandbox"]["secrets"] == [handle]
    assert f"the token is {MARK}" in json.dumps(rows["read"])
    assert MARK in json.dumps(rows["cat"])
    look_at_tables(stack, canary)
    look_at_redis(stack, canary)
    look_at_files(stack, canary, job)
    exported = stack.manage("audit_export", str(tmp_path / "export"), "--payloads")
    assert exported.returncode == 0, exported.stderr
    for file in (tmp_path / "export").rglob("*"):
        canary.look("audit export", file.read_bytes() if file.is_file() else b"")
    checked = stack.manage("secret", "check", handle)
    assert checked.returncode == 0, checked.stdout
    canary.look("command line", checked.stdout + checked.stderr)
    assert not canary.found, "\n".join(canary.found)
    empty = [
        where for where in ("redis traffic", "table agents_step", "logs", "audit export") if not canary.looked[where]
    ]
    assert not empty, canary.looked
    used = stack.query("SELECT body FROM audit_event WHERE event = 'secret.used' AND target_id = %s", handle)
    assert len(used) == 1


def steps(client: httpx2.Client, job: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"/jobs/{job}/steps").json()["results"]
    return found


def approve(stack: Stack, admin: httpx2.Client, job: str) -> None:
    def pending() -> list[tuple[Any, ...]]:
        return stack.query("SELECT id FROM approvals_approvalrequest WHERE parent_id = %s AND state = 'pending'", job)

    [(request,)] = wait_until(pending, timeout_s=90, why="people are asked about a command that gets a secret")
    answer = admin.post(f"/api/v1/approvals/{request}/approve", json={"reason": "the canary"})
    assert answer.status_code == 200, answer.text


def look_at_processes(stack: Stack, canary: Canary) -> None:
    """What others can read of a process that runs: its command line; and our own processes' environments."""
    for place in Path("/proc").glob("[0-9]*"):
        canary.look("command lines", _read(place / "cmdline"))
    for pid in stack.pids().values():
        canary.look("our environments", _read(Path(f"/proc/{pid}/environ")))


def look_at_redis(stack: Stack, canary: Canary) -> None:
    client = redis.Redis.from_url(stack.redis_url)
    reading: dict[Any, Callable[[Any], Any]] = {
        b"string": client.get,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"stream": client.xrange,
    }
    for key in client.scan_iter(count=500):
        canary.look("redis keys", key + repr(reading[client.type(key)](key)).encode() if client.exists(key) else b"")
    client.close()


def look_at_tables(stack: Stack, canary: Canary) -> None:
    """Every row of every table as text; bytes are hexadecimal there, which is one of the spellings."""
    with psycopg.connect(stack.owner_url, autocommit=True) as connection:
        tables = connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables"
            " WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        assert len(tables) > 50
        for schema, table in tables:
            whole = sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(schema, table))
            for (row,) in connection.execute(whole):
                canary.look(f"table {table}", row)


def look_at_files(stack: Stack, canary: Canary, job: str) -> None:
    """Whatever the stack wrote, the repository's own files among it; but for its secrets, the work tree, where the
    command wrote it, and the tree's snapshots."""
    canary.look("logs", stack.said())
    own = stack.folder / "workspaces" / job
    kept = (stack.folder / "agent-secrets", own / "tree", own / "snapshots")
    for folder, _, names in os.walk(stack.folder):  # which does not mind what goes away meanwhile
        place = Path(folder)
        if any(one == place or one in place.parents for one in kept):
            continue
        group = (*place.relative_to(stack.folder).parts, "top")[0]
        for name in names if group != "postgres" or place.name == "pg_wal" else ():
            if (place / name).is_file() and not (place / name).is_symlink():
                canary.look(group, _read(place / name))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
