"""Whoever watches a run sees what happens in it: as it happens, from any offset on, in every process."""

from collections.abc import Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Any, Protocol

import anyio
import pytest

from skuld_async import Effectful, Port, Retry, Return, computation, current_call, mark_loop, operation, run
from skuld_async.durable import RunEvent, Runtime, UnknownRunError, progress
from skuld_async.durable.scribe import MANY
from skuld_async.durable.store import Store
from skuld_async.stores.memory import MemoryStore

from .parts import PATIENCE, Comment, Desk, Line, Office, asks, dying, fails, open_waits, plain, runtime, stands

Connect = Callable[[], Store]


class Press(Port, Protocol):
    @operation
    async def print(self, pages: int) -> int: ...

    @operation(retry=Retry(2, jitter=0, backoff=timedelta()))
    async def try_to_print(self, pages: int) -> int: ...


class Printer:
    """Reports each page; holds the last one."""

    def __init__(self) -> None:
        self.last = anyio.Event()
        self.go = anyio.Event()

    async def print(self, pages: int) -> int:
        for page in range(pages):
            await progress({"page": page})
        self.last.set()
        await self.go.wait()
        return pages

    async def try_to_print(self, pages: int) -> int:
        await progress(current_call().attempt)
        if current_call().attempt == 1:
            raise ConnectionError
        return pages


@computation
async def prints(pages: int) -> Effectful[int]:
    yield Office.do("begin")
    yield Return((yield Press.print(pages)))


@computation
async def prints_again(pages: int) -> Effectful[int]:
    yield Return((yield Press.try_to_print(pages)))


@computation
async def talk(turns: int) -> Effectful[int]:
    turn = 0
    while turn < turns:
        turn = yield mark_loop("talk", int, carry=turn)
        yield Office.do(f"{turn}")
        yield Comment(f"{turn}")
        turn += 1
    yield Return(turn)


WORKFLOWS: list[Any] = [prints, prints_again, talk, asks, plain, fails]


async def watch(one: Runtime, name: str, after: int = 0, count: int | None = None) -> list[RunEvent]:
    """The events behind *after*: so many, or all until the run has ended."""
    seen = list[RunEvent]()
    with anyio.fail_after(PATIENCE):
        async with aclosing(one.get(name).watch(after)) as events:
            async for event in events:
                seen.append(event)
                if len(seen) == count:
                    break
    return seen


async def test_each_call_is_an_event(connect: Connect) -> None:
    """With its entry, its effect and how it ended, numbered from 1 without gaps; watching ends with the run."""
    desk = Desk()
    desk.errors["bad"] = LookupError("no")
    async with runtime(connect(), desk, workflows=WORKFLOWS) as one:
        await one.start(plain("a", "b"), id="one")
        seen = await watch(one, "one")
        assert [event.offset for event in seen] == [1, 2]
        assert {event.kind for event in seen} == {"step"}
        assert [event.data for event in seen] == [
            {"entry": entry, "effect": "tests.durable.parts:Office.do", "state": "executed"} for entry in ("0/1", "0/2")
        ]
        await one.start(fails("bad"), id="two")
        assert [event.data["state"] for event in await watch(one, "two")] == ["discarded"]
        assert b'"kind":"step"' in seen[0].to_json()


async def test_watching_goes_on_behind_an_offset(connect: Connect) -> None:
    """In another process too, and where the run had ended long before."""
    desk = Desk()
    async with runtime(connect(), desk, workflows=WORKFLOWS) as one:
        await one.start(asks("x"), id="one")
        (first,) = await watch(one, "one", count=1)
        (wait,) = await open_waits(one)
        async with runtime(connect(), workflows=[plain]) as two:
            seen = list[RunEvent]()

            async def follow() -> None:
                seen.extend(await watch(two, "one", first.offset))

            async with anyio.create_task_group() as group:
                group.start_soon(follow)
                await one.answer(wait, "yes")
            assert [event.offset for event in seen] == [2]
            assert await watch(two, "one") == [first, *seen]
            assert await watch(two, "one", 2) == await watch(two, "one", 99) == []


