"""The pages: what they show of hostile text, to whom, and that looking never decides."""

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from approvals import links
from approvals.models import ApprovalRequest, Vote
from approvals.web import inbox
from approvals.web.preview import OPEN_LINES, parts
from audit.models import Record
from tests.factories import approvals, people
from tools.spec import Call

pytestmark = pytest.mark.django_db

HOSTILE = "git push origin '<script>alert(1)</script>' \u202egnp.exe\u202c rm\u200b -rf\x1b[2J\u00a0x"


def signed_in(user, **options) -> Client:
    client = Client(**options)
    client.force_login(user)
    return client


def page_of(request: ApprovalRequest, client: Client, **data) -> str:
    answer = client.post(request.get_absolute_url(), data) if data else client.get(request.get_absolute_url())
    return answer.content.decode()


def state(request: ApprovalRequest) -> str:
    return ApprovalRequest.objects.values_list("state", flat=True).get(pk=request.pk)


def link_to(request: ApprovalRequest, user) -> str:
    _, url = links.issue(request, recipient_id=user.pk, channel="email", now=timezone.now())
    return "/" + url.split("/", 3)[3]


def test_looking_any_number_of_times_decides_nothing():
    (grace,) = approvals.approvers("grace")
    request = approvals.request()
    address, link = request.get_absolute_url(), link_to(request, grace)
    clients = (Client(), signed_in(grace))
    before = Record.objects.count()
    for client in clients:
        for path in (address, link, f"{address}status/", "/approvals/"):
            for _ in range(5):
                assert client.get(path, follow=True).status_code == 200
                assert client.head(path).status_code in {200, 302}
                client.get(path, {"verdict": "approve", "reason": "x"})
    assert state(request) == "pending"
    assert not Vote.objects.exists()
    assert Record.objects.count() == before


@pytest.mark.parametrize("method", ["put", "patch", "delete", "options"])
def test_other_methods_decide_nothing(method):
    (grace,) = approvals.approvers("grace")
    request = approvals.request()
    client = signed_in(grace)
    for path in (request.get_absolute_url(), link_to(request, grace)):
        assert getattr(client, method)(path, "verdict=approve").status_code == 405
    assert client.post(link_to(request, grace), {"verdict": "approve"}).status_code == 405
    assert state(request) == "pending"


def test_a_post_without_a_csrf_token_decides_nothing():
    (grace,) = approvals.approvers("grace")
    request = approvals.request()
    client = signed_in(grace, enforce_csrf_checks=True)
    assert client.post(request.get_absolute_url(), {"verdict": "approve"}).status_code == 403
    assert state(request) == "pending"
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page_of(request, client)).group(1)
    answer = client.post(request.get_absolute_url(), {"verdict": "approve", "csrfmiddlewaretoken": token})
    assert answer.status_code == 303
    assert state(request) == "approved"


def test_nobody_signed_in_sees_nothing_of_a_request():
    (grace,) = approvals.approvers("grace")
    request = approvals.request()
    for path in (request.get_absolute_url(), link_to(request, grace), f"{request.get_absolute_url()}status/"):
        answer = Client().get(path)
        assert answer.status_code == 302
        assert answer["Location"].startswith("/accounts/login/?next=/")
    answer = Client().post(request.get_absolute_url(), {"verdict": "approve"})
    assert answer.status_code == 302
    assert state(request) == "pending"


def test_nothing_is_stored_and_no_address_leaves():
    (grace,) = approvals.approvers("grace")
    request = approvals.request()
    client = signed_in(grace)
    for path in ("/approvals/", request.get_absolute_url(), f"{request.get_absolute_url()}status/", "/mailbox/"):
        answer = client.get(path)
        assert (answer["Cache-Control"], answer["Referrer-Policy"]) == ("no-store", "same-origin")
    for client_ in (client, Client()):
        answer = client_.get(link_to(request, grace))
        assert (answer["Cache-Control"], answer["Referrer-Policy"]) == ("no-store", "no-referrer")


def test_the_page_says_who_what_where_and_why():
    (grace,) = approvals.approvers("grace")
    request = approvals.request(
        quorum=2,
        context={"agent": "helper", "requester": "ada", "repository": "shop", "goal": "ship", "reason": "All green."},
    )
    page = page_of(request, signed_in(grace))
    for words in (
        "You are <strong>grace</strong>",
        "helper wants to run git.push in shop",
        "High risk",
        "It leaves this server.",
        "0 of 2",
        "git push origin main",
        "untrusted, written by the agent",
        "All green.",
        "git-push",
        "A push leaves this server.",
        "/jobs/1/",
        "in 59 minutes",
        request.digest,
        "Reason for denying",
    ):
        assert words in page, words


