"""Any program comes to the same under a runtime, whatever its store and its workers do on the way."""

import random
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Literal, NamedTuple, TypeAlias

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from skuld_async import AnswerError, Computation, Divergence, Failed, Handler, current_call
from skuld_async.durable import Run, Runtime, RunView
from skuld_async.durable.records import WaitFilter
from skuld_async.durable.store import Store
from skuld_async.log.chunks import log_of
from skuld_async.stores.memory import MemoryStore
from skuld_async.testing import VirtualClock
from tests.strands import programs, test_random_tasks
from tests.strands.programs import Outside, Send, Tick, failure, is_failing, sent
from tests.strands.scheduler import each

from .parts import Cut, Line, runtime

Program: TypeAlias = Any
RUN = "run"
PATIENCE = 15


class City:
    """The outside of all workers: each call takes a few turns of the event loop, as chance has it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.clock = VirtualClock()
        self.calls: list[tuple[str, str]] = []
        """Key and call, in the order in which they came."""
        self.settled: set[str] = set()
        """Keys of what a worker that died has left as settled."""
        self.repeated: list[str] = []
        """Calls of those that came all the same."""
        self.cancel_after: int | None = None
        """After how many calls the run is cancelled."""
        self._reached: dict[int, anyio.Event] = {}

    def at(self, count: int) -> anyio.Event:
        """Set once so many calls have come."""
        return self._reached.setdefault(count, anyio.Event())

    async def _call(self, what: str) -> str:
        key = current_call().key
        if key in self.settled:
            self.repeated.append(f"{key}: {what}")
        self.calls.append((key, what))
        self.at(len(self.calls)).set()
        for _ in range(self.chance.randrange(6)):
            await anyio.lowlevel.checkpoint()
        return key

    async def fetch(self, number: int) -> str:
        await self._call(f"fetch {number}")
        if is_failing(number):
            raise failure(number)
        return f"fetched {number}"

    async def acquire(self) -> str:
        return await self._call("acquire")

    async def release(self, what: str) -> None:
        await self._call(f"release {what}")

    async def tick(self, effect: Tick) -> int:
        await self._call(f"tick {effect.number}")
        return 2 * effect.number

    @property
    def handlers(self) -> Sequence[Handler]:
        return [
            self.clock.handler(),
            programs.total.handler(1),
            programs.notes.handler(),
            programs.events.handler(),
            test_random_tasks.shared.handler(0),
            Outside.handler(self),
            Tick.handled_by(self.tick),
            Send.handled_by(sent),
            test_random_tasks.Send.handled_by(test_random_tasks.sent),
        ]

    @property
    def times(self) -> dict[str, int]:
        """How often each key came."""
        keys = [key for key, _ in self.calls]
        return {key: keys.count(key) for key in keys}


class Trouble(NamedTuple):
    """What happens at an append."""

    append: int
    how: Literal["before", "after"]
    dies: bool


troubles: st.SearchStrategy[list[Trouble]] = st.lists(
    st.builds(Trouble, st.integers(1, 12), st.sampled_from(["before", "after"]), st.booleans()), max_size=3
)


async def run(
    program: Program, steps: list[Any], city: City, store: Store, expected: Sequence[Trouble], **options: Any
) -> RunView:
    """Run *program* to its end, in as many workers as it takes; each has a trouble."""
    with anyio.fail_after(PATIENCE):
        for trouble in [*expected, None]:
            line = Line(store)
            if trouble is not None:
                line.breaks_at(trouble.append, trouble.how, dies=trouble.dies)
            async with runtime(line, None, *city.handlers, workflows=[program], max_recoveries=9, **options) as one:
                ended = await _life(one.get(RUN), line, one, program(steps), city)
            if ended is not None:
                return ended
            city.settled |= await _settled(store)
    raise AssertionError


async def _settled(store: Store) -> set[str]:
    """The keys of what the store has as settled."""
    async with store:
        chunks, _ = await store.load(RUN)
    if not chunks:
        return set()
    log, _ = log_of(chunks)
    return {f"{RUN}/{entry.id}" for entry in log.entries if entry.state != "started" and entry.wait is UNSET}


async def _life(started: Run[Any], line: Line, one: Runtime, comp: Computation[Any], city: City) -> RunView | None:
    """Start the run, and do what it waits for; how it ended, or None where the worker died."""
    ended: RunView | None = None
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            await line.cut.wait()
            group.cancel_scope.cancel()

        async def cancel(after: int) -> None:
            await city.at(after).wait()
            with suppress(Cut):
                await one.cancel(RUN, "enough")

        group.start_soon(watch)
        if city.cancel_after is not None:
            group.start_soon(cancel, city.cancel_after)
        with suppress(Cut):
            await one.start(comp, id=RUN)
            while ended is None:
                view = await started.settled()
                if view.has_ended:
                    ended = view
                else:
                    await _go_on(view, one, city)
            group.cancel_scope.cancel()
    return ended


async def _go_on(view: RunView, one: Runtime, city: City) -> None:
    """Answer a question of a run that stands still, or let time pass."""
    assert view.status == "suspended", view
    if view.waits and city.chance.random() < 0.8:
        wait = city.chance.choice(view.waits)
        with suppress(AnswerError):  # its time was over
            await one.answer(wait, programs.answer(programs.Question(_about(wait.question))))
    else:
        city.clock.advance(timedelta(minutes=1))
        await anyio.lowlevel.checkpoint()


def _about(question: Any) -> str:
    about: str = msgspec.json.decode(question)["about"]
    return about


def check_calls(city: City) -> None:
    """One key is one call, and what was settled did not come again."""
    calls: dict[str, str] = {}
    for key, what in city.calls:
        assert calls.setdefault(key, what) == what, city.calls
    assert city.repeated == []


@pytest.fixture(autouse=True, scope="module")
def one_seed() -> Any:
    """What chance gives the body is the same in each run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skuld_async.durable.runtime.new_id", lambda: "seed")
        yield


