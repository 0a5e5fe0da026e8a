"""Which engine starts the containers, and how. Stdlib only: set once, at the start of the process."""

import os
import shutil
from dataclasses import asdict, dataclass, field
from typing import Any

ENGINES = {"docker": "docker", "kubernetes": "kubectl"}
SEARCHED = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What the engine's own program may know of ours. Nothing else of the worker's environment comes to it.
_HANDED_ON = (
    *("HOME", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"),
    *("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodConfig:
    """engine: "docker" or "kubernetes", "" where there is none; program: its client; image: what commands run in, with
    the programs that they need; runtime: such as `runsc` (gVisor), "" for the engine's own; namespace, claim: of
    Kubernetes, where pods are made and the volume claim that holds the workspaces; folders: where the engine finds a
    folder of ours, should it see other paths than we do; base: the folder of the workspaces."""

    engine: str = ""
    program: str = ""
    image: str = ""
    runtime: str = ""
    namespace: str = "default"
    claim: str = ""
    base: str = ""
    folders: dict[str, str] = field(default_factory=dict)

    def why_not(self) -> str:
        """Why no pod can be started, "" where one may be tried."""
        if not self.engine:
            return "no engine is configured (POD_ENGINE)"
        if self.engine not in ENGINES:
            return f"there is no engine {self.engine!r}; there are {', '.join(ENGINES)}"
        if not self.image:
            return "no image is configured (POD_IMAGE)"
        if self.engine == "kubernetes" and not self.claim:
            return "no volume claim holds the workspaces (POD_VOLUME_CLAIM)"
        if not self.path():
            return f"{self.program or ENGINES[self.engine]} is not installed"
        return ""

    def path(self) -> str:
        """The client's whole path, "" where there is none. Looked for in fixed places only."""
        return shutil.which(self.program or ENGINES[self.engine], path=SEARCHED) or ""

    def as_spec(self) -> dict[str, Any]:
        """For the launcher."""
        handed_on = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
        return {**asdict(self), "program": self.path(), "environment": {"PATH": SEARCHED, **handed_on}}


class _Current:
    config = PodConfig()


def use(config: PodConfig) -> None:
    """From now on this process starts pods so."""
    _Current.config = config


def current() -> PodConfig:
    return _Current.config
