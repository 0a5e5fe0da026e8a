"""How a call must run: of two constraints the stricter one, and what each refuses."""

import pytest

from tools import constraints, registry
from tools.errors import ToolRefused
from tools.spec import Call, Limits


def test_of_two_the_stricter_holds():
    one = {"profile": "build", "network": ["a.example", "b.example"], "limits": {"timeout_s": 60, "processes": 5}}
    other = {"profile": "read", "network": ["b.example"], "limits": {"timeout_s": 10}, "dry_run": True}
    wanted = {
        "profile": "read",
        "network": ["b.example"],
        "limits": {"timeout_s": 10, "processes": 5},
        "dry_run": True,
    }
    assert constraints.both(one, other) == constraints.both(other, one) == wanted
    assert constraints.both(one, {}) == one
    assert constraints.both({"network": ["a.example"]}, {"network": ["c.example"]}) == {"network": "none"}
    assert constraints.both({"network": "none"}, {"network": ["c.example"]}) == {"network": "none"}


def test_limits_are_only_lowered():
    tight = constraints.limited(Limits(), {"limits": {"timeout_s": 5, "memory_mb": 64, "output_kb": 1}})
    assert (tight.timeout_s, tight.memory_bytes, tight.output_kill_bytes) == (5.0, 64 * 1024**2, 1024)
    assert tight.output_head_bytes <= 1024
    assert constraints.limited(Limits(), {"limits": {"timeout_s": 10**6, "processes": 10**6}}) == Limits()


@pytest.mark.parametrize(
    ("url", "network", "allowed"),
    [
        ("https://git.example/x", None, True),
        ("https://git.example/x", ["git.example"], True),
        ("https://GIT.example:443/x", ["git.example"], True),
        ("https://git.example.evil/x", ["git.example"], False),
        ("https://evil/git.example", ["git.example"], False),
        ("https://git.example/x", "none", False),
        ("/srv/x.git", ["git.example"], False),
        ("/srv/x.git", ["localhost"], True),
    ],
)
def test_only_named_remotes_are_reached(url, network, allowed):
    if allowed:
        constraints.reach(url, network)
    else:
        with pytest.raises(ToolRefused):
            constraints.reach(url, network)


def test_what_cannot_be_held_is_refused():
    constraints.check(registry.get("files.read"), {"network": "none"})
    with pytest.raises(ToolRefused, match="network"):
        constraints.check(registry.get("llm.think"), {"network": "none"})
    constraints.check(registry.get("files.write"), {"profile": "build"})
    for tool, profile in (("files.write", "read"), ("workspace.prepare", "build"), ("git.fetch", "build")):
        with pytest.raises(ToolRefused, match="writes more"):
            constraints.check(registry.get(tool), {"profile": profile})
    with pytest.raises(ToolRefused, match="cannot be held"):
        constraints.check(registry.get("files.read"), {"from a newer server": True})


def test_the_digest_binds_constraints_and_policy():
    plain = Call(tool="t", schema_version=1, arguments={}, workspace_id="w")
    held = Call(tool="t", schema_version=1, arguments={}, workspace_id="w", constraints={"profile": "read"})
    other = Call(tool="t", schema_version=1, arguments={}, workspace_id="w", policy="v1")
    assert len({plain.digest(), held.digest(), other.digest()}) == 3
