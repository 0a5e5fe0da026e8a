"""`python -m agents.llm.scripted --port N`: serves the scripted model on 127.0.0.1."""

import argparse
import socket
import sys
from pathlib import Path

import uvicorn

from agents.llm.scripted import MODEL, scenarios
from agents.llm.scripted.app import App


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m agents.llm.scripted",
        description=f"A scripted OpenAI-compatible server (model {MODEL}) for development, the demo and tests.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one; it is printed")
    parser.add_argument(
        "--delay", type=float, default=0.0, metavar="SECONDS", help="before the first word of an answer"
    )
    parser.add_argument(
        "--scenario", type=Path, action="append", default=[], metavar="FILE", help="rules in YAML; asked before its own"
    )
    options = parser.parse_args(arguments)
    try:
        rules = [rule for path in options.scenario for rule in scenarios.load(path)]
    except scenarios.BadScenario as error:
        print(error, file=sys.stderr)
        return 1
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((options.host, options.port))
    except OSError as error:
        print(f"Port {options.port} on {options.host} cannot be used: {error.strerror}.", file=sys.stderr)
        return 1
    listening.listen(128)
    print(f"scripted model on http://{options.host}:{listening.getsockname()[1]}/v1", flush=True)
    app = App(delay_s=options.delay, rules=rules)
    config = uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off", timeout_graceful_shutdown=2)
    uvicorn.Server(config).run(sockets=[listening])
    return 0


if __name__ == "__main__":
    sys.exit(main())
