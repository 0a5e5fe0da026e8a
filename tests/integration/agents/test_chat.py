"""Conversations on real rows, with the real engine and a scripted model over HTTP; only Celery is played."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone

from agents import cleaning
from agents.chat import links, selectors, tools, turns
from agents.engine.cancel import cancel_job
from agents.engine.control.fork import fork_job
from agents.engine.control.retry import retry_job
from agents.errors import IdempotencyConflict, InvalidInput, InvalidPlan, NotAllowed, NotNow, NotVisible, TurnRunning
from agents.llm import conversation
from agents.models import Conversation, FeedEntry, Job, LlmCall, Step
from agents.provenance.origins import _said
from agents.states import JobState
from agents.submit import submit
from approvals.decisions import decide
from approvals.models import ApprovalRequest
from audit.actor import Actor
from audit.models import Record
from tests.factories import jobs, scripted_server
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents import web
from tests.integration.agents.driving import run_all, states, step_of
from tools import workspaces

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]

SCENARIO = """
rules:
  - when: {schema: [title], goal: "no title"}
    fault: status500
  - when: {schema: [title]}
    answer: {title: '"Payments\u202e and their tests".'}
  - when: {schema: [summary], goal: "no summary"}
    fault: auth
  - when: {schema: [summary]}
    answer: {summary: "Ada wants small steps, and chose the branch pay-2."}
  - when: {message: "^offer", last: {tool: job.propose}}
    say: "There it is."
  - when: {message: "^offer"}
    calls: [{tool: job.propose, arguments: {goal: "Make the tests pass.", agent: helper}}]
  - when: {message: "^ask", last: {tool: human.ask, text: "blue"}}
    say: "So be it: ${last.text}"
  - when: {message: "^ask"}
    calls: [{tool: human.ask, arguments: {question: "Which colour?"}}]
  - when: {message: "^write", last: {tool: files.write, status: OK}}
    say: "Written."
  - when: {message: "^write"}
    calls: [{tool: files.write, arguments: {path: note.txt, content: "kept"}}]
  - when: {message: "^once", last: {tool: test.once}}
    say: "Done once."
  - when: {message: "^once"}
    calls: [{tool: test.once, arguments: {text: x}, reason: "You asked."}]
  - when: {message: "^break"}
    fault: auth
  - when: {message: "^goal"}
    calls: [{tool: human.ask, arguments: {question: "Which branch?"}}]
  - when: {}
    say: "You said ${message}."
