"""The options of `bin/up`, which `manage.py up` takes too."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

DEFAULT_PORT = 8000


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """`data_dir`: "" for the usual folder."""

    port: int
    data_dir: str
    demo: bool
    detach: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port", type=_port, default=DEFAULT_PORT, help="of the web server, on 127.0.0.1 (%(default)s)"
    )
    parser.add_argument("--data-dir", default="", metavar="DIR", help="where everything is kept (.data)")
    parser.add_argument(
        "--no-demo", dest="demo", action="store_false", help="without the sample repository and its job"
    )
    parser.add_argument("--detach", action="store_true", help="return when it runs; bin/down stops it")


def parse(arguments: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="bin/up",
        description="Starts Countersign for development: servers, web, workers and a demo job, until Ctrl-C.",
        epilog="DATABASE_URL, REDIS_URL, OPENAI_BASE_URL, OPENAI_API_KEY, LLM_MODEL, EMAIL_* and SLACK_WEBHOOK_URL "
        "are used where given, also as NAME_FILE=path.",
    )
    add_arguments(parser)
    found = parser.parse_args(arguments)
    return Options(port=found.port, data_dir=found.data_dir, demo=found.demo, detach=found.detach)


def _port(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 1 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give a number from 1 to 65535")
    return value
