"""DESIGN 6.4: requests are matched in order, by sig and canonical data; what differs is a divergence."""

import contextlib
import inspect
import json
from typing import Any

import pytest
from msgspec import UNSET

from skuld_async import (
    Computation,
    DivergenceError,
    Effect,
    Effectful,
    Log,
    Outcome,
    Return,
    State,
    Throw,
    UnencodableError,
    computation,
    mark_loop,
    replay,
    rerun,
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
    completed,
    events,
    failed,
    ids,
    left,
    limit,
    stored,
    suspended,
    total,
)


def handlers(world: World) -> list[Any]:
    return [*world.handlers, cart.handler([]), total.handler(0), limit.handler(1), events.handler()]


@computation(name="job")
async def before(number: int = 1) -> Effectful[str]:
    yield total.put(number)
    yield Charge(1)
    yield Charge(2)
    yield Notify("two")
    yield total.get()
    yield events.emit(Placed(number))
    yield Approval(number)
    yield Return("done")


async def refused(comp: Computation[Any], log: Log, **options: Any) -> DivergenceError:
    """The divergence that *comp* meets; nothing was performed, and the log is as it was."""
    world, stood = World(), log.to_json()
    with pytest.raises(DivergenceError) as caught:
        await resume(comp, log, *handlers(world), **options)
    assert world.calls == []
    assert log.to_json() == stood
    assert left(caught.value).to_json() == stood
    return caught.value


async def parked() -> Log:
    return stored(suspended(await start(before(), *handlers(World()))).log)


async def test_the_same_requests_match() -> None:
    """6.4 Matching is in order, by sig and canonical data."""
    world = World()
    outcome = completed(await resume(before(), await parked(), *handlers(world), answer="yes"))

    assert outcome.value == "done"
    assert world.calls == []


async def test_other_data_is_a_divergence() -> None:
    """6.4 A mismatch is a `DivergenceError`; nothing is performed, the log stays as it was."""

    @computation(name="job")
    async def after(number: int = 1) -> Effectful[str]:
        yield total.put(number)
        yield Charge(1)
        yield Charge(99)
        yield Return("done")

    error = await refused(after(), await parked())

    assert error.entry == "0/3"
    assert error.differences == ("$.amount: 2 -> 99",)
    assert error.expected == 'Charge {"amount":2}'
    assert error.received == 'Charge {"amount":99}'


async def test_another_effect_is_a_divergence_even_if_it_matches_further_on() -> None:
    """6.4 A missing entry is a divergence, whether it was removed or moved."""

    @computation(name="job")
    async def after(number: int = 1) -> Effectful[str]:
        yield total.put(number)
        yield Notify("two")
        yield Return("done")

    error = await refused(after(), await parked())

    assert error.entry == "0/2"
    assert "Charge was removed from the computation" in error.cause


async def test_an_effect_that_the_log_does_not_hold_is_never_performed_silently() -> None:
    """6.4 A mismatching effect is never performed silently: external, local, recorded, a question, a mark, a Throw."""
    new: list[Effect[Any]] = [
        Charge(77),
        total.put(77),
        cart.modify(lambda items: items),
        limit.ask(),
        events.emit(Placed(77)),
        Comment("new"),
        mark_loop("new"),
        Throw(ValueError("new")),
    ]
    for effect in new:

        @computation(name="job")
        async def after(number: int = 1) -> Effectful[str]:
            yield total.put(number)
            yield Charge(1)
            with contextlib.suppress(Exception):  # a body that swallows all errors
                yield effect  # noqa: B023 - run in this turn of the loop
            yield Charge(2)
            yield Return("done")

        error = await refused(after(), await parked())
        assert error.entry == "0/3"
        assert ("was added to the computation" in error.cause) == (effect != Charge(77))


async def test_a_local_effect_is_not_taken_for_another_that_has_the_same_data_and_value() -> None:
    """6.4 A local effect is matched by sig, too: reading another state is a divergence even if both hold the same."""
    count = State("count", int)

    @computation(name="reads")
    async def reads(*, other: bool = False) -> Effectful[int]:
        value = yield total.get()
        yield Approval()
        yield Return(value)

    @computation(name="reads")
    async def reads_another(*, other: bool = False) -> Effectful[int]:
        value = yield count.get()
        yield Approval()
        yield Return(value)

    scope = [total.handler(0), count.handler(0)]
    log = suspended(await start(reads(), *scope)).log
    with pytest.raises(DivergenceError) as caught:
        await resume(reads_another(), log, *scope, answer="yes")
    assert caught.value.what == "State[count].get is requested where the log holds State[total].get"


