"""What a worker does to itself so that nothing it starts can look into it."""

import resource

from tools.sandbox import kernel


def protect_process() -> None:
    """No other process of this user may read this one's memory, environment or descriptors; no core dump.

    Called once at a worker's start. Children get a fresh state with their exec.
    """
    kernel.check(kernel.prctl(kernel.PR_SET_DUMPABLE, 0), "PR_SET_DUMPABLE")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