def test_hostile_text_is_escaped_and_hidden_characters_are_shown():
    (grace,) = approvals.approvers("grace")
    request = approvals.request(
        command=HOSTILE,
        title=HOSTILE,
        preview=f"--- a\n+++ b\n+{HOSTILE}",
        call=Call(tool="git.push", schema_version=1, arguments={"text": HOSTILE, HOSTILE: [HOSTILE]}, workspace_id="w"),
        context={"agent": HOSTILE, "repository": HOSTILE, "goal": HOSTILE, "reason": HOSTILE},
    )
    page = page_of(request, signed_in(grace))
    assert "<script>alert" not in page
    for letter in "\u202e\u202c\u200b\x1b\u00a0":
        assert letter not in page
        assert f"⟦U+{ord(letter):04X}⟧" in page
    assert 'title="RIGHT-TO-LEFT OVERRIDE"' in page
    assert "5 hidden characters" in page.replace("<strong>", "").replace("</strong>", "")
    inbox = signed_in(grace).get("/approvals/").content.decode()
    assert "<script>alert" not in inbox and "\u202e" not in inbox


def test_letters_that_look_like_others_are_named_on_the_page():
    (grace,) = approvals.approvers("grace")
    page = page_of(approvals.request(command="git push p\u0430ypal"), signed_in(grace))
    assert "CYRILLIC SMALL LETTER A" in page


def test_long_arguments_and_commands_are_complete():
    (grace,) = approvals.approvers("grace")
    long = "\n".join(f"line {number}" for number in range(3000))
    call = Call(tool="files.write", schema_version=1, arguments={"path": "a", "content": long}, workspace_id="w")
    page = page_of(approvals.request(command="printf " + "x" * 20_000 + "END", call=call), signed_in(grace))
    assert "x" * 20_000 + "END" in page
    assert long in page
    assert "3000 lines" in page


def test_a_diff_is_coloured_and_complete():
    (grace,) = approvals.approvers("grace")
    request = approvals.request(preview="diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-old <b>\n+new\n same")
    page = page_of(request, signed_in(grace))
    assert '<span class="diff-del">-old &lt;b&gt;</span>' in page
    assert '<span class="diff-add">+new</span>' in page
    assert '<span class="diff-hunk">@@ -1 +1 @@</span>' in page


def test_approving_on_the_page_shows_who_decided():
    (grace,) = approvals.approvers("grace")
    request = approvals.request()
    client = signed_in(grace)
    answer = client.post(request.get_absolute_url(), {"verdict": "approve"})
    assert (answer.status_code, answer["Location"]) == (303, request.get_absolute_url())
    page = page_of(request, client)
    assert "Approved" in page and "by grace" in page
    assert 'value="approve"' not in page
    assert client.post(request.get_absolute_url(), {"verdict": "deny", "reason": "late"}).status_code == 409
    assert state(request) == "approved"


def test_denying_needs_a_reason_and_what_was_written_stays():
    (grace,) = approvals.approvers("grace")
    request = approvals.request()
    client = signed_in(grace)
    answer = client.post(request.get_absolute_url(), {"verdict": "deny", "reason": " "})
    assert answer.status_code == 400
    assert "Say why." in answer.content.decode()
    answer = client.post(request.get_absolute_url(), {"verdict": "deny", "reason": "x" * 4001})
    assert answer.status_code == 400
    assert "x" * 4001 in answer.content.decode()
    assert client.post(request.get_absolute_url(), {"verdict": "deny", "reason": "red <tests>"}).status_code == 303
    assert "red &lt;tests&gt;" in page_of(request, client)


def test_a_verdict_that_does_not_exist_is_refused():
    (grace,) = approvals.approvers("grace")
    request = approvals.request()
    for verdict in ("", "APPROVE", "answer"):
        assert signed_in(grace).post(request.get_absolute_url(), {"verdict": verdict}).status_code == 400
    assert state(request) == "pending"


def test_the_requester_sees_the_page_and_cannot_decide_superuser_or_not():
    ada = people.user("ada", groups=("approvers",), is_superuser=True)
    request = approvals.request(requester=ada)
    client = signed_in(ada)
    page = page_of(request, client)
    assert "Nobody approves their own request." in page
    assert 'value="approve"' not in page
    assert client.post(request.get_absolute_url(), {"verdict": "approve"}).status_code == 403
    assert state(request) == "pending"


def test_a_forwarded_link_is_judged_by_the_rights_of_whoever_follows_it():
    grace, alan = approvals.approvers("grace", "alan")
    stranger = people.user("stranger")
    request = approvals.request()
    link = link_to(request, grace)
    answer = signed_in(stranger).get(link, follow=True)
    assert answer.status_code == 404
    assert "git push" not in answer.content.decode()
    assert signed_in(stranger).post(request.get_absolute_url(), {"verdict": "approve"}).status_code == 404
    answer = signed_in(alan).get(link, follow=True)
    assert "sent to somebody else" in answer.content.decode()
    assert signed_in(alan).post(request.get_absolute_url(), {"verdict": "approve"}).status_code == 303
    assert Vote.objects.get(request=request).user == alan


