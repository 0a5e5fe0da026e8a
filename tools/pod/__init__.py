"""The `pod` tier: a command in a container of Docker's, or in a pod of Kubernetes', instead of in namespaces of ours.

`engine`, `docker`, `kubernetes`, `header` and `launcher` run in the launcher's own process and import nothing but each
other, `tools.sandbox`'s stdlib-only modules and the standard library; `config` is the worker's.
"""
