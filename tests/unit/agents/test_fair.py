"""The order of release, as a pure function."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from agents.engine.fair import Chosen, Lane, Share, Waiting, choose, urgency

NOW = datetime(2026, 1, 1, tzinfo=UTC)
AGES = timedelta(seconds=30)


def lane(tenant: int, count: int, *, priority: int = 5, age_s: float = 1) -> Lane:
    start = (tenant * 10 + priority) * 100_000
    due = NOW - timedelta(seconds=age_s)
    return Lane(
        tenant=tenant,
        priority=priority,
        waiting=[Waiting(id=UUID(int=start + n), due=due + timedelta(microseconds=n)) for n in range(count)],
    )


def pick(lanes: list[Lane], shares: dict[int, Share], room: int, **more: object) -> Chosen:
    state: dict[str, object] = {"clock": 0.0, "tags": {}, **more}
    return choose(lanes, shares, room, now=NOW, ages=AGES, **state)  # type: ignore[arg-type]


def tenant_of(one: UUID) -> int:
    return one.int // 1_000_000


@settings(deadline=None, max_examples=60)
@given(
    weights=st.lists(st.integers(1, 100), min_size=2, max_size=5),
    rooms=st.lists(st.integers(1, 40), min_size=5, max_size=30),
)
def test_no_tenant_is_ever_further_than_one_step_from_its_share(weights: list[int], rooms: list[int]):
    """However the releases are cut: while all wait, what each got by its weight differs by one step's worth at most."""
    shares = {n + 1: Share(weight=weight) for n, weight in enumerate(weights)}
    waiting = {tenant: lane(tenant, 1300).waiting for tenant in shares}
    tags: dict[str, float] = {}
    got, clock = dict.fromkeys(shares, 0), 0.0
    for room in rooms:
        lanes = [Lane(tenant=tenant, priority=5, waiting=waiting[tenant][got[tenant] :][:room]) for tenant in shares]
        chosen = pick(lanes, shares, room, clock=clock, tags=tags)
        clock, tags = chosen.clock, chosen.tags
        for one in chosen.ids:
            got[tenant_of(one)] += 1
    for a in shares:
        for b in shares:
            lead = got[a] / shares[a].weight - got[b] / shares[b].weight
            assert lead <= 1 / shares[a].weight + 1e-6


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 9), st.integers(1, 30)), min_size=1, max_size=12),
    room=st.integers(1, 100),
)
def test_nobody_is_released_twice_and_no_room_is_wasted(counts: list[tuple[int, int, int]], room: int):
    lanes = list({(tenant, priority): lane(tenant, n, priority=priority) for tenant, priority, n in counts}.values())
    chosen = pick(lanes, {}, room)
    total = sum(len(one.waiting) for one in lanes)
    assert len(chosen.ids) == len(set(chosen.ids)) == min(room, total)
    assert chosen.more is (total > room)


def test_priority_before_tenant_and_age_makes_up_for_it():
    first, last = lane(1, 2, priority=0), lane(2, 2, priority=9)
    assert [tenant_of(one) for one in pick([last, first], {}, 4).ids] == [1, 1, 2, 2]
    old = lane(2, 2, priority=9, age_s=270)
    assert urgency(9, old.waiting[0].due, NOW, AGES) == 0
    assert sorted(tenant_of(one) for one in pick([old, first], {}, 2).ids) == [1, 2]


def test_a_bound_holds_and_says_so():
    chosen = pick([lane(1, 5), lane(2, 5)], {1: Share(weight=100, free=2), 2: Share()}, 20)
    assert [tenant_of(one) for one in chosen.ids].count(1) == 2
    assert (len(chosen.ids), chosen.more, chosen.blocked) == (7, False, True)
