import threading
from itertools import pairwise

from audit.ids import uuid7


def test_ids_are_version_7_and_each_is_greater_than_the_one_before():
    ids = [uuid7() for _ in range(5_000)]
    assert all(one.version == 7 and one.variant == "specified in RFC 4122" for one in ids)
    assert all(before < after for before, after in pairwise(ids))


def test_the_clock_set_back_changes_nothing(monkeypatch):
    before = uuid7()
    monkeypatch.setattr("audit.ids.time.time_ns", lambda: 1_000_000_000)
    assert uuid7() > before


def test_threads_share_no_id():
    made: list[object] = []
    threads = [threading.Thread(target=lambda: made.extend(uuid7() for _ in range(500))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(set(made)) == 4_000