def test_a_link_leads_its_recipient_past_the_login_to_the_page():
    (grace,) = approvals.approvers("grace")
    grace.set_password("a-long-password")
    grace.save()
    request = approvals.request()
    client = Client()
    link = link_to(request, grace)
    login = client.get(link)["Location"]
    answer = client.post(login, {"username": "grace", "password": "a-long-password"}, follow=True)
    assert answer.redirect_chain[-1][0] == request.get_absolute_url()
    assert "Exactly this would run" in answer.content.decode()


def test_unknown_and_expired_links_get_a_friendly_page():
    (grace,) = approvals.approvers("grace")
    request = approvals.request(now=timezone.now() - timedelta(hours=2), expires_s=60)
    for client in (Client(), signed_in(grace)):
        over = client.get(link_to(request, grace))
        assert (over.status_code, "time is over" in over.content.decode()) == (404, True)
        unknown = client.get(f"/a/{'x' * 43}/")
        assert (unknown.status_code, "leads nowhere" in unknown.content.decode()) == (404, True)


def test_an_expired_request_says_so_and_takes_no_decision():
    (grace,) = approvals.approvers("grace")
    request = approvals.request(now=timezone.now() - timedelta(hours=2), expires_s=60)
    client = signed_in(grace)
    assert "The time for this request is over." in page_of(request, client)
    assert client.post(request.get_absolute_url(), {"verdict": "approve"}).status_code == 409
    assert state(request) == "pending"


def test_a_question_is_answered_on_its_page():
    ada = people.user("ada")
    question = approvals.question(requester=ada, text="Which <b>branch</b>?\u202e")
    client = signed_in(ada)
    page = page_of(question, client)
    assert "Which &lt;b&gt;branch&lt;/b&gt;?" in page and "⟦U+202E⟧" in page
    assert 'value="approve"' not in page
    assert client.post(question.get_absolute_url(), {"verdict": "answer", "reason": ""}).status_code == 400
    assert client.post(question.get_absolute_url(), {"verdict": "answer", "reason": "main"}).status_code == 303
    assert "Answered" in page_of(question, client)


def test_the_inbox_holds_what_this_user_may_decide_and_the_rest_apart():
    grace, ada = approvals.approvers("grace", "ada")
    late = approvals.request(command="late-command", expires_s=7200)
    soon = approvals.request(requester=people.user("bob"), command="soon-command", expires_s=600)
    page = signed_in(grace).get("/approvals/").content.decode()
    assert page.index("soon-command") < page.index("late-command")
    assert "Waits for others" not in page
    page = signed_in(ada).get("/approvals/").content.decode()  # late is her own
    assert page.index("soon-command") < page.index("Waits for others") < page.index("late-command")
    stranger = signed_in(people.user("stranger")).get("/approvals/").content.decode()
    assert "command" not in stranger
    assert "Nothing waits for you." in stranger
    signed_in(grace).post(soon.get_absolute_url(), {"verdict": "approve"})
    signed_in(grace).post(late.get_absolute_url(), {"verdict": "deny", "reason": "no"})
    page = signed_in(grace).get("/approvals/").content.decode()
    assert "Decided lately" in page and "Nothing waits for you." in page


def test_a_request_that_too_few_may_decide_says_so():
    (grace,) = approvals.approvers("grace")
    assert "Too few people may decide this" in page_of(approvals.request(quorum=2), signed_in(grace))
    assert "Too few" not in page_of(approvals.request(), signed_in(grace))


def test_the_part_that_renews_itself_follows_the_votes():
    grace, alan = approvals.approvers("grace", "alan")
    request = approvals.request(quorum=2)
    path = f"{request.get_absolute_url()}status/"
    signed_in(grace).post(request.get_absolute_url(), {"verdict": "approve"})
    status = signed_in(alan).get(path).content.decode()
    assert "1 of 2" in status and "grace" in status and "<html" not in status
    assert signed_in(people.user("stranger")).get(path).status_code == 404


# ---- who decides ----


def test_the_requester_reads_that_others_decide_and_who_they_are():
    ada, *_ = approvals.approvers("ada", "bea", "cid", "dan", "eve")
    page = page_of(approvals.request(requester=ada, quorum=2), signed_in(ada))
    assert "You asked for this, so others decide: bea, cid, dan and 1 more. 2 of them must approve." in page
    assert "Nobody approves their own request." in page
    assert "so others decide" not in page_of(approvals.request(requester=people.user("zoe")), signed_in(ada))


