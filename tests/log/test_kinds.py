"""DESIGN 6.3: what a replay does with the entry of each kind of effect."""

import contextlib
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from skuld_async import (
    Cell,
    Clock,
    Completed,
    DivergenceError,
    Effect,
    Effectful,
    Fresh,
    Handler,
    Installed,
    Kind,
    Log,
    Return,
    Throw,
    computation,
    mark_loop,
    replay,
    resume,
    start,
)

from .shop import (
    Approval,
    Charge,
    Comment,
    Notify,
    Placed,
    World,
    cart,
    client,
    completed,
    events,
    limit,
    names,
    stored,
    suspended,
    total,
)


@computation
async def fills_the_cart() -> Effectful[list[str]]:
    yield cart.put(["book"])
    yield cart.modify(lambda items: [*items, "pen"])
    yield events.emit(Placed(1))
    yield Approval()
    yield events.emit(Placed(2))
    yield Return((yield cart.get()))


async def test_state_put_before_a_suspension_is_visible_after_a_cold_resume_without_a_mark() -> None:
    """6.3 Local effects are performed again on replay, so that state after a cold resume equals state before it."""
    log = suspended(await start(fills_the_cart(), cart.handler([]), events.handler())).log

    outcome = completed(await resume(fills_the_cart(), stored(log), cart.handler([]), events.handler(), answer="yes"))

    assert outcome.value == ["book", "pen"]
    assert outcome.state(cart) == ["book", "pen"]
    assert outcome.output(events) == [Placed(1), Placed(2)]


async def test_state_of_a_suspended_run_is_the_same_before_and_after_a_cold_resume() -> None:
    """6.3 State after a cold resume equals state before it, marks or not."""

    @computation
    async def counts(*, marks: bool) -> Effectful[None]:
        while True:
            if marks:
                yield mark_loop("count")
            yield total.modify(lambda number: number + 1)
            yield cart.modify(lambda items: [*items, "x"])
            yield Comment()

    for marks in (False, True):
        outcome = suspended(await start(counts(marks=marks), total.handler(0), cart.handler([])))
        for turn in range(1, 5):
            again = suspended(
                await resume(counts(marks=marks), stored(outcome.log), total.handler(0), cart.handler([]))
            )
            assert (
                (again.state(total), again.state(cart))
                == (outcome.state(total), outcome.state(cart))
                == (turn, ["x"] * turn)
            )
            answered = await resume(
                counts(marks=marks), stored(again.log), total.handler(0), cart.handler([]), answer="go on"
            )
            outcome = suspended(answered)


async def test_a_local_value_that_comes_out_otherwise_is_a_divergence() -> None:
    """6.3 A local effect's value is checked when it is performed again."""

    @computation
    async def reads() -> Effectful[int]:
        value = yield total.get()
        yield Approval()
        yield Return(value)

    log = suspended(await start(reads(), total.handler(1))).log

    with pytest.raises(DivergenceError) as caught:
        await resume(reads(), log, total.handler(2), answer="yes")
    assert (caught.value.entry, caught.value.expected, caught.value.received) == ("0/1", "1", "2")


async def test_a_local_effect_that_no_longer_raises_is_a_divergence() -> None:
    """6.3 A local effect that raised must raise again; one that did not must not."""
    errors: list[Exception | None] = [None]

    class Check(Effect[None], frozen=True):
        __kind__ = Kind.LOCAL

    def check(effect: Check) -> None:
        if errors[0] is not None:
            raise errors[0]

    @computation
    async def checks() -> Effectful[None]:
        with contextlib.suppress(ValueError):
            yield Check()
        yield Approval()
        yield Return(None)

    good = suspended(await start(checks(), Check.handled_by(check))).log
    errors[0] = ValueError("bad")
    bad = suspended(await start(checks(), Check.handled_by(check))).log

    completed(await resume(checks(), bad, Check.handled_by(check), answer="yes"))
    with pytest.raises(DivergenceError):
        await resume(checks(), good, Check.handled_by(check), answer="yes")
    errors[0] = None
    completed(await resume(checks(), good, Check.handled_by(check), answer="yes"))
    with pytest.raises(DivergenceError):
        await resume(checks(), bad, Check.handled_by(check), answer="yes")


