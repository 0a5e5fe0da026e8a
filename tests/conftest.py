"""What all tests share: a real browser, and a whole running stack."""

import functools
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, expect, sync_playwright
from xdist.scheduler import LoadScopeScheduling

from config.devstack.testrun import find_browser
from tests.stack import Stack, remove_tree

BROWSER_ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
ROOT = Path(__file__).parents[1]
WHOLE = "whole stacks"
COUNTS_THE_LOG = "tests/integration/audit/test_reading.py"
WHOLE_FOLDERS = ("tests/e2e/", "tests/chaos/", "tests/browser/")
NO_BROWSER = "no Chromium was found: put one on PATH or name it in CHROMIUM"


def pytest_configure(config: pytest.Config) -> None:
    os.environ.setdefault("CHROMIUM", find_browser())
    expect.set_options(timeout=30_000)  # a deadline alone: no test depends on how fast pages come


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What asks for a browser or the stack carries their marker, so that `-m 'not stack'` leaves it out."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "browser" in fixtures or "chromium" in fixtures:
            item.add_marker(pytest.mark.browser)
        if "stack" in fixtures:
            item.add_marker(pytest.mark.stack)
    # files whose tests all roll back go before those that leave something: the log keeps what was committed
    leaves = {_group(item.nodeid): 2 for item in items if _commits(item)} | {COUNTS_THE_LOG: 1}
    items.sort(key=lambda item: (_group(item.nodeid) != WHOLE, leaves.get(_group(item.nodeid), 0)))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """What runs a whole stack goes first and one after the other, beside the rest, which goes by files."""

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

    return ByGroup(config, log)


def _commits(item: pytest.Item) -> bool:
    marker = item.get_closest_marker("django_db")
    fixtures = {"transactional_db", "live_server"} & set(getattr(item, "fixturenames", ()))
    return bool(fixtures or (marker and marker.kwargs.get("transaction")))


def _group(nodeid: str) -> str:
    return _group_of_file(nodeid.partition("::")[0])


@functools.cache
def _group_of_file(path: str) -> str:
    """WHOLE where the file's tests run a whole stack, else the file."""
    asks = re.search(r"def \w+\([^)]*\b(stack|signed_in)\b", (ROOT / path).read_text(encoding="utf-8"))
    return WHOLE if asks or path.startswith(WHOLE_FOLDERS) else path


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says plainly what became of the browser tests."""
    ran = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        if report.when == "call" and "browser" in report.keywords
    ]
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if "browser" in report.keywords]
    if ran:
        terminalreporter.write_line(f"browser tests: {len(ran)} ran in {find_browser()}")
    if skipped:
        terminalreporter.write_line(f"browser tests: {len(skipped)} SKIPPED, since {NO_BROWSER}", yellow=True)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The test database, which tests that commit leave empty."""
    from tests.flushing import Flushing  # needs the models

    with django_db_blocker.unblock():
        flushing = Flushing()
    with flushing.installed():
        yield


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium. Without one the test is skipped, and fails with REQUIRE_BROWSER=1."""
    found = find_browser()
    if not found and os.environ.get("REQUIRE_BROWSER") == "1":
        pytest.fail(f"REQUIRE_BROWSER=1, but {NO_BROWSER}")
    if not found:
        pytest.skip(NO_BROWSER)
    return found


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """A headless Chromium. Open `browser.new_context(viewport=…)` for a session of its own."""
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    # Playwright keeps an event loop in this thread, which Django takes for asynchronous code
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    try:
        with sync_playwright() as playwright:
            opened = playwright.chromium.launch(executable_path=chromium, args=BROWSER_ARGUMENTS)
            yield opened
            opened.close()
    finally:
        if before is None:
            del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]
        else:
            os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = before


@pytest.fixture(scope="session")
def shared_tmp() -> Iterator[Path]:
    """A folder that every user can reach: pytest's own is closed to others."""
    with tempfile.TemporaryDirectory(prefix="countersign-stack-", dir="/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture(scope="session")
def stack(shared_tmp: Path) -> Iterator[Stack]:
    """The whole stack with the demo, once for all tests; leases are short, so that lost steps come back soon, and
    longer than a busy machine stalls."""
    running = Stack(shared_tmp / "data", STEP_LEASE_S="10", STEP_REPUBLISH_AFTER_S="3")
    try:
        running.start()
        yield running
    finally:
        left = running.stop()
        remove_tree(running.folder)
    assert not left, f"the stack left processes behind: {left}"


@pytest.fixture
def signed_in(stack: Stack) -> Iterator[httpx2.Client]:
    """An HTTP client of the stack, signed in as admin."""
    client = stack.client()
    yield client
    client.close()
