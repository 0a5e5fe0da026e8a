"""Small programs that the supervisor's tests run, and the supervisor that runs them: `python -m … FOLDER`."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from config.devstack import fork, runfile
from config.devstack.linux import started_at
from config.devstack.processes import Program
from config.devstack.redis import Redis
from config.devstack.supervisor import Supervisor

ME = "tests.integration.config.programs"


def supervise(folder: Path) -> int:
    running = runfile.Running(pid=os.getpid(), started_at=started_at(os.getpid()), address="http://127.0.0.1:1")
    redis = Redis(folder / "redis")
    supervisor = Supervisor(folder, running, {"redis": redis})
    supervisor.listen()
    try:
        redis.start()
        supervisor.start(Program(name="patient", module=ME, arguments=["patient"], environ={"COLOUR": "green"}))
        supervisor.start(Program(name="stubborn", module=ME, arguments=["stubborn"]))
        supervisor.start(Program(name="parent", module=ME, arguments=["parent", str(folder)]))
        supervisor.start(Program(name="failing", module=ME, arguments=["failing"]))
        return supervisor.run()
    finally:
        supervisor.stop()


def main(arguments: list[str]) -> int:
    match arguments:
        case ["supervise", folder]:
            return supervise(Path(folder))
        case ["patient"]:
            print(f"patient colour={os.environ['COLOUR']} argv={sys.argv[1:]} session={os.getsid(0) == os.getpid()}")
            print(f"descriptors={sorted(int(name) for name in os.listdir('/proc/self/fd'))[:4]}")
        case ["stubborn"]:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            print("stubborn ready")
        case ["parent", folder]:
            # one child in our session, and one that left it, as a daemon does
            near = subprocess.Popen(["sleep", "1000"])
            far = subprocess.Popen(["sleep", "1000"], start_new_session=True)
            partial = Path(folder) / ".grandchildren"
            partial.write_text(f"{near.pid} {far.pid}")
            partial.rename(Path(folder) / "grandchildren")
        case ["failing"]:
            print("ERROR this cannot work")
            return 3
    while True:
        time.sleep(60)


if __name__ == "__main__":
    assert fork
    sys.exit(main(sys.argv[1:]))
