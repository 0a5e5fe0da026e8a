"""The main job, as a newcomer sees it: in a real browser, against the whole stack."""

import subprocess
from contextlib import closing
from pathlib import Path
from urllib.parse import urljoin

import pytest
from playwright.sync_api import Browser, Page, expect

from config.devstack.places import REPOSITORY
from tests.stack import Stack, wait_until

pytestmark = pytest.mark.timeout(400)

PICTURES = REPOSITORY / "test-artifacts"


def git(remote: Path, *arguments: str) -> str:
    """Asks the sample's bare remote, whoever owns it."""
    argv = ["git", "-c", "safe.directory=*", "--git-dir", str(remote), *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def sign_in(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.base_url}/accounts/login/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(stack.admin_password)
    page.get_by_role("button", name="Sign in").click()


def remote_of(stack: Stack) -> Path:
    return Path(stack.query("SELECT url FROM agents_repository WHERE name = 'sample'")[0][0].removeprefix("file://"))


def job_state(stack: Stack, job: str) -> str:
    return str(stack.query("SELECT state FROM agents_job WHERE id = %s", job)[0][0])


def pending(stack: Stack, job: str) -> str:
    """The id of the job's open request, once there is one."""

    def look() -> str:
        rows = stack.query("SELECT id FROM approvals_approvalrequest WHERE parent_id = %s AND state = 'pending'", job)
        return str(rows[0][0]) if rows else ""

    return wait_until(look, timeout_s=120, why=f"job {job} asks; it is {job_state(stack, job)}")


def pushed_branches(remote: Path) -> dict[str, str]:
    lines = git(remote, "for-each-ref", "--format=%(refname:short) %(objectname)", "refs/heads").splitlines()
    return dict(line.split() for line in lines if not line.startswith("main "))


def open_mail_about(page: Page, stack: Stack, request: str) -> str:
    """Opens the mail of the mailbox whose link finds the request, among those of other tests and of outcomes."""
    mails = page.get_by_role("link").filter(has_text="git push").evaluate_all("all => all.map(one => one.href)")
    for mail in mails:
        page.goto(mail)
        links = page.locator("a[href*='/a/']")
        if links.count():
            href = urljoin(stack.base_url, str(links.first.get_attribute("href")))
            if request in page.request.get(href).text():
                return href
    raise AssertionError(f"no mail of {len(mails)} leads to the request {request}")


def test_the_demo_waits_for_approval_and_ends_with_the_branch_in_the_remote(stack: Stack, browser: Browser):
    PICTURES.mkdir(exist_ok=True)
    job = str(stack.query("SELECT id FROM agents_job ORDER BY created_at LIMIT 1")[0][0])
    request = pending(stack, job)
    remote = remote_of(stack)
    before = pushed_branches(remote)  # other tests of this stack push to the same remote
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    sign_in(page, stack)
    expect(page.get_by_text("1 approval needs you").first).to_be_visible()
    page.screenshot(path=PICTURES / "dashboard-390.png", full_page=True)

    page.goto(f"{stack.base_url}/mailbox/")
    href = open_mail_about(page, stack, request)
    page.screenshot(path=PICTURES / "mail-390.png", full_page=True)
    for _ in range(3):  # a mail scanner follows the link again and again
        page.request.get(href)
        page.request.head(href)
    assert stack.query("SELECT state FROM approvals_approvalrequest WHERE id = %s", request)[0][0] == "pending"

    page.goto(href)
    expect(page.get_by_text("git push").first).to_be_visible()
    page.screenshot(path=PICTURES / "approval-390.png", full_page=True)
    scroll, width = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert scroll <= width, "the page scrolls sideways at 390 px"
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("Approved").first).to_be_visible()
    wait_until(lambda: job_state(stack, job) == "succeeded", timeout_s=90, why="the job ends")
    page.screenshot(path=PICTURES / "approved-390.png", full_page=True)

    pushed = pushed_branches(remote).items() - before.items()
    assert len(pushed) == 1
    ((_, sha),) = pushed
    step = stack.query("SELECT result FROM agents_step WHERE job_id = %s AND tool = 'git.commit'", job)[-1][0]
    assert step["data"]["sha"] == sha
    assert "CHANGELOG" in (names := git(remote, "diff", "--name-only", "main", sha)) or "RELEASE" in names

    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(f"{stack.base_url}/jobs/{job}/")
    page.screenshot(path=PICTURES / "job-1280.png", full_page=True)
    context.close()

    queues = stack.query(
        "SELECT s.tool, s.queue, a.queue, a.task_id FROM agents_attempt a JOIN agents_step s ON s.id = a.step_id"
        " WHERE s.job_id = %s",
        job,
    )
    assert {ran for _, _, ran, _ in queues} >= {"llm", "git", "shell", "files"}
    assert all(declared == ran and task for _, declared, ran, task in queues), queues
    wait_until(lambda: "whole" in stack.manage("audit_verify").stdout, why="audit_verify says whole")


def test_a_denial_with_a_reason_makes_the_agent_take_another_way(stack: Stack):
    submitted = stack.manage(
        *("submit", "make the tests pass, write the release notes, push"),
        *("--repository", "sample", "--as", "demo", "--json"),
    )
    assert submitted.returncode == 0, submitted.stderr
    rows = stack.query("SELECT id FROM agents_job ORDER BY created_at DESC LIMIT 1")
    job = str(rows[0][0])
    first = pending(stack, job)
    denied = stack.manage(
        "deny", first, "--reason", "Please say in the release notes who is affected.", "--as", "admin"
    )
    assert denied.returncode == 0, denied.stderr
    second = pending(stack, job)
    assert second != first
    calls = stack.query(
        "SELECT arguments, state, error FROM agents_step WHERE job_id = %s AND tool = 'git.push' ORDER BY seq", job
    )
    assert calls[0][1:] == ("refused", "Please say in the release notes who is affected.")
    before = stack.query(
        "SELECT count(*) FROM agents_step WHERE job_id = %s AND tool IN ('files.write', 'git.commit')", job
    )
    assert before[0][0] > 3, "it changed something between its two requests"
    approved = stack.manage("approve", second, "--as", "admin", "--json")
    assert approved.returncode == 0, approved.stderr
    wait_until(lambda: job_state(stack, job) == "succeeded", timeout_s=90, why="the job ends")


def test_nobody_approves_their_own_job(stack: Stack):
    stack.manage(
        *("submit", "make the tests pass, write the release notes, push"),
        *("--repository", "sample", "--as", "admin", "--json"),
    )
    job = str(stack.query("SELECT id FROM agents_job ORDER BY created_at DESC LIMIT 1")[0][0])
    request = pending(stack, job)
    refused = stack.manage("approve", request, "--as", "admin")
    assert refused.returncode != 0
    client = stack.client()
    with closing(client):
        answer = client.post(f"/api/v1/approvals/{request}/approve", json={})
        assert answer.status_code == 403
        assert answer.json()["code"]
        assert client.post(f"/api/v1/jobs/{job}/cancel").status_code < 300
    wait_until(lambda: job_state(stack, job) == "cancelled", why="the cancel")
