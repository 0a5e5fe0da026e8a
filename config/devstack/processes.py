"""The processes of the development stack, as they would be typed. Production runs the same commands (see deploy/)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """A Python program that is run as `python -m module arguments…`.

    `stop_stage`: those of a lower stage are asked to end first. `once`: ends by itself and is not started again.
    """

    name: str
    module: str
    arguments: Sequence[str] = ()
    environ: dict[str, str] = field(default_factory=dict)
    stop_stage: int = 0
    once: bool = False


def programs(
    *,
    port: int,
    groups: Mapping[str, Mapping[str, object]],
    data: Path,
    flower_port: int | None,
    flower_auth: str,
    scripted_port: int | None,
) -> list[Program]:
    """What `bin/up` runs besides the servers.

    `groups` is `settings.WORKER_GROUPS`. `flower_port`, `scripted_port`: None where that program is not wanted.
    """
    found = [_web(port)]
    found += [worker(name, group) for name, group in groups.items()]
    found += [
        Program(name="sweeper", module="manage", arguments=["sweeper"], stop_stage=1),
        Program(name="sequencer", module="manage", arguments=["audit_sequencer"], stop_stage=2),
        Program(
            name="beat",
            module="celery",
            arguments=[
                "-A",
                "config.celery",
                "--quiet",
                "beat",
                "-l",
                "WARNING",
                "--pidfile=",
                "-s",
                str(data / "beat-schedule"),
            ],
        ),
    ]
    if flower_port is not None:
        found.append(_flower(flower_port, flower_auth))
    if scripted_port is not None:
        found.append(
            Program(
                name="scripted-llm",
                module="agents.llm.scripted",
                arguments=["--port", str(scripted_port)],
                stop_stage=1,
            )
        )
    return found


def _web(port: int) -> Program:
    return Program(
        name="web",
        module="uvicorn",
        arguments=[
            *("config.asgi:application", "--host", "127.0.0.1", "--port", str(port)),
            *("--no-proxy-headers", "--no-server-header", "--timeout-graceful-shutdown", "2"),
            # no access log: paths hold the tokens of links; log level: what matters is logged by the application
            *("--no-access-log", "--log-level", "warning"),
        ],
    )


def worker(name: str, group: Mapping[str, object]) -> Program:
    """The Celery worker of one group: one process, so that a stuck pool stays alone."""
    queues = group["queues"]
    assert isinstance(queues, list)
    return Program(
        name=f"worker-{name}",
        module="celery",
        arguments=[
            *("-A", "config.celery", "--quiet", "worker", "-n", f"{name}@%h", "-Q", ",".join(queues)),
            *("--pool", "threads", "-c", str(group["threads"]), "--without-gossip", "--without-mingle"),
            *("-l", "WARNING"),
        ],
        environ={"COUNTERSIGN_WORKER_GROUP": name},
    )


def _flower(port: int, auth: str) -> Program:
    """Its login stands in the environment, since any user may read a process's arguments."""
    return Program(
        name="flower",
        module="celery",
        arguments=[
            *(
                "-A",
                "config.celery",
                "--quiet",
                "flower",
                "--address=127.0.0.1",
                f"--port={port}",
                "--url_prefix=flower",
            ),
            *("--enable_events=False", "--read_only=True", "--auto_refresh=True", "--logging=warning"),
        ],
        environ={"FLOWER_BASIC_AUTH": auth},
    )
