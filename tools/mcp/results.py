"""What a server answered, as a tool's result: text that a model may read, and files that the job keeps."""

import base64
import re
import tempfile
from pathlib import Path
from typing import Any

import mcp_types

from audit.canonical import canonical_json
from audit.errors import NotCanonical
from tools.artifacts.keeping import Wanted, keep, shown
from tools.artifacts.kinds import SUFFIXES, kind_of
from tools.errors import ToolError
from tools.models import Artifact
from tools.spec import Box, Result

TEXT_MAX = 96 * 1024
STRUCTURED_MAX_BYTES = 48 * 1024
FILES_MAX = 20
_OTHER = re.compile(r"[^A-Za-z0-9._-]+")
_SEEN_MAX = 100

Block = mcp_types.ContentBlock | mcp_types.TextResourceContents | mcp_types.BlobResourceContents


def result_of(answer: mcp_types.CallToolResult, box: Box, *, server: str, tool: str, era: str) -> Result:
    """The result of a call; what of it is no text is kept with the step, within the bounds of artifacts."""
    files = _Files(box, _OTHER.sub("-", tool).strip("-.")[-80:] or "file")
    text = "\n".join(filter(None, (_shown(block, files) for block in answer.content)))
    cut = max(0, len(text) - TEXT_MAX)
    if cut:
        text = f"{text[:TEXT_MAX]}\n[... {cut} characters left out ...]"
    first = next((line.strip() for line in text.splitlines() if line.strip()), "no words")
    failed = bool(answer.is_error)
    said = f"says that it failed: {first}" if failed else f"answered: {first}"
    data: dict[str, Any] = {
        "untrusted": True,
        "server": server,
        "tool": tool,
        "protocol": era,
        "is_error": failed,
        "content": [block.type for block in answer.content[:_SEEN_MAX]],
    }
    if files.kept:
        data["artifacts"] = [shown(one) for one in files.kept]
    structured = _small(answer.structured_content)
    if structured is not None:
        data["structured"] = structured
    if failed:
        data["error_code"] = "mcp_tool_error"
    return Result(ok=not failed, summary=f"{server} {said}", data=data, text=text, truncated_bytes=cut)


class _Files:
    """Keeps what is no text, under names of our own; what it says of its type is not believed."""

    def __init__(self, box: Box, stem: str) -> None:
        self._box = box
        self._stem = stem
        self._number = 0
        self.kept: list[Artifact] = []

    def keep(self, what: str, encoded: str) -> str:
        """A line that names it, and says where it is or why it is not kept."""
        self._number += 1
        if self._number > FILES_MAX:
            return f"[{what}, not kept: more than {FILES_MAX} files]"
        try:
            data = base64.b64decode(encoded, validate=True)
            one = self._kept(data)
        except ValueError:
            return f"[{what}, not kept: it is no base64]"
        except OSError as error:  # what was asked is done all the same
            return f"[{what}, not kept: {error.strerror}]"
        except ToolError as error:
            return f"[{what}, {len(data)} bytes, not kept: {error.message}]"
        self.kept.append(one)
        return f"[{what}, {one.size_bytes} bytes, kept as {one.name}]"

    def _kept(self, data: bytes) -> Artifact:
        name = f"{self._stem}-{self._number}{SUFFIXES.get(kind_of(data), '')}"
        with tempfile.TemporaryDirectory(prefix="countersign-") as folder:
            (Path(folder) / name).write_bytes(data)
            wanted = [Wanted(path=name, name=name)]
            return keep(self._box.workspace, wanted, subject=self._box.call_id, folder=Path(folder))[0]


def _shown(block: Block, files: _Files) -> str:
    """A part of an answer as text; what is none is kept and named."""
    if isinstance(block, mcp_types.TextContent):
        return block.text
    if isinstance(block, mcp_types.ImageContent | mcp_types.AudioContent):
        return files.keep(f"{block.type} {block.mime_type[:100]}", block.data)
    if isinstance(block, mcp_types.EmbeddedResource):
        return _shown(block.resource, files)
    if isinstance(block, mcp_types.TextResourceContents):
        return f"[{block.uri}]\n{block.text}"
    if isinstance(block, mcp_types.BlobResourceContents):
        return files.keep(f"resource {block.uri[:500]}", block.blob)
    if isinstance(block, mcp_types.ResourceLink):
        return " ".join(filter(None, (f"[resource {block.uri}: {block.name}]", block.description)))
    return f"[{getattr(block, 'type', 'unknown')}, not kept]"


def _small(value: Any) -> Any:
    """As JSON that a row can hold; None where there is none, or too much of it."""
    if value is None:
        return None
    try:
        return value if len(canonical_json(value)) <= STRUCTURED_MAX_BYTES else None
    except NotCanonical:
        return None