async def test_an_unconsumed_tail_is_a_divergence() -> None:
    """6.4 An **unconsumed tail** is a divergence, whether the body returns or raises."""

    @computation(name="job")
    async def returns(number: int = 1) -> Effectful[str]:
        yield total.put(number)
        yield Charge(1)
        yield Return("done")

    @computation(name="job")
    async def raises(number: int = 1) -> Effectful[str]:
        yield total.put(number)
        yield Charge(1)
        raise ValueError("no")

    for after, ended in ((returns, "returned"), (raises, "raised")):
        error = await refused(after(), await parked())
        assert error.entry == "0/3"
        assert f"the computation {ended}, but the log goes on with Charge (entries left: 5)" in error.what


async def test_a_finished_run_that_asks_for_more_is_a_divergence() -> None:
    """6.4 A missing entry is a divergence also behind the last one of a run that has ended."""

    @computation(name="short")
    async def short(*, longer: bool) -> Effectful[str]:
        yield Charge(1)
        yield Return("done")

    @computation(name="short")
    async def long(*, longer: bool) -> Effectful[str]:
        yield Charge(1)
        yield Charge(2)
        yield Return("done")

    world = World()
    log = completed(await start(short(longer=True), *world.handlers)).log
    for verb in (resume, replay):
        with pytest.raises(DivergenceError) as caught:
            await verb(long(longer=True), log, *world.handlers)
        assert "Charge" in str(caught.value)
        assert f"{__file__}:" in caught.value.line
    assert world.calls == ["charge 1"]


async def test_other_arguments_are_a_divergence() -> None:
    """6.4 Other arguments are a divergence, with a field diff."""
    error = await refused(before(2), await parked(), answer="yes")

    assert error.differences == ("$.number: 1 -> 2",)
    assert "started with other arguments" in error.what


async def test_another_computation_is_a_divergence() -> None:
    """6.4 Another computation is a divergence that names both."""

    @computation(name="another job")
    async def another(number: int = 1) -> Effectful[str]:
        yield Return("done")

    error = await refused(another(), await parked(), answer="yes")

    assert error.what == "this is the log of job, not of another job"
    assert "@computation(name=...)" in str(error)


async def test_a_divergence_says_where_what_and_what_to_do() -> None:
    """6.4 With source file and line of the request, a field diff, the last five entries that matched, and more.

    That is: the likely cause, and what to do.
    """

    @computation(name="job")
    async def after(number: int = 1) -> Effectful[str]:
        yield total.put(number)
        yield Charge(1)
        yield Charge(2)
        yield Notify("two")
        yield total.get()
        yield events.emit(Placed(number))
        yield Approval(99)  # the line
        yield Return("done")

    error = await refused(after(), await parked(), answer="yes")

    source, first = inspect.getsourcelines(after)
    line = first + next(index for index, text in enumerate(source) if "# the line" in text)
    assert error.line == f"{__file__}:{line}"
    assert error.matched == (
        "0/2  Charge",
        "0/3  Charge",
        "0/4  Notify",
        "0/5  State[total].get",
        "0/6  EventAccumulator[shop].emit",
    )
    text = str(error)
    for part in (
        error.line,
        "$.number: 1 -> 99",
        *error.matched,
        f"likely cause: {error.cause}",
        "allow_divergence=True",
    ):
        assert part in text
    assert "the time, a random number, a set's order" in error.cause


async def test_the_line_of_an_awaited_request_is_its_own() -> None:
    """6.4 The line is that of the innermost request: in the sub-computation that asks."""

    @computation
    async def helper() -> str:
        return await Charge(99)  # the line

    @computation(name="job")
    async def after(number: int = 1) -> str:
        await total.put(number)
        return await helper()

    error = await refused(after(), await parked())

    source, first = inspect.getsourcelines(helper)
    line = first + next(index for index, text in enumerate(source) if "# the line" in text)
    assert error.line == f"{__file__}:{line}"


async def test_what_the_body_catches_does_not_hide_a_divergence() -> None:
    """6.4, 5.8 Nothing is performed after a mismatch, whatever the body catches."""

    @computation(name="job")
    async def stubborn(number: int = 1) -> Effectful[str]:
        for amount in (5, 6, 7):
            with contextlib.suppress(BaseException):
                yield Charge(amount)
        yield Return("done")

    error = await refused(stubborn(), await parked())

    assert error.received == 'Charge {"amount":5}'


