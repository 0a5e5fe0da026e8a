"""A job keeps files: what is there is what was kept, without secrets, within bounds, and for so long."""

import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from django.conf import settings as configured
from django.db import IntegrityError, transaction
from django.utils import timezone
from pytest_django import Settings

from audit.ids import uuid7
from audit.models import Record
from tools import permits, redact, registry, runner
from tools.artifacts import purging, store
from tools.artifacts.keeping import Wanted, keep, kept
from tools.builtin.beneath import Beneath
from tools.errors import InvalidArguments, OverQuota, ServerFull, ToolFailed, ToolRefused
from tools.models import Artifact
from tools.spec import Call, Result, Workspace
from tools.workspaces import remove, workspace_for

pytestmark = pytest.mark.django_db
SECRET = "hunter2-in-a-test-of-artifacts"


@pytest.fixture(autouse=True)
def folder(settings: Settings) -> Path:
    settings.ARTIFACT_DIR = Path(configured.DATA_DIR) / f"artifacts-{uuid4().hex}"
    return settings.ARTIFACT_DIR


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    made = workspace_for(str(uuid7()))
    yield made
    remove(made.id)


@pytest.fixture
def secret() -> Iterator[str]:
    before = redact._known
    redact.register(SECRET)
    yield SECRET
    redact._known = before


def write(workspace: Workspace, path: str, content: bytes) -> None:
    with Beneath(workspace.tree) as tree:
        tree.write(path, content)


def keep_one(workspace: Workspace, content: bytes, path: str = "a/file.txt", *, subject: str = "step-1") -> Artifact:
    write(workspace, path, content)
    return keep(workspace, [Wanted(path=path, name=path.rpartition("/")[2])], subject=subject)[0]


def content_of(artifact: Artifact) -> bytes:
    return b"".join(store.read(artifact.sha256, artifact.size_bytes))


def run(workspace: Workspace, files: list[dict[str, str]]) -> Result:
    call = Call(tool="artifacts.keep", schema_version=1, arguments={"files": files}, workspace_id=workspace.id)
    now = timezone.now()
    permit = permits.issue(subject="step-7", digest=call.digest(), granted_by="test", now=now)
    return runner.run(call, permit.pk, worker="w", on_output=lambda *_: None, cancelled=lambda: False, now=now)


def test_the_tool_keeps_what_the_file_holds_and_tells_its_digest(workspace: Workspace) -> None:
    content = os.urandom(300_000)
    write(workspace, "out/data.bin", content)
    write(workspace, "notes.md", "ünïcode\n".encode())
    done = run(
        workspace, [{"path": "out/data.bin"}, {"path": "notes.md", "name": "Notes", "content_type": "text/markdown"}]
    )
    first, second = kept(workspace.id)
    assert [one["sha256"] for one in done.data["artifacts"]] == [first.sha256, second.sha256]
    assert first.sha256 == hashlib.sha256(content).hexdigest()
    assert (content_of(first), content_of(second)) == (content, "ünïcode\n".encode())
    assert (first.content_type, second.content_type) == ("application/octet-stream", "text/markdown")
    assert (first.subject, second.name) == ("step-7", "Notes")
    record = Record.objects.get(event="artifact.kept", target_id=str(first.pk))
    assert first.sha256 in record.body
    assert store.place(first.sha256).stat().st_mode & 0o777 == 0o600
    assert not list((store.place(first.sha256).parent.parent / "incoming").iterdir())


def test_the_same_again_takes_the_place_of_what_was_there(workspace: Workspace) -> None:
    keep_one(workspace, b"one")
    keep_one(workspace, b"two")
    other = keep_one(workspace, b"two", subject="step-2")
    assert [(one.subject, content_of(one)) for one in kept(workspace.id)] == [("step-1", b"two"), ("step-2", b"two")]
    assert len(list(store.contents())) == 2, "the first content, until it is swept, and one for both"
    purging.sweep(now=timezone.now())
    assert [sha for sha, _ in store.contents()] == [other.sha256]


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", ".git/config", "a/.GIT/config"])
def test_a_path_that_leads_out_is_refused(path: str) -> None:
    with pytest.raises(ToolRefused):
        registry.validate(registry.get("artifacts.keep"), {"files": [{"path": path}]})


@pytest.mark.parametrize("name", ["a/b", "..", "a\u202eb", "a\nb", "a\\b"])
def test_a_name_hides_nothing(name: str) -> None:
    with pytest.raises(InvalidArguments):
        registry.validate(registry.get("artifacts.keep"), {"files": [{"path": "x", "name": name}]})


def test_two_files_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidArguments, match="both"):
        registry.validate(registry.get("artifacts.keep"), {"files": [{"path": "a/x"}, {"path": "b/x"}]})