def result(view: RunView) -> Any:
    return view.status, bytes(view.result) if view.result is not UNSET else view.problem


CALM = [(programs.program, programs.calm), (test_random_tasks.program, test_random_tasks.calm)]
WILD = [(programs.program, programs.wild), (test_random_tasks.program, test_random_tasks.wild)]


def of(kinds: list[Any]) -> st.SearchStrategy[tuple[Program, list[Any]]]:
    return st.one_of([st.tuples(st.just(program), steps) for program, steps in kinds])


@each(30)
@given(of(CALM), st.integers(0, 2**16), troubles, st.booleans())
async def test_a_calm_program_comes_to_the_same(
    what: tuple[Program, list[Any]], seed: int, expected: list[Trouble], stays: bool
) -> None:
    """Its result is that of the straight run; what was settled is not performed again, and each key is one call."""
    program, steps = what
    straight = await run(program, steps, City(seed), MemoryStore(), ())
    city = City(seed + 1)
    view = await run(program, steps, city, MemoryStore(), expected, idle=5 if stays else 0)
    assert result(view) == result(straight)
    check_calls(city)
    if not any(trouble.dies for trouble in expected):
        assert set(city.times.values()) <= {1}


@each(30)
@given(of(WILD), st.integers(0, 2**16), troubles, st.booleans(), st.booleans())
async def test_a_wild_program_comes_to_an_end(
    what: tuple[Program, list[Any]], seed: int, expected: list[Trouble], stays: bool, seldom: bool
) -> None:
    """Whatever comes first in it; under either durability."""
    program, steps = what
    city = City(seed)
    options: dict[str, Any] = {"idle": 5 if stays else 0, "durability": "suspend" if seldom else "step"}
    view = await run(program, steps, city, MemoryStore(), expected, **options)
    assert view.status in ("completed", "failed"), view
    check_calls(city)
    if not any(trouble.dies for trouble in expected):
        assert set(city.times.values()) <= {1}


@each(30)
@given(of(WILD), st.integers(0, 2**16), troubles, st.booleans(), st.integers(1, 8))
async def test_a_program_that_is_cancelled_comes_to_an_end(
    what: tuple[Program, list[Any]], seed: int, expected: list[Trouble], stays: bool, after: int
) -> None:
    """Wherever it is cancelled, and its workers die: nothing is left open, what was acquired is released once."""
    program, steps = what
    city, store = City(seed), MemoryStore()
    city.cancel_after = after
    view = await run(program, steps, city, store, expected, idle=5 if stays else 0)
    assert view.has_ended, view
    check_calls(city)
    async with store:
        chunks, _ = await store.load(RUN)
        assert await store.waits(WaitFilter(), None, 9) == ()
    log, _ = log_of(chunks)
    test_random_tasks.check_ended(Failed(error=LookupError(), log=log, cells={}, divergence=Divergence()))