async def test_a_hand_edited_log_is_honoured() -> None:
    """6.12 A hand-edited value is honoured, and so is other whitespace."""

    @computation
    async def prices() -> Effectful[tuple[str, int, str]]:
        receipt = yield Charge(1)
        read = yield limit.ask()
        answer = yield Comment("why?")
        yield Approval()
        yield Return((receipt, read, answer))

    outcome: Outcome[tuple[str, int, str]] = await start(prices(), *handlers(World()))
    outcome = await resume(prices(), outcome.log, *handlers(World()), answer="because")
    document = json.loads(outcome.log.to_json())
    entries = document["entries"]
    entries[0]["value"], entries[1]["value"], entries[2]["value"] = "edited", 9, "edited, too"
    edited = Log.from_json(json.dumps(document, indent=4).encode())

    world = World()
    assert completed(await resume(prices(), edited, *handlers(world), answer="yes")).value == (
        "edited",
        9,
        "edited, too",
    )
    assert world.calls == []


async def test_an_edited_local_value_is_checked_all_the_same() -> None:
    """6.3, 6.12 The value of a local effect is what performing it gives; an edit of it is a divergence."""
    document = json.loads((await parked()).to_json())
    document["entries"][4]["value"] = 17

    with pytest.raises(DivergenceError, match="gives another value than the log holds"):
        await resume(before(), Log.from_json(json.dumps(document)), *handlers(World()))


async def test_nothing_matches_what_was_not_asked_in_that_order() -> None:
    """6.4 Matching is in order: two equal requests swapped with another one are a divergence."""

    @computation(name="job")
    async def after(number: int = 1) -> Effectful[str]:
        yield total.put(number)
        yield Charge(2)
        yield Charge(1)
        yield Return("done")

    error = await refused(after(), await parked())

    assert error.entry == "0/2"


async def test_replay_verifies_and_performs_nothing() -> None:
    """6.7 `replay` verifies: the same outcome, nothing performed; another result is a divergence."""

    @computation(name="adds")
    async def adds() -> Effectful[int]:
        yield Charge(1)
        yield Return(3)

    @computation(name="adds")
    async def adds_wrongly() -> Effectful[int]:
        yield Charge(1)
        yield Return(4)

    @computation(name="adds")
    async def fails() -> Effectful[int]:
        yield Charge(1)
        raise ValueError("no")

    world = World()
    log = completed(await start(adds(), *world.handlers)).log
    stood = log.to_json()

    again = completed(await replay(adds(), log, *world.handlers))
    assert (again.value, again.log.to_json()) == (3, stood)
    for other in (adds_wrongly, fails):
        with pytest.raises(DivergenceError):
            await replay(other(), log, *world.handlers)
    assert log.to_json() == stood
    assert world.calls == ["charge 1"]


async def test_replay_performs_nothing_behind_the_log() -> None:
    """6.7 `replay` performs nothing: a run that was stopped on its way is stopped there again."""

    @computation
    async def charges() -> Effectful[str]:
        yield Charge(1)
        yield Return((yield Charge(2)))

    world = World()
    log = completed(await start(charges(), *world.handlers)).log
    del log.entries[1:]
    log.header.status, log.header.result = "running", UNSET
    outcome = suspended(await replay(charges(), stored(log), *world.handlers))

    assert outcome.wait is None
    assert ids(outcome.log) == ["0/1"]
    assert world.calls == ["charge 1", "charge 2"]


async def test_replay_of_a_failed_run_fails_in_the_same_way() -> None:
    """6.7 `replay` and `resume` of a failed run give the same failure, with the logged error."""

    @computation
    async def fails() -> Effectful[str]:
        yield Return((yield Charge(1)))

    world = World(TimeoutError("slow"))
    log = failed(await start(fails(), *world.handlers)).log
    for verb in (replay, resume):
        again = failed(await verb(fails(), stored(log), *world.handlers))
        assert isinstance(again.error, TimeoutError)
        assert ids(again.log) == ids(log)
        assert again.log.header.cause == "0/1"
    completed(await rerun(fails(), stored(log), *world.handlers))
    assert world.calls == ["charge 1", "charge 1"]


async def test_a_request_that_cannot_be_encoded_is_refused_on_replay_too() -> None:
    """6.4, 6.11 What the log could not hold is refused at that effect, on replay as on the first run."""
    unencodable: Any = object()

    @computation(name="job")
    async def after(number: int = 1) -> Effectful[str]:
        with contextlib.suppress(Exception):
            yield total.put(unencodable)
        yield Return("done")

    log = await parked()
    with pytest.raises(UnencodableError, match="objects of type object are not supported"):
        await resume(after(), log, *handlers(World()))