def test_when_the_only_approver_is_the_requester_the_page_says_what_to_do():
    (ada,) = approvals.approvers("ada")
    request = approvals.request(requester=ada)
    page = page_of(request, signed_in(ada))
    assert "Nobody may decide this: ada is the only member of approvers and asked for it or took part in it." in page
    assert "an administrator adds somebody to the group, it can only expire. Or cancel the job." in page
    assert "/admin/auth/user/" not in page
    root = people.user("root", is_superuser=True, is_staff=True)
    status = signed_in(root).get(f"{request.get_absolute_url()}status/").content.decode()
    assert "Nobody may decide this" in status and 'href="/admin/auth/user/"' in status
    approvals.approvers("grace")
    assert "Nobody may decide this" not in page_of(request, signed_in(ada))


def test_a_group_without_active_members_is_named():
    ada = people.user("ada")
    people.user("gone", groups=("approvers",), is_active=False)
    page = page_of(approvals.request(requester=ada), signed_in(ada))
    assert "Nobody may decide this: the group approvers has no active member." in page


# ---- reading and deciding ----


def test_the_button_that_approves_stays_in_reach_unless_something_is_hidden():
    (grace,) = approvals.approvers("grace")
    client = signed_in(grace)
    page = page_of(approvals.request(), client)
    assert 'class="decide-bar sticks"' in page and 'href="#reason"' in page
    assert page.count('value="approve"') == 1
    page = page_of(approvals.request(command="git push \u200b"), client)
    assert 'class="decide-bar"' in page and page.count('value="approve"') == 1
    assert "decide-bar" not in page_of(approvals.request(requester=grace), client)


def long_diff() -> str:
    body = "\n".join(f"+line {number} <b>" for number in range(OPEN_LINES + 1))
    return (
        "To origin\n  1 commit\n\n"
        "diff --git a/one.py b/one.py\n--- a/one.py\n+++ b/one.py\n@@ -1 +1,2 @@\n-old\n+--- new\n+new\n"
        f"diff --git a/many.txt b/many.txt\nnew file mode 100644\n--- /dev/null\n+++ b/many.txt\n@@ -0,0 +1 @@\n{body}\n"
        "diff --git a/gone b/gone\n--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-was"
    )


def test_a_preview_folds_by_file_and_loses_nothing():
    found = parts(long_diff())
    assert "\n".join(part.text for part in found) == long_diff()
    assert [(part.name, part.added, part.removed, part.folded) for part in found] == [
        ("", 0, 0, False),
        ("one.py", 2, 1, False),
        ("many.txt", OPEN_LINES + 1, 0, True),
        ("gone", 0, 1, False),
    ]
    for text in ("", "\n", "diff --git ", "a\n\ndiff --git x", "diff --git a/x b/x\n\n"):
        assert "\n".join(part.text for part in parts(text)) == text


def test_the_whole_preview_is_on_the_page_folded_or_not():
    (grace,) = approvals.approvers("grace")
    page = page_of(approvals.request(preview=long_diff()), signed_in(grace))
    assert page.count('<details class="file" open>') == 2
    assert page.count('<details class="file">') == 1
    for number in range(OPEN_LINES + 1):
        assert f">+line {number} &lt;b&gt;<" in page
    assert f"+{OPEN_LINES + 1}" in page and "many.txt" in page


def test_a_full_inbox_stays_a_page_of_bounded_size(monkeypatch):
    monkeypatch.setattr(inbox, "MINE", 2)
    (grace,) = approvals.approvers("grace")
    for number in range(4):
        approvals.request(title=f"request {number}", command="x" * 100_000)
    client = signed_in(grace)
    with CaptureQueriesContext(connection) as queries:
        listed = client.get("/approvals/").content.decode()
        client.get("/")
    assert listed.count("request ") == 2
    assert "4" in re.findall(r'class="count">(\d+)<', listed)
    assert "2 more" in listed
    whole = [query["sql"] for query in queries if '"approvals_approvalrequest"."preview"' in query["sql"]]
    assert not whole, "previews are read by the page of one request"


def test_what_it_touches_is_counted_from_the_preview_and_how_it_must_run_is_shown():
    (grace,) = approvals.approvers("grace")
    call = Call(
        tool="git.push", schema_version=1, arguments={}, workspace_id="w", constraints={"network": ["example.org"]}
    )
    page = page_of(approvals.request(preview=long_diff(), call=call), signed_in(grace))
    assert "files <strong>3</strong>" in page and f"lines added <strong>{OPEN_LINES + 3}</strong>" in page
    assert "It runs only so" in page and "example.org" in page
    assert "It runs only so" not in page_of(approvals.request(), signed_in(grace))
