"""The documentation follows from the code and leads somewhere."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


def links(page: Path) -> Iterator[str]:
    """Targets of the page's links to files of the repository and to headings."""
    text = _CODE.sub(lambda found: re.sub(r"[^\n]", "x", found.group()), page.read_text(encoding="utf-8"))
    for target in _LINK.findall(text):
        if not re.match(r"[a-z]+:|/", target):
            yield target


def anchors(page: Path) -> set[str]:
    """The names by which its headings are linked to, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(text)}


def test_the_reference_is_as_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_the_documentation_leads_somewhere(page: Path) -> None:
    dead = []
    for target in links(page):
        path, _, anchor = unquote(target).partition("#")
        found = (page.parent / path).resolve() if path else page
        if not found.exists() or (anchor and found.suffix == ".md" and anchor not in anchors(found)):
            dead.append(target)
    assert not dead, f"dead links: {dead}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, queue = set(), [ROOT / "README.md"]
    while queue:
        page = queue.pop()
        if page in reached:
            continue
        reached.add(page)
        for target in links(page):
            found = (page.parent / unquote(target).partition("#")[0]).resolve()
            queue += sorted(found.glob("*.md")) if found.is_dir() else [found] if found.suffix == ".md" else []
    assert not {str(page.relative_to(ROOT)) for page in PAGES if page not in reached}


def test_every_finding_of_audit_verify_is_explained() -> None:
    sources = [ROOT / "audit" / "verify.py", *sorted((ROOT / "audit" / "checking").glob("*.py"))]
    codes = {code for path in sources for code in re.findall(r'(?:\.add|stale)\(\s*"([a-z_]+)"', path.read_text())}
    explained = set(re.findall(r"`([a-z_]+)`", (ROOT / "docs" / "howto" / "audit.md").read_text(encoding="utf-8")))
    assert len(codes) > 20
    assert not codes - explained
