"""Labels of what a call brings in or does, for policies that ask what an agent was exposed to.

untrusted: text that others may have written (files of a repository, web pages, answers of servers, programs' output) came
in; private: what must not leave came in; egress: something left this server, or may have. They are facts about a
call, told without its tool's help where the tool is not the server's own; they never widen what a call may do.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from tools.admitted import AdmittedTool
from tools.risk.handles import secrets_of
from tools.risk.hosts import REACHING, hosts_of
from tools.spec import Effect, Tool

UNTRUSTED, PRIVATE, EGRESS = "untrusted", "private", "egress"
LABELS = frozenset({UNTRUSTED, PRIVATE, EGRESS})
# Where a result's data says so itself: `untrusted: true` as http tools have it, or a list of labels under this name.
KEY = "labels"

# Tools of the server that give back nothing that others wrote, as names of files and branches are. What a model or a person
# says is told by what they read.
_OWN_WORDS = frozenset(
    {"files.write", "files.mkdir", "files.delete", "files.move", "artifacts.keep", "workspace.prepare", "git.tag"}
)
_SPEAKING = ("llm.", "plan.", "human.", "job.", "memory.")
_SENDING = frozenset(
    {"git.clone", "git.push", "git.push_tag", "git.force_push", "git.restore_branch", "git.delete_branch"}
    | {"git.pull_request", "git.close_pull_request"}
)


def of_call(tool: Tool, arguments: Mapping[str, Any]) -> frozenset[str]:
    """What the call of this tool means whatever comes back, also where it fails.

    One by others brings in what others wrote, and sends where it does more than read: what it says of itself counts for
    nothing. One of an MCP server sends, too, where that server is reached over the network or may reach hosts.
    """
    if isinstance(tool, AdmittedTool):
        reads = tool.effect is Effect.READ and not getattr(tool.inner, "sends", False)
        found = {UNTRUSTED} if reads else {UNTRUSTED, EGRESS}
    else:
        found = set() if tool.name in _OWN_WORDS or tool.name.startswith(_SPEAKING) else {UNTRUSTED}
        if tool.name in _SENDING or hosts_of(tool.name, arguments) != ():
            found.add(EGRESS)
    if secrets_of(tool.name, arguments) != ():
        found.add(PRIVATE)
    return frozenset(found)


def may_be(tool: Tool) -> frozenset[str]:
    """The labels that calls of this tool can have at all, whatever their arguments say."""
    if foreign(tool):
        return LABELS
    reaching = tool.name.startswith(REACHING)
    found = {EGRESS, PRIVATE} if reaching else {EGRESS} if tool.name in _SENDING else set()
    return of_call(tool, {}) | found


def foreign(tool: Tool) -> bool:
    """Is it by others than the server's authors, and so are its name, its summary and its schema's words?"""
    return isinstance(tool, AdmittedTool)


def of_data(data: Mapping[str, Any] | None) -> frozenset[str]:
    """What a result's data says of itself. It only ever adds."""
    if not data:
        return frozenset()
    given = data.get(KEY)
    found = {one for one in given if one in LABELS} if isinstance(given, (list, tuple)) else set()
    return frozenset(found | ({UNTRUSTED} if data.get("untrusted") is True else set()))


def marked(data: Mapping[str, Any], labels: Iterable[str]) -> dict[str, Any]:
    """`data` of a result that says these labels, besides those that it has. Raises ValueError: there is no such label."""
    wanted = frozenset(labels)
    if not wanted <= LABELS:
        raise ValueError(f"no such label: {', '.join(sorted(wanted - LABELS))}")
    found = of_data(data) | wanted
    return {**data, KEY: sorted(found)} if found else dict(data)