async def test_an_implementation_reports_progress(connect: Connect) -> None:
    """It is seen while the call is out; with entry and attempt; it is no part of the log."""
    printer = Printer()
    async with runtime(connect(), Desk(), Press.handler(printer), workflows=WORKFLOWS) as one:
        started = await one.start(prints(3), id="one")
        seen = await watch(one, "one", count=4)
        assert [event.kind for event in seen] == ["step", "progress", "progress", "progress"]
        assert seen[1].data == {"entry": "0/2", "attempt": 1, "data": {"page": 0}}
        assert [event.data["data"]["page"] for event in seen[1:]] == [0, 1, 2]
        printer.go.set()
        assert await started.result(10) == 3
        assert [event.offset for event in await watch(one, "one")] == [1, 2, 3, 4, 5]
        assert len((await started.log()).entries) == 2


async def test_progress_of_each_attempt_says_so() -> None:
    """A call that is tried again reports again."""
    async with runtime(MemoryStore(), Desk(), Press.handler(Printer()), workflows=WORKFLOWS) as one:
        await one.start(prints_again(1), id="one")
        seen = [event.data for event in await watch(one, "one") if event.kind == "progress"]
        assert seen == [{"entry": "0/1", "attempt": number, "data": number} for number in (1, 2)]


async def test_progress_outside_of_a_runtime_is_for_nobody() -> None:
    """An implementation works the same without one."""
    printer = Printer()
    printer.go.set()
    await progress("nobody")
    assert await run(prints(2), *Desk().handlers, Press.handler(printer)) == 2


async def test_who_reports_a_lot_waits_for_the_store() -> None:
    """What waits to be written does not grow without bound, and nothing of it is lost."""
    printer, line = Printer(), Line(MemoryStore())
    printer.go.set()
    async with runtime(line, Desk(), Press.handler(printer), workflows=WORKFLOWS) as one:
        await (await one.start(prints(5 * MANY), id="one")).result(20)
        assert max(len(item.events) for item in line.appends) <= MANY + 2
        assert [event.offset for event in await watch(one, "one")] == list(range(1, 5 * MANY + 3))


async def test_events_of_earlier_stretches_are_removed() -> None:
    """A run that lasts keeps as many events as its last two stretches or so; who comes late sees a gap."""
    store = MemoryStore()
    async with runtime(store, Desk(), workflows=WORKFLOWS) as one:
        await one.start(talk(60), id="one")
        for _ in range(60):
            await stands(one, "one")
            (wait,) = await open_waits(one)
            await one.answer(wait, "said")
        await one.get("one").result(10)
        seen = await watch(one, "one")
        assert seen[-1].offset == 60
        assert seen[0].offset > 30
        assert [event.offset for event in seen] == list(range(seen[0].offset, 61))


async def test_events_outlive_their_worker(connect: Connect) -> None:
    """Each is written with the append that it tells of: offsets go on where they were."""
    desk, line = Desk("b"), Line(connect())
    async with dying(line, desk, workflows=WORKFLOWS) as one:
        await one.start(plain("a", "b", "c"), id="one")
        await desk.at("b").wait()
    desk.let("b")
    async with runtime(connect(), desk, workflows=WORKFLOWS) as two:
        seen = await watch(two, "one")
        assert [(event.offset, event.data["entry"]) for event in seen] == [(1, "0/1"), (2, "0/2"), (3, "0/3")]


async def test_a_run_that_is_deleted_cannot_be_watched() -> None:
    """Whoever watched it is told."""
    async with runtime(MemoryStore(), workflows=WORKFLOWS) as one:
        await one.start(plain("a"), id="one", paused=True)
        async with anyio.create_task_group() as group:

            async def follow() -> None:
                with pytest.raises(UnknownRunError):
                    await watch(one, "one")

            group.start_soon(follow)
            await anyio.lowlevel.checkpoint()
            await one.delete("one")


async def test_many_may_watch() -> None:
    """And each may leave when it likes: nothing is left of those who did."""
    async with runtime(MemoryStore(), Desk(), workflows=WORKFLOWS) as one:
        await one.start(asks("x"), id="one")
        (wait,) = await open_waits(one)
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(watch, one, "one")
                group.start_soon(watch, one, "one", 0, 1)
            with anyio.move_on_after(0.01):
                await watch(one, "one")
            await one.answer(wait, "yes")
        assert one.notices._events == {}
