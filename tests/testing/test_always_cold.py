"""`always_cold` finds what depends on anything but its effects, and says what differs."""

import random
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from skuld_async import (
    Completed,
    Computation,
    DivergenceError,
    Effect,
    Effectful,
    EventAccumulator,
    Handler,
    Log,
    Observation,
    Reader,
    Return,
    State,
    UnhandledEffectError,
    Yield,
    computation,
)
from skuld_async.testing import ColdMismatchError, always_cold


class Note(Effect[str], frozen=True):
    text: str


class Ask(Yield[int], frozen=True):
    pass


counter = State("cold.counter", int)
found = EventAccumulator("cold.found", int)
secret = Reader("cold.secret", str, logged=False)
handlers: list[Handler] = [Note.handled_by(lambda effect: effect.text), counter.handler(0), found.handler()]

calls: list[int] = []
"""A global that a computation may read."""


@computation
async def reads_the_time() -> Effectful[str]:
    yield Note("before")
    text = yield Note(str(time.perf_counter_ns()))
    yield Note("after")
    yield Return(text)


@computation
async def returns_the_time() -> Effectful[int]:
    yield Note("before")
    yield Return(time.perf_counter_ns())


@computation
async def rolls_dice() -> Effectful[str]:
    yield Note("before")
    text = yield Note(str(random.random()))
    yield Note("after")
    yield Return(text)


@computation
async def takes_a_path_by_chance() -> Effectful[None]:
    for _ in range(20):
        yield Note("heads" if random.random() < 0.5 else "tails")


@computation
async def reads_a_global() -> Effectful[int]:
    calls.append(1)
    yield Note("before")
    yield Note("after")
    yield Return(len(calls))


def with_a_closure() -> Computation[list[str]]:
    """A recipe whose runs share a list."""
    kept: list[str] = []

    @computation
    async def closes_over() -> Effectful[list[str]]:
        kept.append((yield Note("one")))
        kept.append((yield Note("two")))
        yield Return(list(kept))

    return closes_over()


@computation
async def loops_over_a_global() -> Effectful[None]:
    calls.append(1)
    for _ in calls:
        yield Note("again")


@computation
async def changes_state_in_place() -> Effectful[int]:
    box = yield boxes.get()
    box.append(1)
    yield Note("in place")
    box = yield boxes.get()
    yield Return(len(box))


boxes = State("cold.boxes", list[int])


@pytest.mark.parametrize(
    "make",
    [
        reads_the_time,
        returns_the_time,
        rolls_dice,
        takes_a_path_by_chance,
        reads_a_global,
        with_a_closure,
        loops_over_a_global,
    ],
    ids=["time", "time-in-the-result", "random", "random-path", "global", "closure", "global-path"],
)
async def test_it_finds_what_is_no_effect(make: Callable[[], Computation[Any]]) -> None:
    """Time, chance, globals, closures: a computation that depends on them comes to something else when resumed."""
    calls.clear()
    with pytest.raises((ColdMismatchError, DivergenceError)):
        await always_cold(make(), *handlers)


async def test_a_divergence_shows_the_line() -> None:
    """What depends on the time is shown as any divergence is: file and line, expected and received."""
    with pytest.raises(DivergenceError) as caught:
        await always_cold(reads_the_time(), *handlers)
    assert f"{__file__}:" in caught.value.line
    assert "not an effect" in caught.value.cause
    assert caught.value.differences[0].startswith("$.text: ")


async def test_a_mismatch_shows_both_sides() -> None:
    """Where only the result differs, the message shows both."""
    with pytest.raises(ColdMismatchError, match="the value is another") as caught:
        await always_cold(returns_the_time(), *handlers)
    assert int(caught.value.straight) < int(caught.value.cold)


async def test_it_is_an_assertion_error() -> None:
    """A mismatch is a test that failed."""
    assert issubclass(ColdMismatchError, AssertionError)


@computation
async def clean(turns: int) -> Effectful[int]:
    for number in range(turns):
        yield Note(f"turn {number}")
        answer = yield Ask()
        yield counter.modify(lambda value: value + answer)  # noqa: B023 - called at once
        yield found.emit(answer)
    total = yield counter.get()
    yield Return(total)


async def test_a_clean_computation_passes() -> None:
    """The outcome of the cold run is returned, with state, events and log."""
    outcome = await always_cold(clean(3), *handlers, answer=lambda _: 2)
    assert isinstance(outcome, Completed)
    assert outcome.value == 6
    assert outcome.state(counter) == 6
    assert outcome.output(found) == [2, 2, 2]
    assert len(outcome.log.entries) == 13


