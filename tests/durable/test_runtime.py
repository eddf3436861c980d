"""A runtime starts runs, keeps them, tells how they stand, and leaves them to the next one."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Self

import anyio
import msgspec
import pytest

from skuld_async import (
    DeclarationError,
    EffectError,
    Effectful,
    Return,
    State,
    UnencodableError,
    Yield,
    computation,
)
from skuld_async.durable import (
    RunActiveError,
    RunConflictError,
    StoreClosedError,
    StuckRunError,
    UnknownRunError,
    UnknownWorkflowError,
)
from skuld_async.durable.store import Store
from skuld_async.stores.memory import MemoryStore
from skuld_async.testing import VirtualClock

from .parts import (
    Closed,
    Desk,
    Line,
    Office,
    asks,
    comment,
    dying,
    fails,
    open_waits,
    plain,
    runtime,
    side_by_side,
    stands,
)

Connect = Callable[[], Store]


class Point(msgspec.Struct, frozen=True):
    x: int
    y: int = 0


@computation
async def moved(point: Point, by: int = 1) -> Effectful[Point]:
    yield Office.do("move")
    yield Return(Point(point.x + by, point.y))


@computation
async def stranger() -> Effectful[None]:
    yield Return(None)


async def test_a_run_comes_to_its_result(connect: Connect) -> None:
    """It moves by itself, and its result has the type that the workflow declares."""
    async with runtime(connect(), workflows=[moved]) as one:
        run = await one.start(moved(Point(1), 2))
        assert await run.result(10) == Point(3)
        view = await run.view()
        assert (view.status, view.has_ended, view.is_settled) == ("completed", True, True)
        assert msgspec.json.decode(view.to_json())["result"] == {"x": 3, "y": 0}


async def test_the_same_start_twice_is_one_run(connect: Connect) -> None:
    """The same call under the same id is the same run, while it moves and when it has ended."""
    desk = Desk("move")
    async with runtime(connect(), desk, workflows=[moved]) as one:
        first = await one.start(moved(Point(1)), id="one")
        await desk.at("move").wait()
        second = await one.start(moved(Point(1, 0), by=1), id="one")
        desk.let("move")
        assert await first.result(10) == await second.result(10)
        third = await one.start(moved(Point(1)), id="one")
        assert await third.result(10) == Point(2)
    assert desk.keys == [("move", "one/0/1")]


async def test_starts_at_the_same_time_are_one_run(connect: Connect) -> None:
    """Ten tasks of two runtimes that start the same run get the same one."""
    desk, results = Desk(), list[str]()
    async with runtime(connect(), desk) as one, runtime(connect(), desk) as two, anyio.create_task_group() as group:

        async def begin(number: int) -> None:
            run = await (one if number % 2 else two).start(plain("a", "b"), id="one")
            results.append(await run.result(10))

        for number in range(10):
            group.start_soon(begin, number)
    assert results == ["B"] * 10
    assert desk.times == {"a": 1, "b": 1}


async def test_another_call_under_the_same_id_is_a_conflict(connect: Connect) -> None:
    """Other arguments, or another workflow, are refused; the run that is there goes on."""
    desk = Desk()
    async with runtime(connect(), desk) as one:
        run = await one.start(plain("a"), id="one")
        for other in (plain("b"), comment("a")):
            with pytest.raises(RunConflictError) as refused:
                await one.start(other, id="one")
            assert refused.value.run == "one"
        assert await run.result(10) == "A"
    assert desk.done == ["a"]


async def test_what_cannot_be_started_is_refused() -> None:
    """A workflow that the runtime was not given, arguments that no log can hold, what is no call: nothing is kept."""
    store = MemoryStore()
    async with runtime(store, workflows=[plain, moved]) as one:
        with pytest.raises(UnknownWorkflowError, match="stranger"):
            await one.start(stranger())
        with pytest.raises(UnencodableError):
            await one.start(plain("\ud800"))
        for comp in (plain("a").handle(State("s", int).handler(1)), plain("a").ensure(stranger())):
            with pytest.raises(DeclarationError, match="start the call alone"):
                await one.start(comp)
        assert (await one.runs()).items == []


async def test_what_makes_no_runtime_is_refused() -> None:
    """Two workflows of one name, what is no workflow, an unknown durability, a log for all runs."""
    with pytest.raises(DeclarationError, match="two workflows have the name"):
        runtime(MemoryStore(), workflows=[plain, plain])
    with pytest.raises(DeclarationError, match="is no computation"):
        runtime(MemoryStore(), workflows=[plain("a")])
    with pytest.raises(DeclarationError, match="durability"):
        runtime(MemoryStore(), durability="sometimes")
    with pytest.raises(DeclarationError, match="into"):
        runtime(MemoryStore(), into=None)


async def test_a_paused_run_waits_for_its_release(connect: Connect) -> None:
    """Nothing of it is performed before; it is released once."""
    desk = Desk()
    async with runtime(connect(), desk) as one:
        run = await one.start(plain("a"), id="one", paused=True)
        assert (await stands(one, "one")).status == "paused"
        with pytest.raises(StuckRunError, match="paused"):
            await run.result(10)
        assert desk.done == []
        assert await one.release("one")
        assert await run.result(10) == "A"
        assert not await one.release("one")
        assert not await one.release("another")


async def test_a_failed_run_raises_its_error(connect: Connect) -> None:
    """A domain error and a builtin one as themselves, any other as `EffectError`; the view tells type and message."""
    desk = Desk()
    desk.errors = {"domain": Closed("sunday"), "builtin": LookupError("no", 1), "other": RuntimeError(1j)}
    async with runtime(connect(), desk) as one:
        with pytest.raises(Closed) as closed:
            await (await one.start(fails("domain"), id="domain")).result(10)
        assert closed.value.day == "sunday"
        with pytest.raises(LookupError) as lookup:
            await (await one.start(fails("builtin"))).result(10)
        assert lookup.value.args == ("no", 1)
        with pytest.raises(EffectError) as other:
            await (await one.start(fails("other"))).result(10)
        assert other.value.type_name == "builtins:RuntimeError"
        view = await one.get("domain").view()
        assert view.status == "failed"
        assert view.problem is not None
        assert view.problem.type.endswith("parts:Closed")


async def test_a_wait_for_a_run_may_end_first(connect: Connect) -> None:
    """`settled` then tells how it stands, `result` raises `TimeoutError`, and the run goes on."""
    desk = Desk("a")
    async with runtime(connect(), desk) as one:
        run = await one.start(plain("a"))
        assert (await run.settled(0.01)).status == "running"
        assert (await run.settled(timedelta())).status == "running"
        with pytest.raises(TimeoutError, match="running"):
            await run.result(timedelta(seconds=0.01))
        desk.let("a")
        assert (await run.settled(10)).status == "completed"
        asked = await one.start(asks("x"))
        assert (await asked.settled(10)).status == "suspended"
        with pytest.raises(TimeoutError, match="suspended"):
            await asked.result(0.01)


async def test_a_settled_run_shows_its_questions(connect: Connect) -> None:
    """Each stretch ends with the next question, whether the run stays in memory meanwhile or not."""
    for idle in (0, 10):
        async with runtime(connect(), idle=idle, workflows=[interview]) as one:
            run = await one.start(interview(3), id=f"{idle}")
            for number in range(3):
                view = await stands(one, run.id)
                assert view.status == "suspended"
                assert [bytes(wait.question) for wait in view.waits] == [b'{"about":"%d"}' % number]
                await one.answer(view.waits[0], f"said {number}")
            assert await run.result(10) == ["said 0", "SAID 1", "said 2"]
            assert [message.state for message in await one.messages(run.id)] == ["used"] * 3


class About(Yield[str], frozen=True):
    about: str


@computation
async def interview(times: int) -> Effectful[list[str]]:
    said: list[str] = []
    for number in range(times):
        answer = yield About(f"{number}")
        said.append((yield Office.do(answer)) if number == 1 else answer)
    yield Return(said)


async def test_runs_are_listed_newest_first(connect: Connect) -> None:
    """By workflow, status and tag, in pages that neither skip nor repeat."""
    clock = VirtualClock()
    async with runtime(connect(), Desk(), clock.handler()) as one:
        for number in range(7):
            comp: Any = asks(f"{number}") if number % 2 else plain(f"{number}")
            run = await one.start(comp, id=f"run {number}", tags=["even"] if number % 2 == 0 else ["odd", "asks"])
            await run.settled(10)
            clock.advance(timedelta(seconds=number % 3))  # some were started at the same time
        whole = [view.id for view in (await one.runs()).items]
        assert max(whole) == whole[0] == "run 6"
        paged, after = list[str](), None
        while True:
            page = await one.runs(after=after, limit=2)
            paged += [view.id for view in page.items]
            after = page.next
            if after is None:
                break
        assert paged == whole
        assert len(paged) == len(set(paged)) == 7
        assert {view.id for view in (await one.runs(tag="asks")).items} == {"run 1", "run 3", "run 5"}
        assert {view.id for view in (await one.runs(workflow=asks.name, status="suspended")).items} == {
            "run 1",
            "run 3",
            "run 5",
        }
        assert (await one.runs(workflow=asks.name, status=["completed", "failed"])).items == []
        assert [view.tags for view in (await one.runs(limit=1)).items] == [("even",)]


async def test_runs_are_deleted_and_expire(connect: Connect) -> None:
    """One that a worker has is refused; ended ones go when they are old; nothing of a deleted one is left."""
    clock, desk = VirtualClock(), Desk("held")
    async with runtime(connect(), desk, clock.handler(), idle=0) as one:
        moving = await one.start(plain("held"), id="moving")
        with pytest.raises(RunActiveError):
            await one.delete("moving")
        await one.start(asks("x"), id="asks")
        await stands(one, "asks")
        token = (await open_waits(one))[0].token
        while one._dispatcher.active.keys() - {"moving"}:
            await anyio.lowlevel.checkpoint()
        await one.delete("asks")
        with pytest.raises(UnknownRunError):
            await one.get("asks").view()
        with pytest.raises(LookupError):
            await one.answer(token, "yes")
        assert (await one.waits()).items == []
        with pytest.raises(UnknownRunError):
            await one.delete("asks")

        desk.let("held")
        await moving.result(10)
        clock.advance(timedelta(days=2))
        await (await one.start(plain("new"), id="new")).result(10)
        assert await one.expire(timedelta(days=1)) == 1
        assert [view.id for view in (await one.runs()).items] == ["new"]


async def test_an_unknown_run_is_an_error() -> None:
    """Whatever is asked of it."""
    async with runtime(MemoryStore()) as one:
        run = one.get("none")
        for asked in (run.view, run.settled, run.result, run.log, run.cancel):
            with pytest.raises(UnknownRunError, match="none"):
                await asked()
        with pytest.raises(UnknownRunError):
            await anext(aiter(run.watch()))


async def test_a_runtime_that_is_left_lets_go_of_its_runs(connect: Connect) -> None:
    """In the middle of calls, and while others wait: the next one has them at once, and no lease has to run out."""
    held, desk = Desk("b", "d"), Desk()
    async with runtime(connect(), held) as one:
        await one.start(plain("a", "b", "c"), id="calls")
        await one.start(side_by_side(["x"], ["d"]), id="both")
        await one.start(asks("y"), id="asks")
        await held.at("b").wait()
        await held.at("d").wait()
        await stands(one, "asks")
    store = connect()
    async with store:
        records = {run: await store.get(run) for run in ("calls", "both", "asks")}
        assert {run: record and (record.owner, record.recoveries) for run, record in records.items()} == {
            "calls": (None, 0),
            "both": (None, 0),
            "asks": (None, 0),
        }
        assert list(await store.workers()) == []
    async with runtime(connect(), desk) as two:
        assert await two.get("calls").result(10) == "C"
        for wait in await open_waits(two, count=2):
            await two.answer(wait, "yes")
        assert await two.get("both").result(10) == ["X YES", "D"]
        assert await two.get("asks").result(10) == "y: yes"
    assert sorted(held.done) == ["a", "b", "before y", "d"]
    assert sorted(desk.done) == ["after y", "b", "c", "d", "x yes"]
    keys = {what: key for what, key in held.keys if what in ("b", "d")}
    assert keys.items() <= dict(desk.keys).items()


async def test_an_error_in_the_body_comes_out_as_it_is() -> None:
    """A runtime wraps no group around it."""
    with pytest.raises(LookupError, match="mine"):
        async with runtime(MemoryStore()):
            raise LookupError("mine")


async def test_a_runtime_is_used_where_it_is_entered() -> None:
    """Before, whatever is asked of it is refused by its store."""
    one = runtime(MemoryStore())
    for asked in (lambda: one.start(plain("a")), one.runs, one.waits, lambda: one.cancel("a")):
        with pytest.raises(StoreClosedError):
            await asked()


async def test_a_store_that_cannot_be_entered_is_an_error() -> None:
    """A runtime raises what its store does, and leaves nothing behind."""

    class Broken(MemoryStore):
        async def __aenter__(self) -> Self:
            raise OSError("no disk")

    with pytest.raises(OSError, match="no disk"):
        async with runtime(Broken()):
            pass


async def test_many_runs_share_a_worker(connect: Connect) -> None:
    """Hundreds of runs with branches inside, at the same time, each with its own result; each call is made once."""
    store, desk, results = connect(), Desk(), dict[int, list[str]]()
    count = 500 if isinstance(store, MemoryStore) else 100
    async with runtime(store, desk) as one, anyio.create_task_group() as group:

        async def move(number: int) -> None:
            run = await one.start(side_by_side([], [f"{number} a", f"{number} b", f"{number} c"]), id=f"{number}")
            results[number] = await run.result(50)

        for number in range(count):
            group.start_soon(move, number)
    assert results == {number: [f"{number} A", f"{number} B", f"{number} C"] for number in range(count)}
    assert set(desk.times.values()) == {1}
    assert len({key for _, key in desk.keys}) == 3 * count


async def test_a_worker_takes_no_more_runs_than_fit() -> None:
    """Beyond its `concurrency`, what only waits is put away to make room; all come to their end."""
    store, desk = MemoryStore(), Desk()
    async with runtime(store, desk, concurrency=3) as one:
        for number in range(20):
            await one.start(asks(f"{number}"), id=f"{number}", paused=True)
        for number in range(20):
            await one.release(f"{number}")
        for wait in await open_waits(one, count=20):
            assert len(one._dispatcher.active) <= 3
            await one.answer(wait, "yes")
        for number in range(20):
            assert await one.get(f"{number}").result(10) == f"{number}: yes"
    assert set(desk.times.values()) == {1}


async def test_a_worker_that_dies_as_it_starts_a_run_leaves_the_run() -> None:
    """What `start` has committed, another worker moves, and it is the same run to whoever starts it again."""
    store, desk = MemoryStore(), Desk("a")
    line = Line(store)
    async with dying(line, desk) as one:
        await one.start(plain("a"), id="one")
    desk.let("a")
    async with runtime(store, desk) as two:
        run = await two.start(plain("a"), id="one")
        assert await run.result(10) == "A"
