"""Who sees and changes what."""

import pytest
from django.contrib.auth.models import Permission, User
from guardian.shortcuts import assign_perm, remove_perm

from agents.models import Job, Repository
from agents.selectors import may_change, visible_jobs, visible_repositories
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents.api import JOBS, client, problem, step

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("test_tools")]


@pytest.fixture
def people() -> dict[str, User]:
    publish(("test.*", "allow"))
    return {
        "owner": user("ada"),
        "shared": user("bob"),
        "colleague": user("carol", groups=("team",)),
        "stranger": user("dave", groups=("others",)),
        "staff": user("erin", is_staff=True),
        "root": user("root", is_superuser=True),
    }


@pytest.fixture
def job(people) -> Job:
    made = client(people["owner"]).post(JOBS, {"steps": [step()]}).json()
    assert client(people["owner"]).post(f"{made['url']}/share", {"user": "bob"}).status_code == 200
    assert client(people["owner"]).post(f"{made['url']}/share", {"group": "team"}).status_code == 200
    return Job.objects.get(pk=made["id"])


READS = ["", "/steps", "/steps/a", "/events"]


@pytest.mark.parametrize(
    ("who", "reads", "changes", "shares"),
    [
        ("owner", True, True, True),
        ("shared", True, False, False),
        ("colleague", True, False, False),
        ("stranger", False, False, False),
        ("staff", False, False, False),
        ("root", True, True, True),
    ],
)
def test_a_job_is_there_for_its_people_only(people, job, who, reads, changes, shares):
    one, url = client(people[who]), f"{JOBS}/{job.pk}"
    assert [found["id"] for found in one.get(JOBS).json()["results"]] == ([str(job.pk)] if reads else [])
    for path in READS:
        response = one.get(url + path)
        if reads:
            assert response.status_code == 200
        else:
            problem(response, 404, "not_found")
    refusal = (403, "not_allowed") if reads else (404, "not_found")
    response = one.post(f"{url}/share", {"user": "erin"})
    if shares:
        assert response.json() == {"job": str(job.pk), "user": "erin", "group": None}
    else:
        problem(response, *refusal)
    response = one.post(f"{url}/cancel")
    if changes:
        assert response.status_code == 200
    else:
        problem(response, *refusal)
    job.refresh_from_db()
    assert job.cancel_requested is changes


def test_a_strangers_answer_is_that_of_a_job_that_does_not_exist(people, job):
    theirs = client(people["stranger"]).get(f"{JOBS}/{job.pk}").json()
    nowhere = client(people["stranger"]).get(f"{JOBS}/00000000-0000-7000-8000-000000000000").json()
    assert {**theirs, "instance": ""} == {**nowhere, "instance": ""}


def test_nobody_in_particular_sees_nothing(people, job):
    for path in ("", f"/{job.pk}", f"/{job.pk}/steps", f"/{job.pk}/events"):
        response = client().get(JOBS + path)
        problem(response, 401, "not_authenticated")
        assert response["WWW-Authenticate"].startswith("Bearer")


def test_what_was_shared_can_be_taken_back(people, job):
    remove_perm("agents.view_job", people["shared"], job)
    assert not visible_jobs(people["shared"]).exists()


def test_who_left_the_group_or_was_deactivated_sees_nothing(people, job):
    people["colleague"].groups.clear()
    assert not visible_jobs(User.objects.get(username="carol")).exists()
    people["owner"].is_active = False
    assert not visible_jobs(people["owner"]).exists()


def test_change_may_be_given_for_one_job(people, job):
    assign_perm("agents.change_job", people["shared"], job)
    bob = User.objects.get(username="bob")
    assert may_change(bob, job)
    assert client(bob).post(f"{JOBS}/{job.pk}/cancel").status_code == 200


