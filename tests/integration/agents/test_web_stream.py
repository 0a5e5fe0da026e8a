"""The stream over a real uvicorn: rows are the truth, Redis only wakes, and nothing stays behind."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import httpx2
import pytest
from django.db import connection
from guardian.shortcuts import assign_perm

from agents import feed
from agents.models import Job
from agents.web.stream import STREAMS_OF_ONE
from tests.factories.people import user
from tests.integration.agents import web

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def server(django_db_setup, django_db_blocker) -> Iterator[web.Server]:
    with django_db_blocker.unblock(), web.served() as running:
        yield running


@contextmanager
def stream(server: web.Server, job: Job, name: str = "ada", after: int | str = 0) -> Iterator[Iterator[dict]]:
    """The events of a job's stream, as dicts of their fields."""
    with (
        server.client(user(name)) as client,
        client.stream("GET", f"/jobs/{job.pk}/stream?after={after}") as response,
    ):
        assert response.status_code == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        assert "no-store" in response.headers["Cache-Control"]
        yield events(response)


def events(response: httpx2.Response) -> Iterator[dict]:
    event: dict = {}
    for text in response.iter_lines():
        if text:
            name, _, value = text.partition(": ")
            event[name] = json.loads(value) if name == "data" else value
        elif "event" in event:
            yield event
            event = {}


def numbers(of: Iterator[dict]) -> list[int]:
    """The numbers of all lines until the end."""
    found = []
    for event in of:
        if event["event"] == "end":
            return found
        assert int(event["id"]) == event["data"]["seq"]
        found.append(event["data"]["seq"])
    raise AssertionError("the stream broke off")


def test_what_stood_before_and_what_comes_later_arrive_once_and_in_order(server):
    job = web.job(user("ada"))
    step = web.step(job, state="running")
    web.write(job, *[web.output(step, f"{n}\n") for n in range(700)])  # more than one batch
    with stream(server, job) as coming:
        first = next(coming)
        assert first["data"]["text"] == "0\n"
        assert (first["data"]["step"], first["data"]["tool"], first["data"]["stream"]) == ("1.1", "test.note", "stdout")
        for n in range(700, 720):
            web.write(job, web.output(step, f"{n}\n"))
        web.end(job)
        assert numbers(coming) == list(range(2, 722))


def test_a_reader_that_comes_back_goes_on_behind_its_cursor(server):
    job = web.job(user("ada"))
    step = web.step(job)
    web.write(job, *[web.output(step, f"{n}\n") for n in range(5)])
    web.end(job)
    with stream(server, job, after=3) as coming:
        assert numbers(coming) == [4, 5, 6]
    with stream(server, job, after=6) as coming:
        assert numbers(coming) == []
    with stream(server, job, after=99) as coming:
        assert numbers(coming) == []


def test_hostile_text_is_one_json_string_of_one_line(server):
    job = web.job(user("ada"))
    text = f"a\n\nevent: end\ndata: 1\r\n\u2028{web.HOSTILE}\x00"[:-1]
    web.write(job, web.output(web.step(job), text))
    web.end(job)
    with stream(server, job) as coming:
        line = next(coming)
        assert line["event"] == "line"
        assert line["data"]["text"] == text.replace("\r\n", "\n").replace("\u2028", "⟦U+2028⟧").replace(
            "\u202e", "⟦U+202E⟧"
        )
        assert numbers(coming) == [2]


def test_the_stream_is_for_who_may_see_the_job(server):
    job = web.job(user("ada"), state="succeeded")
    path = f"/jobs/{job.pk}/stream"
    with server.client() as nobody:
        assert nobody.get(path).status_code == 401
        assert nobody.get(f"/jobs/{job.pk}/log.txt").status_code == 401
    with server.client(user("eve")) as eve:
        assert eve.get(path).status_code == 404
        assert eve.get(f"/jobs/{job.pk}/log.txt").status_code == 404
        assert eve.get(f"/jobs/{job.pk}/").status_code == 404


def test_who_a_job_was_shared_with_gets_its_stream():
    job = web.job(user("ada"), state="succeeded")
    assign_perm("agents.view_job", user("bob"), job)
    # a server of its own: between tests content types get new numbers, which a running server remembers
    with web.served() as fresh, stream(fresh, job, "bob") as coming:
        assert numbers(coming) == []


