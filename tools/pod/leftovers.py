"""Containers of launchers that were killed together with what guarded them."""

import logging
import time

from tools.pod import config, docker, kubernetes
from tools.pod.engine import EngineFailed, ask

log = logging.getLogger(__name__)


def remove_leftovers() -> int:
    """Removes containers and pods of ours whose time is long over. How many; 0 also where no engine answers."""
    current = config.current()
    if current.why_not():
        return 0
    pod = current.as_spec()
    try:
        if current.engine == "docker":
            found = docker.leftovers(pod, time.time())
            if found:
                ask(pod, "rm", "--force", "--volumes", *found)
        else:
            found = kubernetes.leftovers(pod, time.time())
            if found:
                ask(pod, "--namespace", current.namespace, "delete", "pod", *found, "--force", "--grace-period=0")
    except EngineFailed as error:
        log.warning("pods.not_swept", extra={"error": str(error)})
        return 0
    return len(found)
