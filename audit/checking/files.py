"""The log's own files beside the checkpoints: are their tiles the tree that was signed?"""

from collections.abc import Iterator
from pathlib import Path

from audit.checking.findings import Report
from audit.errors import InvalidNote, InvalidProof
from audit.merkle import HASH_BYTES, Edge
from audit.notes import CheckpointText, text_of
from audit.publish import LATEST_FILE
from audit.tiles import WIDTH, folder_reader


def check_files(report: Report, folder: Path | None) -> None:
    """Adds `files_differ` where the tiles of leaf hashes below `folder` do not lead to the root of the note beside them.

    What the note says is compared with the log elsewhere. The entries themselves are read where a log is exported and by the
    offline verifier.
    """
    if folder is None or not (folder / LATEST_FILE).exists():
        return
    if not (folder / "tile").is_dir():
        report.notes.append(f"There are no files of the log in {folder} yet; audit_sequencer makes them.")
        return
    try:
        checkpoint = CheckpointText.parse(text_of((folder / LATEST_FILE).read_text(encoding="utf-8")))
        edge = Edge()
        for value in _hashes(folder, checkpoint.size):
            edge.append(value)
        if edge.root() != checkpoint.root:
            raise InvalidProof("they lead to another root")
    except (InvalidNote, InvalidProof, OSError, UnicodeDecodeError) as error:
        report.add("files_differ", f"The published files in {folder} are not the log that was signed: {error}")


def _hashes(folder: Path, size: int) -> Iterator[bytes]:
    files = folder_reader(folder, size)
    for number in range(-(-size // WIDTH)):
        tile = files.tile(0, number)
        yield from (tile[at : at + HASH_BYTES] for at in range(0, len(tile), HASH_BYTES))