async def test_a_recorded_effect_gives_the_logged_value_under_another_configuration() -> None:
    """6.3 Recorded effects (Reader, Clock.now): replay returns the logged value."""

    @computation
    async def reads() -> Effectful[tuple[int, str, int]]:
        read = yield limit.ask()
        now = yield Clock.now()
        yield Approval()
        yield Return((read, now.isoformat(), (yield limit.ask())))

    log = suspended(await start(reads(), limit.handler(100))).log
    first = completed(await resume(reads(), log, limit.handler(200), answer="yes")).value
    second = completed(await resume(reads(), stored(log), limit.handler(300), answer="yes")).value

    assert first[0] == second[0] == 100
    assert first[1] == second[1]
    assert (first[2], second[2]) == (200, 300)


async def test_the_clock_answers_in_utc_and_is_read_once() -> None:
    """6.3 Clock.now is recorded: the time of the first run, aware, comes back as the same time."""

    @computation
    async def times() -> Effectful[datetime]:
        now = yield Clock.now()
        yield Approval()
        yield Return(now)

    before = datetime.now(UTC)
    log = suspended(await start(times())).log
    after = datetime.now(UTC)
    now = completed(await resume(times(), stored(log), answer="yes")).value

    assert before <= now <= after
    assert now.utcoffset() == UTC.utcoffset(None)


async def test_an_unlogged_reader_has_no_entry_and_is_read_live() -> None:
    """6.3 ``Reader(..., logged=False)``, for clients and secrets: no entry, read live."""

    @computation
    async def reads() -> Effectful[str]:
        first = yield client.ask()
        yield Approval()
        yield Return(f"{first!r} {(yield client.ask())!r}")

    secret, other = frozenset(["secret"]), frozenset(["other"])
    log = suspended(await start(reads(), client.handler(secret))).log
    assert b"secret" not in log.to_json()
    assert names(log) == ["Approval"]

    value = completed(await resume(reads(), stored(log), client.handler(other), answer="yes")).value
    assert value == f"{other!r} {other!r}"


async def test_a_derived_effect_is_a_function_of_seed_and_entry() -> None:
    """6.3 Derived effects (Fresh): a pure function of (run seed, entry id), nothing to store or lose."""

    @computation
    async def identifies() -> Effectful[list[UUID]]:
        one = yield Fresh.uuid()
        two = yield Fresh.uuid()
        yield Approval()
        yield Return([one, two])

    async def made(seed: str) -> list[UUID]:
        log = suspended(await start(identifies(), seed=seed)).log
        assert all(bytes(entry.value) == b"null" for entry in log.entries[:2])
        values = [completed(await resume(identifies(), stored(log), answer="yes")).value for _ in range(2)]
        assert values[0] == values[1]
        return values[0]

    one, again, other = await made("a"), await made("a"), await made("b")
    assert one == again
    assert len({*one, *other}) == 4


async def test_an_external_effect_is_called_once() -> None:
    """6.3 External effects (Port; the default for users' effects) are called once: replay returns the logged value."""

    @computation
    async def charges() -> Effectful[list[str]]:
        first = yield Charge(1)
        yield Notify("x")
        yield Approval()
        yield Return([first, (yield Charge(2))])

    assert Charge.__kind__ is Kind.EXTERNAL
    world = World()
    log = suspended(await start(charges(), *world.handlers)).log
    for _ in range(3):
        log = suspended(await resume(charges(), stored(log), *world.handlers)).log
    outcome = completed(await resume(charges(), stored(log), *world.handlers, answer="yes"))
    outcome = completed(await replay(charges(), stored(outcome.log), *world.handlers))

    assert outcome.value == ["receipt 1", "receipt 2"]
    assert world.calls == ["charge 1", "notify x", "charge 2"]