async def test_it_suspends_at_every_effect() -> None:
    """Each effect is performed once, and between any two of them the computation was begun anew."""
    begun: list[int] = []
    performed: list[str] = []

    @computation
    async def five() -> Effectful[None]:
        begun.append(len(performed))
        for number in range(5):
            yield Note(str(number))

    def perform(effect: Note) -> str:
        performed.append(effect.text)
        return effect.text

    await always_cold(five(), fresh=lambda: [Note.handled_by(perform)])
    assert performed == [*"01234", *"01234"]
    straight, *cold = begun
    assert straight == 0
    assert [count - 5 for count in cold] == [0, 1, 2, 3, 4]


async def test_a_handler_with_state_is_made_for_each_run() -> None:
    """`fresh` makes handlers once for each run: a fake that counts starts from nothing in both."""
    made: list[list[str]] = []

    def fresh() -> list[Handler]:
        seen: list[str] = []
        made.append(seen)

        def perform(effect: Note) -> str:
            seen.append(effect.text)
            return str(len(seen))

        return [Note.handled_by(perform)]

    @computation
    async def two() -> Effectful[list[str]]:
        first = yield Note("a")
        second = yield Note("b")
        yield Return([first, second])

    outcome = await always_cold(two(), fresh=fresh)
    assert isinstance(outcome, Completed)
    assert outcome.value == ["1", "2"]
    assert made == [["a", "b"], ["a", "b"]]


async def test_a_handler_that_is_shared_and_counts_is_found() -> None:
    """A fake that is shared by both runs gives other answers in the second: a mismatch, not a surprise."""
    seen: list[str] = []

    def perform(effect: Note) -> str:
        seen.append(effect.text)
        return str(len(seen))

    @computation
    async def one() -> Effectful[str]:
        text = yield Note("a")
        yield Return(text)

    with pytest.raises(ColdMismatchError, match="the value is another"):
        await always_cold(one(), Note.handled_by(perform))


async def test_a_question_without_an_answer_says_what_to_pass() -> None:
    """A computation that asks needs `answer=`."""
    with pytest.raises(AssertionError, match=r"asks Ask\(\): pass always_cold\(.*, answer=lambda question: "):
        await always_cold(clean(1), *handlers)


async def test_failures_are_compared_too() -> None:
    """A computation that fails must fail in the same way; one that fails by chance does not."""

    @computation
    async def fails() -> Effectful[None]:
        yield Note("a")
        message = "always"
        raise ValueError(message)

    @computation
    async def fails_somehow() -> Effectful[None]:
        yield Note("a")
        raise ValueError(time.perf_counter_ns())

    outcome = await always_cold(fails(), *handlers)
    assert type(outcome).__name__ == "Failed"
    with pytest.raises(ColdMismatchError, match="the error is another"):
        await always_cold(fails_somehow(), *handlers)


async def test_unlogged_readers_are_read_each_time() -> None:
    """6.3 What has no entry is read live on each replay, and that is no second call."""

    @computation
    async def reads() -> Effectful[int]:
        text = yield secret.ask()
        yield Note("a")
        yield Note("b")
        yield Return(len(text))

    outcome = await always_cold(reads(), *handlers, secret.handler("xyz"))
    assert isinstance(outcome, Completed)
    assert outcome.value == 3


async def test_it_passes_options_on() -> None:
    """Options of the verbs hold for both runs: observers see the straight run and each step of the cold one."""
    seen: list[tuple[str, bool]] = []

    def watch(observation: Observation) -> None:
        if observation.error is None:
            seen.append((observation.request.id, observation.replayed))

    @computation
    async def two() -> Effectful[None]:
        yield Note("a")
        yield Note("b")

    await always_cold(two(), *handlers, observe=[watch])
    assert seen[:2] == [("0/1", False), ("0/2", False)]
    assert seen.count(("0/1", False)) == 2
    assert ("0/1", True) in seen


async def test_errors_of_the_deployment_come_out() -> None:
    """A computation without its handlers is no mismatch."""
    with pytest.raises(UnhandledEffectError):
        await always_cold(clean(1))


async def test_the_given_log_option_is_not_needed() -> None:
    """Each run writes its own log, in memory, with the same id and seed."""
    first = await always_cold(clean(1), *handlers, answer=lambda _: 2)
    second = await always_cold(clean(1), *handlers, answer=lambda _: 2)
    assert first.log.to_json() == second.log.to_json()
    assert isinstance(first.log, Log)


async def test_a_run_that_never_ends_is_given_up() -> None:
    """A handler that requests ever more each time that it begins does not keep the test running for ever."""

    class Restless(Effect[int], frozen=True):
        pass

    begun: list[int] = []

    async def restless(_effect: Restless) -> int:
        begun.append(1)
        for _ in range(len(begun) * 10):
            await Note("more")
            await anyio.lowlevel.checkpoint()
        return len(begun)

    @computation
    async def restless_body() -> Effectful[int]:
        number = yield Restless()
        yield Return(number)

    with pytest.raises(ColdMismatchError):
        await always_cold(restless_body(), *handlers, Restless.handled_by(restless))
