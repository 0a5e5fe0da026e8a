"""Worker processes of a bench, which can be held and let go; and runs of plain Celery."""

import os
import signal
import subprocess
import time
from collections.abc import Callable

import redis
from celery import Celery

from bench.parts.servers import Servers, cpu_s, wait_for


class Workers:
    """Some worker processes that serve the same queues. Held by SIGSTOP, they begin at once when let go."""

    def __init__(self, processes: list[subprocess.Popen[bytes]]) -> None:
        self.processes = processes

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.processes]

    def pause(self) -> None:
        self._send(signal.SIGSTOP)

    def go_on(self) -> None:
        self._send(signal.SIGCONT)

    def end(self, servers: Servers) -> None:
        servers.end(*self.processes)

    def _send(self, sign: int) -> None:
        for process in self.processes:
            assert process.poll() is None, f"a worker ended with {process.returncode}"
            os.kill(process.pid, sign)


def ours(servers: Servers, *, processes: int, threads: int, steps_per_task: int = 1) -> Workers:
    """Workers of the application, as `config.devstack.processes.worker` starts them."""
    started = [
        servers.program(
            f"ours-{n}",
            *("celery", "-A", "config.celery", "--quiet", "worker", "-n", f"bench{n}@%h", "-Q", "shell"),
            *("--pool", "threads", "-c", str(threads), "--without-gossip", "--without-mingle", "-l", "WARNING"),
            *("-I", "bench.parts.noop"),
            COUNTERSIGN_WORKER_GROUP="shell",
            STEPS_PER_TASK=str(steps_per_task),
        )
        for n in range(processes)
    ]
    return Workers(started)


class Plain:
    """Plain Celery with default settings, on the same Redis."""

    def __init__(self, servers: Servers, *, processes: int, arguments: list[str], database: int, name: str) -> None:
        url = servers.redis.url(database)
        self._client = redis.Redis.from_url(url)
        self._app = Celery("plain", broker=url, set_as_current=False)
        started = [
            servers.program(
                f"{name}-{n}",
                *("celery", "-A", "bench.parts.plain", "--quiet", "worker", "-n", f"{name}{n}@%h", *arguments),
                PLAIN_BROKER_URL=url,
                DJANGO_SETTINGS_MODULE="",
            )
            for n in range(processes)
        ]
        self.workers = Workers(started)
        self._servers = servers

    def warm_up(self) -> None:
        self._publish(200)
        wait_for(self._drained, timeout_s=60, why="plain workers answer")

    def throughput(self, tasks: int) -> tuple[float, dict[str, float]]:
        """(tasks a second, CPU ms a task by who spent it). The tasks are waiting when the workers start."""
        self.workers.pause()
        self._publish(tasks)
        whose: dict[str, Callable[[], float]] = {
            "workers": lambda: sum(map(cpu_s, self.workers.pids)),
            "Redis": lambda: cpu_s(self._servers.redis_pid),
        }
        before = {name: read() for name, read in whose.items()}
        began = time.perf_counter()
        self.workers.go_on()
        wait_for(self._drained, timeout_s=120, why="plain tasks ran", every_s=0.01)
        took = time.perf_counter() - began
        return tasks / took, {name: (read() - before[name]) * 1000 / tasks for name, read in whose.items()}

    def publish_cost_ms(self, tasks: int) -> float:
        """CPU of `apply_async`, which a step's figure contains (it publishes the next) and the no-op's does not."""
        self.workers.pause()
        began = time.process_time()
        self._publish(tasks)
        took = time.process_time() - began
        self.workers.go_on()
        wait_for(self._drained, timeout_s=120, why="plain tasks ran")
        return took * 1000 / tasks

    def _publish(self, tasks: int) -> None:
        task = self._app.signature("bench.parts.plain.noop")
        for _ in range(tasks):
            task.apply_async()

    def _drained(self) -> bool:
        with self._client.pipeline(transaction=False) as pipe:
            pipe.llen("celery")
            pipe.hlen("unacked")
            return not any(pipe.execute())