async def test_a_started_external_effect_is_attempted_again() -> None:
    """6.3 An external effect whose call was not settled when the process died is called again, under its key."""

    @computation
    async def charges() -> Effectful[str]:
        yield Return((yield Charge(1)))

    world = World()
    log = completed(await start(charges(), *world.handlers)).log
    text = log.to_json().replace(b'"value":"receipt 1"', b'"state":"started"').replace(b'"completed"', b'"running"')
    outcome = completed(await resume(charges(), Log.from_json(text), *world.handlers))

    assert outcome.value == "receipt 1"
    assert len(world.keys) == 2
    assert len(set(world.keys)) == 1


async def test_throw_raises_again_on_replay() -> None:
    """6.3 Control effects have rules of their own: a caught Throw is thrown again, and caught again."""

    @computation
    async def throws() -> Effectful[str]:
        caught = "nothing"
        try:
            yield Throw(ValueError("bad"))
        except ValueError as error:
            caught = str(error)
        yield Approval()
        yield Return(caught)

    log = suspended(await start(throws())).log
    assert names(log) == ["Throw", "Approval"]
    assert completed(await resume(throws(), stored(log), answer="yes")).value == "bad"


class Bump(Effect[None], frozen=True):
    """External; its handler changes local state."""


async def test_what_a_handler_did_to_local_state_is_done_again() -> None:
    """5.9, 6.3 When an external effect is answered from the log, its handler's local entries are performed again."""
    calls: list[str] = []

    async def bump(effect: Bump) -> None:
        calls.append("bump")
        await total.put(5)
        await total.modify(lambda number: number + 1)
        await events.emit(Placed(1))

    @computation
    async def bumps() -> Effectful[int]:
        yield Bump()
        yield Approval()
        yield Return((yield total.get()))

    handlers = [total.handler(0), events.handler(), Bump.handled_by(bump)]
    log = suspended(await start(bumps(), *handlers)).log
    outcome = completed(await resume(bumps(), stored(log), *handlers, answer="yes"))

    assert (outcome.value, outcome.state(total), outcome.output(events)) == (6, 6, [Placed(1)])
    assert calls == ["bump"]


async def test_a_handlers_state_is_restored_in_the_scope_where_the_handler_was_installed() -> None:
    """5.9, 6.3 A handler sees its own scope; so its local entries are performed again there, not where it was asked."""

    async def bump(effect: Bump) -> None:
        await total.put(99)

    @computation
    async def inner() -> Effectful[int]:
        yield Bump()
        yield Approval()
        yield Return((yield total.get()))

    @computation
    async def outer() -> Effectful[list[int]]:
        inside = yield inner().handle(total.handler(5))
        yield Return([inside, (yield total.get())])

    handlers = [total.handler(1), Bump.handled_by(bump)]
    log = suspended(await start(outer(), *handlers)).log
    outcome = completed(await resume(outer(), stored(log), *handlers, answer="yes"))

    assert outcome.value == [5, 99]


class Increment(Effect[int], frozen=True):
    """A user's own local effect."""

    __kind__ = Kind.LOCAL
    by: int


class Counter(Handler):
    """Its handler, with a cell."""

    label = "Counter"

    def install(self) -> Installed:
        cell: Cell[int] = Cell("Counter", int, 0)

        def add(effect: Any) -> int:
            cell.value += effect.by
            return cell.value

        async def add_slowly(effect: Any) -> int:
            return add(effect)

        return Installed({Increment: add_slowly if self.slow else add}, [cell])

    def __init__(self, *, slow: bool) -> None:
        self.slow = slow


@pytest.mark.parametrize("slow", [False, True])
async def test_a_users_local_effect_is_replayed_like_state(*, slow: bool) -> None:
    """6.3 Kinds are declared on the effect class: a user's local effect is performed again like State."""

    @computation
    async def counts() -> Effectful[int]:
        yield Increment(2)
        yield Comment()
        yield mark_loop("count")
        yield Increment(3)
        yield Comment()
        yield Return((yield Increment(4)))

    outcome = await start(counts(), Counter(slow=slow))
    while not isinstance(outcome, Completed):
        outcome = await resume(counts(), stored(outcome.log), Counter(slow=slow), answer="go on")

    assert outcome.value == 9
