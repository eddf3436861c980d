"""Random operations on each store and on the model of a store: after each, both must look the same."""

import random
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from itertools import permutations
from typing import Any, cast

import anyio
import anyio.to_thread
import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict

from skuld_async.durable.records import Append, RunFilter, WaitFilter, WorkerRecord
from skuld_async.durable.store import Heart, Store
from tests.strands.scheduler import SECONDS, TIMES, Test

from .calls import MANY, RUNS, WAITS, WORKERS, WORKFLOWS, Call, Calls
from .model import Model, Plain

STEPS = 30
"""Calls in a program."""


@pytest.fixture(scope="module")
def anyio_backend(setup: tuple[str, str]) -> str:
    return setup[1]


KINDS = [
    *("create", "create", "create", "claim", "claim", "claim", *["append"] * 10, *["answer"] * 5, "deposit", "deposit"),
    *("cancel", "requeue", "requeue_known", "delete", "expire", "bury", "beat", "stop"),
]
"""Kinds of calls; those that matter more come more often."""

TOGETHER = ["append", "append", "claim", "answer", "answer", "deposit", "cancel", "requeue", "create", "delete"]
"""Those that are made at the same time."""


def plain(value: Any) -> Any:
    """What a store gives, as the model gives it."""
    if isinstance(value, msgspec.Struct):
        return asdict(value)
    if isinstance(value, tuple | list):
        return [plain(one) for one in cast("Sequence[Any]", value)]
    return value


async def seen(store: Store) -> Plain:
    """All that can be seen of a store."""
    runs = {run: await store.load(run) for run in RUNS}
    return {
        "runs": plain(await store.runs(RunFilter(), None, MANY)),
        "one by one": [plain(await store.get(run)) for run in RUNS],
        "log": [list(chunks) for chunks, _ in runs.values()],
        "unfolded": [plain(unfolded) for _, unfolded in runs.values()],
        "inbox": [plain(await store.inbox(run)) for run in RUNS],
        "messages": [plain(await store.messages(run)) for run in RUNS],
        "open": plain(await store.waits(WaitFilter(), None, MANY)),
        "waits": [plain(await store.wait(run, wait)) for run in RUNS for wait in WAITS],
        "events": [plain(await store.events(run, 0, MANY)) for run in RUNS],
        "next wake": [await store.next_wake(names) for names in (WORKFLOWS, WORKFLOWS[:1], ["other"])],
        "mail": [sorted(await store.mail(worker)) for worker in WORKERS],
        "workers": {worker.id: worker.beat > 0 for worker in await store.workers()},
    }


def expected(model: Model) -> Plain:
    """The same of the model."""
    runs = {run: model.load(run) for run in RUNS}
    return {
        "runs": model.list_runs(RunFilter(), None, MANY),
        "one by one": [model.runs[run]["record"] if run in model.runs else None for run in RUNS],
        "log": [log for log, _ in runs.values()],
        "unfolded": [unfolded for _, unfolded in runs.values()],
        "inbox": [unfolded for _, unfolded in runs.values()],
        "messages": [[list(one) for one in model.messages(run)] for run in RUNS],
        "open": model.list_waits(WaitFilter(), None, MANY),
        "waits": [model.wait(run, wait) for run in RUNS for wait in WAITS],
        "events": [model.events(run, 0, MANY) for run in RUNS],
        "next wake": [model.next_wake([*names]) for names in (WORKFLOWS, WORKFLOWS[:1], ["other"])],
        "mail": [model.mail(worker) for worker in WORKERS],
        "workers": model.workers(),
    }