def test_only_regular_files_beneath_the_tree_are_kept(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("outside")
    (workspace.tree / "link").symlink_to(tmp_path / "outside")
    (workspace.tree / "away").symlink_to(tmp_path)
    os.mkfifo(workspace.tree / "pipe")
    (workspace.tree / "folder").mkdir()
    for path in ("link", "away/outside", "pipe"):
        with pytest.raises(ToolRefused):
            keep(workspace, [Wanted(path=path, name="x")], subject="step-1")
    for path in ("folder", "missing"):
        with pytest.raises(ToolFailed):
            keep(workspace, [Wanted(path=path, name="x")], subject="step-1")
    assert not kept(workspace.id)
    assert not list(store.contents())


def test_text_loses_its_secrets_and_says_so(workspace: Workspace, secret: str) -> None:
    made = keep_one(workspace, f"before {secret} between {secret.encode().hex()} after\n".encode() * 3000)
    found = content_of(made).decode()
    assert secret not in found
    assert secret.encode().hex() not in found
    assert found.count("before") == found.count("after") == 3000
    assert made.redacted == 6000
    assert made.sha256 == hashlib.sha256(found.encode()).hexdigest()


def test_what_is_not_text_and_holds_a_secret_is_refused(workspace: Workspace, secret: str) -> None:
    with pytest.raises(ToolRefused, match="secret"):
        keep_one(workspace, b"\0" * 100_000 + secret.encode() + b"\0" * 100)
    assert not list(store.contents())


def test_bytes_that_are_no_unicode_come_out_as_they_went_in(workspace: Workspace) -> None:
    content = b"latin \xe9\xff\xfe text " * 10_000
    assert content_of(keep_one(workspace, content)) == content


def test_sizes_and_counts_are_bounded_and_nothing_is_half_kept(workspace: Workspace, settings: Settings) -> None:
    settings.ARTIFACT_MAX_MB, settings.ARTIFACTS_JOB_MB, settings.ARTIFACTS_JOB_COUNT = 1, 2, 3
    mib = b"x" * 2**20
    with pytest.raises(OverQuota, match="one artifact"):
        keep_one(workspace, mib + b"x")
    keep_one(workspace, mib, "one")
    keep_one(workspace, mib[:-1] + b"y", "two")
    with pytest.raises(OverQuota, match="together"):
        keep_one(workspace, b"small", "three")
    keep_one(workspace, b"smaller", "two")  # in the place of the one before
    keep_one(workspace, b"small", "three")
    with pytest.raises(OverQuota, match="3 artifacts at most"):
        keep_one(workspace, b"", "four")
    assert [one.name for one in kept(workspace.id)] == ["one", "two", "three"]


def test_a_full_disk_keeps_nothing(workspace: Workspace, settings: Settings) -> None:
    settings.WORKSPACE_DISK_FREE_MB = 1 << 40
    with pytest.raises(ServerFull):
        keep_one(workspace, b"x")


def test_artifacts_end_with_their_time_on_record(workspace: Workspace, settings: Settings) -> None:
    settings.ARTIFACT_KEEP_DAYS = 30
    old, shared, young = (keep_one(workspace, content, name) for name, content in
                          (("old", b"old"), ("shared", b"same"), ("young", b"same")))  # fmt: skip
    now = timezone.now()
    Artifact.objects.filter(pk__in=[old.pk, shared.pk]).update(created_at=now - timedelta(days=31))
    done = purging.sweep(now=now)
    assert (done.by_age, done.contents) == (2, 1)
    assert [(one.name, one.purged_at, one.purged_why) for one in kept(workspace.id)] == [
        ("old", now, "kept for 30 days"), ("shared", now, "kept for 30 days"), ("young", None, "")
    ]  # fmt: skip
    assert content_of(young) == b"same", "another artifact has the same content"
    with pytest.raises(store.Missing):
        content_of(old)
    assert old.sha256 in Record.objects.get(event="artifact.purged", target_id=str(old.pk)).body
    assert purging.sweep(now=now) == purging.Purged()


def test_beyond_the_room_for_all_the_oldest_go(workspace: Workspace, settings: Settings) -> None:
    settings.ARTIFACTS_TOTAL_MB = 2
    for number in range(4):
        one = keep_one(workspace, os.urandom(900_000), f"{number}")
        Artifact.objects.filter(pk=one.pk).update(created_at=datetime(2026, 1, 1 + number, tzinfo=UTC))
    settings.ARTIFACT_KEEP_DAYS = 0
    assert purging.sweep(now=timezone.now()).by_size == 2
    assert [one.name for one in kept(workspace.id) if one.purged_at is None] == ["2", "3"]


def test_what_a_crash_left_is_found(workspace: Workspace, folder: Path) -> None:
    made = keep_one(workspace, b"kept")
    stray = "ab" * 32
    store.place(stray).parent.mkdir()
    store.place(stray).write_bytes(b"no row has it")
    half = folder / "incoming" / "half"
    half.write_bytes(b"half")
    os.utime(half, (0, 0))
    done = purging.sweep(now=timezone.now())
    assert (done.contents, done.strays) == (1, 1)
    assert [sha for sha, _ in store.contents()] == [made.sha256]


def test_a_content_that_was_changed_is_not_given_out(workspace: Workspace) -> None:
    made = keep_one(workspace, b"true")
    store.place(made.sha256).write_bytes(b"lies")
    with pytest.raises(store.Missing, match="digest"):
        content_of(made)


def test_a_purged_one_may_be_kept_again(workspace: Workspace) -> None:
    made = keep_one(workspace, b"again")
    assert purging.purge([made.pk, made.pk], actor=purging.SWEEPER, why="test", now=timezone.now()) == 1
    assert purging.purge([made.pk], actor=purging.SWEEPER, why="test", now=timezone.now()) == 0
    assert keep_one(workspace, b"again").pk == made.pk
    assert kept(workspace.id)[0].purged_at is None


def test_a_row_names_a_digest() -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Artifact.objects.create(
            workspace_id=uuid4(), subject="s", name="n", path="p", content_type="t/t", size_bytes=1, sha256="../x"
        )
    with pytest.raises(ValueError, match="SHA-256"):
        store.place("../../../etc/passwd")
