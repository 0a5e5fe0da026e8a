"""Python programs as forks of one process that has imported what they share.

A process that imports Django, Celery and the apps takes about two seconds of processor time and 100 MB; a fork of one
that has done so takes milliseconds and shares those pages.
"""

import atexit
import gc
import importlib
import os
import runpy
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable

from config.devstack.linux import die_with_parent, fewer_malloc_arenas
from config.devstack.processes import Program

# What most programs import at their start. Heavy modules that only one program uses (the model client) stay out.
SHARED = (
    "config.celery",
    "django.core.handlers.asgi",
    "config.urls",
    "celery.bin.celery",
    "celery.apps.worker",
    "celery.concurrency.thread",
    "celery.worker.consumer",
    "celery.beat",
    "django_celery_beat.schedulers",
    "kombu.transport.redis",
    "psycopg",
    "uvicorn.main",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.loops.uvloop",
    "uvicorn.lifespan.on",
    "flower.command",
)


def preload(modules: Iterable[str] = SHARED) -> None:
    """Sets Django up and imports what the forks share. Opens no connection and starts no thread.

    Raises:
        RuntimeError: an import started a thread, which would not live on in the forks.
    """
    import django

    django.setup()
    for name in modules:
        importlib.import_module(name)
    from config.celery import app

    app.loader.import_default_modules()
    app.finalize()
    if threading.active_count() > 1:
        raise RuntimeError(f"Imports started threads: {threading.enumerate()[1:]}")
    gc.collect()
    gc.freeze()  # the collector leaves these objects alone in the forks, so their pages stay shared


def spawn(program: Program, *, output: int) -> int:
    """Forks `program`; what it prints goes to the descriptor `output`. Returns its pid, which leads a session."""
    return _fork(lambda: _run_module(program), environ=program.environ, title=program.name, output=output)


def spawn_call(call: Callable[[], object], *, title: str, output: int) -> int:
    """Forks a call of ours. The exit code is 0, or 1 after an exception, or that of SystemExit."""
    return _fork(call, environ={}, title=title, output=output)


def _fork(call: Callable[[], object], *, environ: dict[str, str], title: str, output: int) -> int:
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD})
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        return pid
    code = 1
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for sign in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP):
            signal.signal(sign, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        die_with_parent(parent)
        _use_output(output)
        fewer_malloc_arenas()
        _set_title(title)
        os.environ.update(environ)
        call()
        code = 0
    except SystemExit as ended:
        code = _exit_code(ended)
    except BaseException:  # the parent's stack lies below us and must not run
        traceback.print_exc()
    finally:
        _finish(code)
    raise AssertionError("unreachable")


def _run_module(program: Program) -> None:
    sys.argv = [program.module, *program.arguments]
    runpy.run_module(program.module, run_name="__main__", alter_sys=True)


def _use_output(output: int) -> None:
    """Standard input is empty, both outputs go to `output`, every other descriptor is closed (the lock among them)."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.closerange(3, max(64, os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") < 65536 else 65536))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _set_title(name: str) -> None:
    import setproctitle

    setproctitle.setproctitle(f"countersign {name}")


def _exit_code(ended: SystemExit) -> int:
    if ended.code is None:
        return 0
    if isinstance(ended.code, int):
        return ended.code
    print(ended.code, file=sys.stderr)
    return 1


def _finish(code: int) -> None:
    """Ends a fork as the interpreter would end, but without returning into the parent's stack."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as multiprocessing's children do
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