"""


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    scenario = tmp_path_factory.mktemp("chat") / "chat.yaml"
    scenario.write_text(SCENARIO)
    with scripted_server.running("--scenario", str(scenario)) as found:
        yield found


@pytest.fixture(autouse=True)
def world(settings, endpoint):
    settings.LLM_BASE_URL, settings.LLM_API_KEY, settings.LLM_MODEL = endpoint.base_url, "", "scripted-demo"
    settings.LLM_TIMEOUT_S = 20
    user("grace", groups=("approvers",))
    publish(("test.once", "ask"), ("*", "allow"))
    jobs.agent("helper", tools=("test.*", "files.*"))


def begin(message: str = "hello there", **more: object) -> Job:
    return turns.begin({"message": message, "agent": "helper", **more}, user=user("ada"), now=timezone.now())[0]


def say(talk: Conversation, message: str, **more: object) -> Job:
    return turns.say(talk.pk, {"message": message}, user=user("ada"), now=timezone.now(), **more)[0]


def talk_of(job: Job) -> Conversation:
    return Conversation.objects.get(pk=job.conversation_id)


def told(job: Job) -> list[tuple[str, str]]:
    job = Job.objects.select_related("agent", "repository", "owner", "conversation").get(pk=job.pk)
    return [(one["role"], str(one["content"])) for one in conversation.build(job).messages]


def test_a_turn_is_a_job_whose_words_are_streamed_and_whose_answer_needs_no_function():
    job = run_all(begin())
    assert (job.kind, job.state, job.outcome) == ("chat", JobState.SUCCEEDED, "You said hello there.")
    assert states(job) == {"title": "succeeded", "think-1": "succeeded"}
    tokens = FeedEntry.objects.filter(job=job, kind="token", step=step_of(job, "think-1")).order_by("seq")
    assert "".join(one.data["text"] for one in tokens) == "You said hello there."
    assert set(LlmCall.objects.filter(job=job).values_list("purpose", flat=True)) == {"llm.think", "llm.title"}
    assert job.tokens_used == sum(one.prompt_tokens + one.completion_tokens for one in job.llm_calls.all())
    talk = talk_of(job)
    assert (talk.title, talk.titled_by) == ("Payments and their tests", "model")
    submitted = Record.objects.get(event="job.submitted", target_id=str(job.pk))
    assert str(talk.pk) in submitted.body
    decided = Record.objects.filter(event="step.decided", target_id=str(step_of(job, "think-1").pk))
    assert decided.exists()


def test_the_next_turn_knows_what_was_said_and_done_and_what_became_of_jobs():
    first = run_all(begin("once please"))
    request = ApprovalRequest.objects.get(parent_id=str(first.pk))
    assert first.state == JobState.WAITING and request.title.startswith("helper wants")
    _approve(request)
    first = run_all(first)
    assert first.outcome == "Done once."
    talk = talk_of(first)
    started, _ = turns.start_job(talk.pk, {"goal": "goal of mine"}, user=user("ada"), now=timezone.now())
    run_all(started)
    second = run_all(say(talk, "and now?"))
    assert second.outcome == "You said and now?."
    roles = told(second)
    expected = ["system", "user", "assistant", "tool", "assistant", "user", "user", "assistant"]
    assert [role for role, _ in roles] == expected
    assert roles[1][1] == "once please" and roles[3][1].startswith("OK") and roles[4][1] == "Done once."
    assert roles[5][1].startswith("[From the server]") and "is waiting" in roles[5][1] and "goal of mine" in roles[5][1]
    assert "call no function" in roles[0][1] and "call `finish`" not in roles[0][1]


def _approve(request: ApprovalRequest) -> None:
    decide(request_id=request.pk, by=user("grace"), verdict="approve", reason="", channel="page", now=timezone.now())


def test_one_turn_at_a_time_and_by_its_owner_alone():
    job = begin()
    talk = talk_of(job)
    with pytest.raises(TurnRunning):
        say(talk, "hurry")
    with pytest.raises(IntegrityError), transaction.atomic():
        Job.objects.create(kind="chat", goal="x", owner=job.owner, conversation=talk, created_at=timezone.now())
    with pytest.raises(IntegrityError), transaction.atomic():
        Job.objects.create(kind="chat", goal="x", owner=job.owner, created_at=timezone.now())
    run_all(job)
    with pytest.raises(NotVisible):
        turns.say(talk.pk, {"message": "me too"}, user=user("eve"), now=timezone.now())
    for wrong in ("", "  ", "a\x00b"):
        with pytest.raises(InvalidInput):
            say(talk, wrong)
    talk.agent.enabled = False
    talk.agent.save()
    with pytest.raises(NotNow, match="switched off"):
        say(talk, "anybody?")
    assert talk.jobs.count() == 1


def test_the_same_key_says_it_once():
    job, new = turns.begin({"message": "hi", "agent": "helper"}, user=user("ada"), now=timezone.now(), key="chat-key-1")
    again, second = turns.begin(
        {"message": "hi", "agent": "helper"}, user=user("ada"), now=timezone.now(), key="chat-key-1"
    )
    assert (new, second, again.pk) == (True, False, job.pk)
    with pytest.raises(IdempotencyConflict):
        turns.begin({"message": "ho", "agent": "helper"}, user=user("ada"), now=timezone.now(), key="chat-key-1")
    assert Conversation.objects.count() == 1


def test_a_title_that_fails_costs_no_answer_and_a_person_s_own_stays():
    job = run_all(begin("no title for this"))
    while (step := step_of(job, "title")).state == "queued":  # its retries wait for their time
        Step.objects.filter(pk=step.pk).update(not_before=None)
        run_all(job)
    assert states(job) == {"title": "failed", "think-1": "succeeded"}
    assert job.outcome == "You said no title for this."
    job.refresh_from_db()
    assert job.state == JobState.SUCCEEDED
    talk = talk_of(job)
    assert (talk.title, talk.titled_by) == ("no title for this", "words")
    own = run_all(begin("hello", title=" Mine "))
    assert (talk_of(own).title, "title" in states(own)) == ("Mine", False)


def filled(talk: Conversation, count: int, *, words: int = 2000) -> None:
    """Turns as they would stand there."""
    for number in range(count):
        at = timezone.now()
        outcome = f"answer {number} " + "long " * words
        given = {"created_at": at, "started_at": at, "finished_at": at, "conversation": talk, "agent": talk.agent}
        web.job(user("ada"), state="succeeded", kind="chat", goal=f"part {number}", outcome=outcome, **given)


def test_where_there_is_no_summary_the_newest_turns_are_told_as_far_as_there_is_room():
    talk = talk_of(run_all(begin("no summary of this")))
    filled(talk, 20, words=1500)
    job = run_all(say(talk, "go on"))
    assert states(job) == {"summary": "failed", "think-1": "succeeded"}
    assert job.state == JobState.SUCCEEDED
    said = [text for role, text in told(job) if role == "user"]
    assert said[0] == "[From the server] Older messages are left out here."
    assert said[-2:] == ["part 19", "go on"] and "part 2" not in said
    assert sum(len(text) for _, text in told(job)) < 140_000


def test_what_was_said_long_ago_is_told_in_short_and_stays_in_its_rows():
    talk = talk_of(run_all(begin("the branch is pay-2")))
    filled(talk, 6)
    job = run_all(say(talk, "go on"))
    assert states(job) == {"summary": "succeeded", "think-1": "succeeded"}
    talk.refresh_from_db()
    assert talk.summary.startswith("Ada wants small steps")
    said = [text for role, text in told(job) if role == "user"]
    assert said[0].startswith("[From the server] What was said before") and "pay-2" in said[0]
    assert said[1:] == ["part 2", "part 3", "part 4", "part 5", "go on"]
    assert talk.jobs.filter(goal="part 0").get().outcome.startswith("answer 0")
    assert "summary" not in states(run_all(say(talk, "and on")))


def test_an_offer_starts_nothing_and_the_person_starts_it_once():
    job = run_all(begin("offer me something"))
    assert job.outcome == "There it is." and Job.objects.count() == 1
    talk = talk_of(job)
    client = web.signed_in(user("ada"))
    page = client.get(talk.get_absolute_url()).content.decode()
    assert "Start this job" in page and "Make the tests pass." in page
    step = Step.objects.get(job=job, tool="job.propose")
    form = {"offer": str(step.pk), "goal": "goal: make them pass", "agent": "helper"}
    for _ in range(2):
        assert client.post(f"{talk.get_absolute_url()}start", form).status_code == 302
    started = Job.objects.get(conversation=talk, kind="goal")
    assert (started.goal, started.owner, started.agent.name) == ("goal: make them pass", user("ada"), "helper")
    assert started.trigger == ""  # the person's own words
    as_offered = {"goal": "Make the tests\n pass."}
    unread, _ = turns.start_job(talk.pk, as_offered, user=user("ada"), now=timezone.now())
    assert unread.trigger == "offer:chat"
    assert unread.goal not in _said(unread) and started.goal in _said(started)  # whose words count as a person's
    stranger = web.signed_in(user("eve"))
    assert stranger.post(f"{talk.get_absolute_url()}start", form).status_code == 404
    assert stranger.get(talk.get_absolute_url()).status_code == 404


def test_a_job_asks_in_the_chat_and_goes_on_with_the_answer_given_there():
    talk = talk_of(run_all(begin()))
    client = web.signed_in(user("ada"))
    assert client.post(f"{talk.get_absolute_url()}say", {"message": "goal: tidy", "as": "job"}).status_code == 302
    started = run_all(Job.objects.get(conversation=talk, kind="goal"))
    turn = run_all(say(talk, "ask me"))
    assert (started.state, turn.state) == (JobState.WAITING, JobState.WAITING)
    page = client.get(talk.get_absolute_url()).content.decode()
    assert "Which branch?" in page and "Which colour?" in page
    asked = ApprovalRequest.objects.get(parent_id=str(turn.pk))
    form = {"request": str(asked.pk), "answer": "blue"}
    assert web.signed_in(user("eve")).post(f"{talk.get_absolute_url()}answer", form).status_code == 404
    assert client.post(f"{talk.get_absolute_url()}answer", form).status_code == 302
    assert run_all(turn).outcome.startswith("So be it")
    asked = ApprovalRequest.objects.get(parent_id=str(started.pk))
    client.post(f"{talk.get_absolute_url()}answer", {"request": str(asked.pk), "answer": "main"})
    assert states(run_all(started))["1.1"] == "succeeded"


def test_what_an_earlier_turn_wrote_is_there_and_is_not_cleaned_away(settings):
    first = run_all(begin("write it"))
    second = run_all(say(talk_of(first), "write it again"))
    assert second.workspace_of == first.pk and second.outcome == "Written."
    settings.WORKSPACE_KEEP_HOURS = 1
    old = timezone.now() - timedelta(hours=3)
    Job.objects.filter(pk=first.pk).update(finished_at=old)
    cleaning.clean_workspaces(now=timezone.now())
    assert workspaces.holds(str(first.pk))
    Job.objects.filter(pk=second.pk).update(finished_at=old)
    cleaning.clean_workspaces(now=timezone.now())
    assert workspaces.holds(str(first.pk)) is None
    third = say(talk_of(first), "write once more")
    assert third.workspace_of is None
    assert run_all(third).outcome == "Written."


def test_the_newest_turn_may_be_retried_an_older_one_may_not_and_none_is_forked():
    failed = run_all(begin("break please"))
    assert failed.state == JobState.FAILED
    again = retry_job(failed.pk, by=Actor.user(user("ada").pk), now=timezone.now())
    assert again.state == JobState.RUNNING
    run_all(again)
    talk = talk_of(failed)
    run_all(say(talk, "hello"))
    with pytest.raises(NotNow, match="gone on"):
        retry_job(failed.pk, by=Actor.user(user("ada").pk), now=timezone.now())
    with pytest.raises(NotNow, match="ask again"):
        fork_job(failed.pk, at="think-1", by=user("ada"), now=timezone.now())
    assert told(run_all(say(talk, "x")))[2][1].startswith("(No answer: this turn failed.")


def test_conversations_are_found_by_what_was_said_by_those_who_may_see_them():
    talk = talk_of(run_all(begin("the rollback of the payment service")))
    other = talk_of(run_all(begin("about lunch")))
    mine = selectors.visible_conversations(user("ada"))
    assert list(selectors.search(mine, "payme rollb")) == [talk]
    assert list(selectors.search(mine, "said lunch")) == [other]  # its answer
    assert set(selectors.search(mine, "payments and their")) == {talk, other}  # their title
    assert not selectors.search(mine, "nothing !&|():* like ' this").exists()
    assert not selectors.search(selectors.visible_conversations(user("eve")), "payment").exists()
    html = web.signed_in(user("ada")).get("/chat/?q=rollback").content.decode()
    assert "the rollback of the payment service" in html and "about lunch" not in html


def test_a_link_shows_what_was_said_so_far_until_it_is_revoked():
    talk = talk_of(run_all(begin("the first thing")))
    link, address = links.make(talk, {"days": 1}, by=user("ada"), now=timezone.now())
    _, all_of_it = links.make(talk, {"shows": "later", "days": None}, by=user("ada"), now=timezone.now())
    run_all(say(talk, "the second thing"))
    path, later = (one.partition("/chat/")[2] for one in (address, all_of_it))
    client = web.signed_in(user("eve"))
    shown = client.get(f"/chat/{path}")
    html = shown.content.decode()
    assert "the first thing" in html and "the second thing" not in html and "/jobs/" not in html.split("<main")[1]
    assert shown["Referrer-Policy"] == "no-referrer" and "no-store" in shown["Cache-Control"]
    assert "the second thing" in client.get(f"/chat/{later}").content.decode()
    assert Client().get(f"/chat/{path}").status_code == 302  # to sign in
    link.refresh_from_db()
    assert link.opened == 1 and path.split("/")[1] not in (link.sha256, str(link.pk))
    with pytest.raises(NotVisible):
        links.open_link(path.split("/")[1], by=user("eve"), now=timezone.now() + timedelta(days=2))
    with pytest.raises(NotAllowed):
        links.revoke(talk, link.pk, by=user("eve"), now=timezone.now())
    links.revoke(talk, link.pk, by=user("ada"), now=timezone.now())
    assert client.get(f"/chat/{path}").status_code == 404
    assert client.get("/chat/shared/nothing/").status_code == 404
    events = Record.objects.filter(target_id=str(talk.pk)).order_by("pk").values_list("event", flat=True)
    assert sorted(events) == ["chat.read", "chat.read", "chat.shared", "chat.shared", "chat.unshared"]


def test_a_turn_can_be_stopped_and_the_conversation_goes_on():
    job = begin()
    talk = talk_of(job)
    assert web.signed_in(user("ada")).post(f"{talk.get_absolute_url()}stop").status_code == 302
    run_all(job)
    job.refresh_from_db()
    assert job.state == JobState.CANCELLED
    assert run_all(say(talk, "again")).outcome == "You said again."
    cancel_job(job.pk, by=Actor.user(user("ada").pk), now=timezone.now())


def test_its_own_tools_are_the_engine_s_alone():
    for name in (tools.TITLE, tools.SUMMARISE, tools.PROPOSE):
        with pytest.raises(InvalidPlan):
            submit({"steps": [{"key": "a", "tool": name}]}, user=user("ada"), now=timezone.now())
    goal = jobs.goal_job(agent=jobs.agent("helper", tools=("*",)))
    goal = Job.objects.select_related("agent", "repository", "owner").get(pk=goal.pk)
    assert tools.PROPOSE not in {tool.name for tool in conversation.build(goal).tools}