@pytest.mark.parametrize("after", ["x", "-1", "1e3", "²", "9" * 30])
def test_a_cursor_that_is_no_number_is_refused(server, after):
    job = web.job(user("ada"))
    with server.client(user("ada")) as client:
        assert client.get(f"/jobs/{job.pk}/stream", params={"after": after}).status_code == 400


def subscribers(job: Job) -> int:
    return feed.client().pubsub_numsub(feed.channel(job.pk))[0][1]


def test_when_the_reader_goes_away_nothing_stays_behind(server):
    job = web.job(user("ada"))
    with stream(server, job):
        web.until(lambda: subscribers(job) == 1)
    web.until(lambda: subscribers(job) == 0)


def test_many_readers_hold_no_connection_each(server):
    job = web.job(user("ada"))
    step = web.step(job, state="running")
    opened = [stream(server, job) for _ in range(20)]
    streams = [one.__enter__() for one in opened]
    try:
        web.until(lambda: subscribers(job) == 20)
        web.write(job, web.output(step, "hello\n"))
        assert [next(one)["data"]["text"] for one in streams] == ["hello\n"] * 20
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            assert cursor.fetchone()[0] <= 6, "four readers, and what is about to close"
    finally:
        for one in opened:
            one.__exit__(None, None, None)


def test_without_redis_the_rows_still_arrive():
    job = web.job(user("ada"))
    step = web.step(job, state="running")
    with web.served(REDIS_URL="redis://127.0.0.1:1/0") as alone, stream(alone, job) as coming:
        web.write(job, web.output(step, "slowly\n"))
        assert next(coming)["data"]["text"] == "slowly\n"
        web.end(job)
        assert numbers(coming) == [2]


def test_the_raw_log_is_plain_text_that_no_browser_guesses_about(server):
    job = web.job(user("ada"))
    step = web.step(job)
    web.write(
        job, web.output(step, "one, "), web.output(step, f"two {web.HOSTILE}"), web.output(step, "bad\n", "stderr")
    )
    web.end(job)
    with server.client(user("ada")) as client:
        response = client.get(f"/jobs/{job.pk}/log.txt")
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    lines = [
        line.partition(" ")[2] if not line.startswith("--- ") else line[4:].split(" ", 1)[1]
        for line in response.text.splitlines()
    ]
    assert "1.1 test.note stdout" in lines
    assert "one, two <script>alert('x')</script><img src=x onerror=alert(1)>⟦U+202E⟧gnp" in response.text
    assert response.text.endswith("job succeeded\n")


def test_slow_readers_of_the_raw_log_hold_no_connection():
    job = web.job(user("ada"))
    step = web.step(job)
    for _ in range(20):  # 20 MB: far more than sockets buffer
        web.write(job, *[web.output(step, "x" * 1023 + "\n") for _ in range(1000)])
    web.end(job)
    with web.served(DATABASE_POOL_MAX="2") as server, ExitStack() as slow:
        clients = [slow.enter_context(server.client(user("ada"))) for _ in range(6)]

        def begin(client: httpx2.Client) -> bytes:
            """Opens the log; its reader takes no more than the first part."""
            return next(slow.enter_context(client.stream("GET", f"/jobs/{job.pk}/log.txt")).iter_raw())

        with ThreadPoolExecutor(len(clients)) as together:
            assert all(together.map(begin, clients))
        with server.client(user("ada")) as client:
            assert client.get("/jobs/").status_code == 200


def test_one_reader_cannot_take_the_streams_of_all(server):
    job = web.job(user("greedy"))
    opened = [stream(server, job, "greedy") for _ in range(STREAMS_OF_ONE)]
    for one in opened:
        one.__enter__()
    try:
        web.until(lambda: subscribers(job) == STREAMS_OF_ONE)
        with stream(server, job, "greedy") as coming:
            assert next(coming)["event"] == "busy"
        others = web.job(user("ada"), state="succeeded")
        with stream(server, others) as coming:
            assert numbers(coming) == []
    finally:
        for one in opened:
            one.__exit__(None, None, None)