class Duel:
    """Two handles to one store, and its model."""

    def __init__(self, handles: Sequence[Store], thread: ThreadPoolExecutor) -> None:
        self.handles = handles
        self.model = Model()
        self.thread = thread
        self.hearts: dict[str, Heart] = {}
        self.appended: dict[str, Append] = {}
        self.told: list[str] = []
        """What was done, for whoever reads of a failure."""

    def call(self, kind: str, chance: random.Random, *, at_once: bool) -> Call:
        call: Call = getattr(Calls(self.model, chance, self.appended, at_once=at_once), kind)()
        return call

    async def begin(self) -> None:
        """Start the runs that most of the calls are about."""
        for run in RUNS:
            await self.step("create", random.Random(run))

    async def step(self, kind: str, chance: random.Random) -> None:
        handle = chance.choice(self.handles)
        if kind in {"beat", "stop"}:
            worker = chance.choice(WORKERS)
            self.told.append(f"{kind} {worker}")
            await (self.beat(handle, worker) if kind == "beat" else self.stop(worker))
        else:
            await self.check(handle, self.call(kind, chance, at_once=False))
        await self.check(handle, self.call("list_runs", chance, at_once=False))
        await self.check(handle, self.call("list_waits", chance, at_once=False))
        assert await seen(handle) == expected(self.model), self.story

    async def check(self, handle: Store, call: Call) -> None:
        self.told.append(call.text)
        answer = plain(await call.on_store(handle))
        assert answer == call.on_model(self.model, answer), self.story

    async def together(self, chance: random.Random, count: int) -> None:
        """Several calls at the same time: there must be an order in which the model gives the same."""
        calls = [self.call(chance.choice(TOGETHER), chance, at_once=True) for _ in range(count)]
        self.told.append("together: " + "; ".join(call.text for call in calls))
        answers: list[Any] = [None] * count

        async def make(place: int) -> None:
            answers[place] = plain(await calls[place].on_store(chance.choice(self.handles)))

        async with anyio.create_task_group() as group:
            for place in range(count):
                group.start_soon(make, place)
        self.told += [f"  gave {answer}" for answer in answers]
        now = await seen(self.handles[0])
        wrong: list[str] = []
        for order in permutations(range(count)):
            model = self.model.copy()
            wanted = {place: calls[place].on_model(model, answers[place]) for place in order}
            differing: list[tuple[int | str, Any]] = [
                (place, one) for place, one in wanted.items() if one != answers[place]
            ]
            differing += [(what, one) for what, one in expected(model).items() if one != now[what]]
            if not differing:
                self.model = model
                return
            wrong.append(f"in the order {order}: not {differing}")
        pytest.fail("\n".join([*self.told, f"there is no order of these calls that gives {now}:", *wrong]))

    @property
    def story(self) -> str:
        return "\n".join(self.told)

    async def beat(self, handle: Store, worker: str) -> None:
        if worker not in self.hearts:
            record = WorkerRecord(worker, "here", 1, "today", WORKFLOWS)
            self.hearts[worker] = await self.in_thread(partial(handle.heart, record))
        await self.in_thread(self.hearts[worker].beat)
        self.model.beating.add(worker)

    async def stop(self, worker: str) -> None:
        if worker in self.hearts:
            await self.in_thread(self.hearts.pop(worker).close)
            self.model.beating.discard(worker)

    async def in_thread(self, call: Callable[[], Any]) -> Any:
        return await anyio.to_thread.run_sync(self.thread.submit(call).result)


async def duel(connect: Callable[[], Store], play: Callable[[Duel], Awaitable[None]], *, handles: int) -> None:
    with ThreadPoolExecutor(1) as thread:
        async with AsyncExitStack() as stack:
            one = Duel([await stack.enter_async_context(connect()) for _ in range(handles)], thread)
            try:
                await play(one)
            finally:
                for worker in [*one.hearts]:
                    await one.stop(worker)


SEEDS = st.integers(0, 2**32 - 1)


def each(examples: int) -> Callable[[Test], Test]:
    """The settings of a test that tries so many programs, which are not made smaller: each failure tells its story."""
    chosen = settings(
        max_examples=examples * TIMES,
        phases=(Phase.explicit, Phase.generate),
        deadline=None,
        derandomize=True,
        database=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    return lambda test: pytest.mark.timeout(SECONDS * TIMES)(chosen(test))


@each(15)
@given(program=st.lists(st.tuples(st.sampled_from(KINDS), SEEDS), min_size=STEPS, max_size=STEPS))
async def test_one_call_after_another(
    new_place: Callable[[], Callable[[], Store]], handles: int, program: list[tuple[str, int]]
) -> None:
    """Whatever is called, with right and wrong tokens, once or again, each store does what the model does."""

    async def play(one: Duel) -> None:
        await one.begin()
        for kind, seed in program:
            await one.step(kind, random.Random(seed))

    await duel(new_place(), play, handles=handles)


@each(10)
@given(program=st.lists(st.tuples(st.integers(1, 4), SEEDS), min_size=STEPS // 2, max_size=STEPS // 2))
async def test_calls_at_the_same_time(
    new_place: Callable[[], Callable[[], Store]], handles: int, program: list[tuple[int, int]]
) -> None:
    """Calls that are made at once do what they would do in some order, one after another."""

    async def play(one: Duel) -> None:
        await one.begin()
        for count, seed in program:
            chance = random.Random(seed)
            await one.step(chance.choice(["append", "claim"]), chance)
            await one.together(chance, count)

    await duel(new_place(), play, handles=handles)
