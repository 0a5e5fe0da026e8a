"""Kubernetes: a pod that waits for its input, `attach`, its status, `delete`. Stdlib only.

The namespace must have a NetworkPolicy that lets these pods reach nothing (`POLICY`), and a network plugin that enforces
it; the trial of the tier tries the cluster's own API from inside.
"""

import json
import time
from typing import Any

from tools.pod.engine import LABEL, Engine, EngineFailed, as_json, ask

_PRIVATE = "64Mi"
_READY_S = 120

POLICY: dict[str, Any] = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "countersign-sandbox"},
    "spec": {
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "countersign-sandbox"}},
        "policyTypes": ["Ingress", "Egress"],
    },
}


class Kubernetes(Engine):
    def create(self, command: list[str]) -> None:
        self._kubectl("create", "--filename", "-", stdin=json.dumps(manifest(self.spec, self.name, command)).encode())
        self._kubectl(
            "wait", "--for=condition=Ready", f"--timeout={_READY_S}s", f"pod/{self.name}", timeout_s=_READY_S + 10.0
        )

    def attach(self) -> list[str]:
        return [
            *(self.pod["program"], "--namespace", self.pod["namespace"], "attach", "--stdin", "--quiet"),
            *("--container", "command", self.name),
        ]

    def state(self) -> dict[str, Any] | None:
        found = as_json(self._kubectl("get", "pod", self.name, "--output", "json"))
        status = found.get("status", {})
        for one in status.get("containerStatuses", []):
            ended = one.get("state", {}).get("terminated")
            if ended is not None:
                return {"code": int(ended["exitCode"]), "memory": ended.get("reason") == "OOMKilled"}
        if status.get("phase") == "Failed":
            raise EngineFailed(str(status.get("message") or status.get("reason") or "the pod failed")[:300])
        return None

    def ask_to_end(self) -> None:
        self._kubectl("delete", "pod", self.name, "--grace-period=1", "--wait=false", timeout_s=3.0)

    def removal(self) -> list[str]:
        return [
            *(self.pod["program"], "--namespace", self.pod["namespace"], "delete", "pod", self.name),
            *("--grace-period=0", "--force", "--wait=true", "--ignore-not-found", "--timeout=20s"),
        ]

    def _kubectl(self, *arguments: str, stdin: bytes = b"", timeout_s: float = 20.0) -> str:
        return self.ask("--namespace", self.pod["namespace"], *arguments, stdin=stdin, timeout_s=timeout_s)


def manifest(spec: dict[str, Any], name: str, command: list[str]) -> dict[str, Any]:
    """The pod: no root, no capability, no token of the cluster's, nothing writable but the workspace and a little memory.

    Raises:
        ValueError: the command would run as root, or a path does not lie in the volume of the workspaces.
    """
    if spec["uid"] == 0 or spec["gid"] == 0:
        raise ValueError("commands never run as root")
    limits, pod = spec["limits"], spec["pod"]
    memory = str(limits["memory_bytes"])
    container = {
        "name": "command",
        "image": pod["image"],
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "workingDir": spec["cwd"],
        "stdin": True,
        "stdinOnce": True,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {
            "requests": {"cpu": "100m", "memory": str(min(limits["memory_bytes"], 128 << 20))},
            "limits": {"memory": memory, "ephemeral-storage": _PRIVATE},
        },
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "shm", "mountPath": "/dev/shm"},
            *_mounts(spec),
        ],
    }
    inside: dict[str, Any] = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": int(spec["wall_s"]) + 60,
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "hostname": "sandbox",
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": spec["uid"],
            "runAsGroup": spec["gid"],
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": _PRIVATE}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": _PRIVATE}},
            {"name": "workspaces", "persistentVolumeClaim": {"claimName": pod["claim"]}},
        ],
    }
    if pod["runtime"]:
        inside["runtimeClassName"] = pod["runtime"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/name": "countersign-sandbox"},
            "annotations": {f"{LABEL}/until": str(int(time.time() + spec["wall_s"] + 60))},
        },
        "spec": inside,
    }


def _mounts(spec: dict[str, Any]) -> list[dict[str, Any]]:
    base, made = spec["pod"]["base"].rstrip("/") + "/", []
    writable = set(spec["write"])
    for path in sorted({*spec["read"], *writable}, key=lambda one: (len(one), one)):
        if not path.startswith(base):
            raise ValueError(f"{path} does not lie in the volume of the workspaces")
        made.append(
            {
                "name": "workspaces",
                "mountPath": path,
                "subPath": path[len(base) :],
                "readOnly": path not in writable,
            }
        )
    return made


def leftovers(pod: dict[str, Any], now: float) -> list[str]:
    """Names of pods whose time has been over for a minute: those of launchers that were killed."""
    selector = "app.kubernetes.io/name=countersign-sandbox"
    found = as_json(
        ask(pod, "--namespace", pod["namespace"], "get", "pods", "--selector", selector, "--output", "json")
    )
    names = []
    for one in found.get("items", []):
        until = one["metadata"].get("annotations", {}).get(f"{LABEL}/until", "")
        if until.isdigit() and int(until) < now:
            names.append(one["metadata"]["name"])
    return names
