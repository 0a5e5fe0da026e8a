"""The sandbox: a stdlib-only launcher that confines one command, and the worker's side of it.

`kernel`, `landlock`, `seccomp`, `namespaces`, `bubblewrap`, `confine`, `supervise` and `launcher` run in the launcher's
own process (`python -I -S launcher.py SPEC_FD STATUS_FD`) and import nothing but each other and the standard library.
`process`, `output`, `identity`, `probe` and `harden` run in the worker.
"""
