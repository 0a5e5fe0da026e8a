"""From a handle's name to its value, at the moment of use: who may, where to, on record."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from django.db import transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac

from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event
from tools.errors import ToolRefused
from tools.secrets.holding import current, holder
from tools.secrets.models import SecretHandle
from tools.secrets.patterns import fits, fits_group, fits_host
from tools.secrets.values import read


def resolve(name: str, *, tool: str, host: str = "", env: str = "", hosts: Iterable[str] = ()) -> str:
    """The secret's value, for one use. It is unspeakable in this process from here on, and the use is recorded.

    Called while a tool runs, never before: the value must not stand in arguments, messages or rows.

    host: where it will be sent (`name` or `name:port`, 443 where no port is given); env: the variable in which a command
    is given it; hosts: what that command may reach (patterns as in an allow-list), () where it has no network. One of host
    and env is given.

    Raises:
        ToolRefused: there is no such handle, it is not for this tool, agent, group, host or variable, or it has no value.
    """
    handle = allowed(name, tool=tool, host=host, env=env, hosts=hosts)
    value = read(handle)
    _used(handle, value, tool=tool, host=host, env=env, now=timezone.now())
    return value


def allowed(name: str, *, tool: str, host: str = "", env: str = "", hosts: Iterable[str] = ()) -> SecretHandle:
    """The handle, where the same `resolve` would be let; nothing is read or recorded.

    Raises:
        ToolRefused
    """
    if bool(host) == bool(env):
        raise ValueError("a secret is for a host, or for a command's environment")
    handle = SecretHandle.objects.filter(name=name).first()
    if handle is None or not handle.enabled:
        raise ToolRefused(f"There is no secret {name!r} that can be used.", secret=name)
    why = _against(handle, tool=tool, host=host, env=env, hosts=hosts)
    if why:
        raise ToolRefused(f"The secret {name} is not for {why}.", secret=name)
    return handle


def environment(wanted: Mapping[str, str], *, tool: str, hosts: Iterable[str] = ()) -> dict[str, str]:
    """The variables of a command that is given secrets, {variable: handle}, with their values: for the sandbox alone.

    hosts: what the command may reach; each must be one that each of the handles may be sent to.

    Raises:
        ToolRefused: one of them may not be used so; none is then.
    """
    reached = tuple(hosts)
    for variable, name in wanted.items():
        allowed(name, tool=tool, env=variable, hosts=reached)
    return {variable: resolve(name, tool=tool, env=variable, hosts=reached) for variable, name in wanted.items()}


def for_host(host: str, *, tool: str) -> str:
    """The name of the enabled handle that this tool may send to `host` in the job that runs; "" where there is none.

    Raises:
        ToolRefused: there are several: the caller has to name one.
    """
    fitting = [
        handle.name
        for handle in SecretHandle.objects.filter(enabled=True).exclude(hosts=[])
        if not _against(handle, tool=tool, host=host, env="", hosts=())
    ]
    if len(fitting) > 1:
        raise ToolRefused(f"Several secrets are for {host}: name one of {', '.join(fitting)}.", host=host)
    return fitting[0] if fitting else ""


def _against(handle: SecretHandle, *, tool: str, host: str, env: str, hosts: Iterable[str]) -> str:
    """What it is not for, in words; "" where it may be used so."""
    who = holder(current().subject)
    if not fits(handle.tools, tool):
        return f"the tool {tool}"
    if not fits(handle.agents, who.agent):
        return f"the agent {who.agent}" if who.agent else "jobs without an agent"
    if not fits_group(handle.groups, who.groups):
        return "the groups of this job's owner"
    if env and env not in handle.env_names:
        return f"the variable {env}"
    outside = [one for one in ((host,) if host else tuple(hosts)) if not fits_host(handle.hosts, one)]
    return f"the host {outside[0]}" if outside else ""


def _used(handle: SecretHandle, value: str, *, tool: str, host: str, env: str, now: datetime) -> None:
    """Writes the use down, in a transaction of its own, before the value is handed out."""
    now_acting = current()
    tag = salted_hmac("tools.secrets.value", value, algorithm="sha256").hexdigest()
    actor = Actor.worker(now_acting.worker) if now_acting.worker else Actor.system("secrets")
    target = Target(type="secret", id=handle.name)
    with transaction.atomic():
        changes: dict[str, object] = {"last_used_at": now}
        if handle.value_tag != tag:
            changes |= {"value_tag": tag, "rotated_at": now}
        if handle.value_tag and handle.value_tag != tag:
            record(Event.SECRET_ROTATED, actor=actor, target=target)
        SecretHandle.objects.filter(pk=handle.pk).update(**changes)
        record(
            Event.SECRET_USED,
            actor=actor,
            target=target,
            context={
                "tool": tool,
                "step": now_acting.subject,
                "purpose": now_acting.purpose or "run",
                **({"host": host} if host else {"env": env}),
            },
        )
    if now_acting.purpose and handle.name not in now_acting.used:
        now_acting.used.append(handle.name)