@pytest.mark.parametrize(
    ("sent", "field"),
    [({}, "user"), ({"user": "bob", "group": "team"}, "user"), ({"user": "nobody"}, "user"),
     ({"group": "none"}, "group"), ({"user": 1}, "user"), ({"users": "bob"}, "users")],
)  # fmt: skip
def test_sharing_names_its_wrong_field(people, job, sent, field):
    problem(client(people["owner"]).post(f"{JOBS}/{job.pk}/share", sent), 400, "invalid_input", field)


@pytest.fixture
def repositories(people) -> None:
    mine = Repository.objects.create(name="mine", url="https://example.invalid/mine", owner=people["owner"])
    Repository.objects.create(name="other", url="https://example.invalid/other", owner=people["root"])
    assign_perm("agents.view_repository", people["shared"], mine)
    assign_perm("agents.view_repository", people["colleague"].groups.get(), mine)


@pytest.mark.parametrize(
    ("who", "names"),
    [
        ("owner", ["mine"]),
        ("shared", ["mine"]),
        ("colleague", ["mine"]),
        ("stranger", []),
        ("staff", []),
        ("root", ["mine", "other"]),
    ],
)
def test_repositories_are_there_for_their_people_only(people, repositories, who, names):
    found = client(people[who]).get("/api/v1/repositories").json()["results"]
    assert [one["name"] for one in found] == names == [one.name for one in visible_repositories(people[who])]


def adder(people: dict[str, User]) -> User:
    people["staff"].user_permissions.add(Permission.objects.get(codename="add_repository"))
    return User.objects.get(pk=people["staff"].pk)


def test_adding_a_repository_needs_the_permission(people):
    sent = {"name": "new", "url": "https://example.invalid/new.git"}
    problem(client(people["owner"]).post("/api/v1/repositories", sent), 403, "not_allowed")
    assert not Repository.objects.exists()
    response = client(adder(people)).post("/api/v1/repositories", sent)
    assert response.status_code == 201
    assert (response.json()["owner"], response.json()["default_branch"]) == ("erin", "main")
    problem(client(adder(people)).post("/api/v1/repositories", sent), 400, "invalid_input", "name")


@pytest.mark.parametrize(
    "url",
    ["http://example.invalid/a", "ssh://git@example.invalid/a", "git@example.invalid:a", "ext::sh -c x", "https://",
     "https://user:pw@example.invalid/a", "https://token@example.invalid/a", "https://example.invalid/a?x=1",
     "https://example.invalid/a b", "https://example.invalid:x/a", "-uhttps://x", "file:///srv/git/a", "/srv/git/a",
     "file://host/a", "../a", "https://[/a", "https://example.invalid/\u202ea", "https://example.invalid/a\n"],
)  # fmt: skip
def test_an_address_that_is_not_plain_https_is_refused(people, settings, url):
    settings.ALLOW_LOCAL_REPOSITORIES = False
    sent = {"name": "new", "url": url}
    problem(client(adder(people)).post("/api/v1/repositories", sent), 400, "invalid_input", "url")


def test_local_paths_are_taken_where_the_settings_allow_them(people, settings):
    settings.ALLOW_LOCAL_REPOSITORIES = True
    one = client(adder(people))
    assert one.post("/api/v1/repositories", {"name": "a", "url": "/srv/git/a"}).status_code == 201
    assert one.post("/api/v1/repositories", {"name": "b", "url": "file:///srv/git/b"}).status_code == 201
    for url in (f"{settings.WORKSPACE_DIR}/a", "file://host/srv/a", "srv/a"):
        problem(one.post("/api/v1/repositories", {"name": "c", "url": url}), 400, "invalid_input", "url")


@pytest.mark.parametrize("branch", ["-x", "a..b", "a b", "a~1", "x.lock", "/a", "a/", "@", "a@{1}", "a\\b", ""])
def test_a_branch_that_git_would_not_take_is_refused(people, branch):
    sent = {"name": "new", "url": "https://example.invalid/a", "default_branch": branch}
    problem(client(adder(people)).post("/api/v1/repositories", sent), 400, "invalid_input", "default_branch")
