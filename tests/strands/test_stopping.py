"""7.7: host cancel and run cancel with strands. Nothing is left running, and nothing is lost."""

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest
from msgspec import UNSET

from skuld_async import (
    Clock,
    Computation,
    Effectful,
    Log,
    NotAnEffectError,
    Outcome,
    Parallel,
    Return,
    _computation,
    bracket,
    computation,
    open_session,
    replay,
    resume,
    start,
    with_timeout,
)

from .parts import (
    Ask,
    Call,
    Desk,
    Release,
    again,
    asks,
    calls,
    cancelled,
    completed,
    failed,
    host_cancelled,
    states,
    stored,
    suspended,
)

HOUR = timedelta(hours=1)
AGAIN: list[Callable[..., Awaitable[Outcome[Any]]]] = [resume, replay]


@computation
async def idles(name: str) -> Effectful[str]:
    """A call, then an await of the body's own that never ends by itself."""
    yield Call(name)
    await anyio.sleep_forever()
    yield Call(f"{name} after")
    yield Return("")


@computation
async def sleeps() -> Effectful[None]:
    yield Clock.sleep(HOUR)


@computation
async def asks_within(about: str) -> Effectful[str]:
    answer = yield Ask(about).within(HOUR)
    yield Return(f"{answer}")


def kept(comp: Computation[Any], name: str) -> Computation[Any]:
    """*comp* with a cleanup."""
    return comp.ensure(Release(name))


@computation
async def working() -> Effectful[str]:
    """Branches of each kind, which stand wherever a strand can stand."""
    yield Parallel.all(
        kept(calls("done"), "done"),
        kept(calls("x", "hang"), "call"),
        kept(asks("a"), "question"),
        kept(idles("idle"), "idle"),
        kept(Parallel.race(one=kept(calls("hang one"), "one"), two=kept(asks_within("two"), "two")), "race"),
        kept(with_timeout(calls("hang timed"), HOUR), "timed"),
        kept(Parallel.map(calls, ["hang m", "never"], limit=1), "map"),
        bracket(Call("room"), lambda _: idles("meeting"), Release),
    )
    yield Return("never")


EVERYWHERE = ("hang", "before a", "idle", "hang one", "hang timed", "hang m", "meeting")
CLEANUP = sorted(
    f"release {name}" for name in ("call", "question", "idle", "one", "two", "race", "timed", "map", "ROOM")
)


async def everywhere(desk: Desk, log: Log) -> None:
    """Until each strand stands where it will stand."""
    for name in EVERYWHERE:
        await desk.at(name).wait()
    while len(log.waits) < 2:
        await anyio.lowlevel.checkpoint()
    for _ in range(10):
        await anyio.lowlevel.checkpoint()


# -- run cancel ------------------------------------------------------------------------------------------------------


async def test_a_run_cancel_reaches_all_strands() -> None:
    """7.7 A run cancel stops each strand where it stands; the cleanup of each is performed, once, and logged."""
    desk, log = Desk(), Log()
    async with open_session(kept(working(), "root"), *desk.handlers, into=log) as session:
        await everywhere(desk, log)
        before = list(desk.arrived)
        outcome = cancelled(await session.cancel("why"))
    assert outcome.reason == "why"
    performed = desk.arrived[len(before) :]
    assert performed[-1] == "release root"
    assert sorted(performed[:-1]) == CLEANUP
    assert desk.running == set()
    assert "started" not in states(log).values()
    assert log.waits == []


@pytest.mark.parametrize("verb", AGAIN, ids=["resume", "replay"])
async def test_a_cancelled_log_comes_to_the_same_again(verb: Callable[..., Awaitable[Outcome[Any]]]) -> None:
    """7.7 `resume` and `replay` of a cancelled log: cancelled at the same places, nothing performed, the same log."""
    desk, log = Desk(), Log()
    async with open_session(working(), *desk.handlers, into=log) as session:
        await everywhere(desk, log)
        cancelled(await session.cancel())
    later = Desk()
    with anyio.fail_after(10):
        outcome = cancelled(await verb(working(), stored(log), *later.handlers))
    assert later.arrived == []
    assert states(outcome.log) == states(log)
    assert outcome.log.to_json() == log.to_json()


async def test_the_cancel_is_recorded_first_with_all_places() -> None:
    """7.7 When the first body sees its cancellation, the log says already where each strand is stopped."""
    log = Log()
    seen: list[set[str]] = []

    @computation
    async def looks(name: str) -> Effectful[str]:
        try:
            yield Call(f"hang {name}")
        finally:
            header = log.header.cancelled
            assert header is not UNSET
            seen.append({header.at, *header.also} & {"0/1.1/1", "0/1.2/1"})
        yield Return("")

    desk = Desk()
    async with open_session(Parallel.all(looks("a"), looks("b")), *desk.handlers, into=log) as session:
        await desk.at("hang a").wait()
        await desk.at("hang b").wait()
        cancelled(await session.cancel())
    assert seen == [{"0/1.1/1", "0/1.2/1"}] * 2


def ends_here(_signal: object) -> None:
    """The process ends where the cancel would be delivered."""


async def test_a_cancel_that_was_recorded_and_not_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    """7.7 A process that ended between recording and delivering left a log from which the cleanup is done."""
    comp = Parallel.all(kept(calls("a", "hang"), "call"), kept(asks("b"), "question"))
    desk, log = Desk(), Log()
    async with open_session(comp, *desk.handlers, into=log) as session:
        await desk.at("hang").wait()
        while not log.waits:
            await anyio.lowlevel.checkpoint()
        monkeypatch.setattr(session, "_stop", ends_here)
        async with anyio.create_task_group() as group:
            group.start_soon(session.cancel)
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
            left = stored(log)
            group.cancel_scope.cancel()
        monkeypatch.undo()
    assert left.header.status == "cancelled"
    assert "started" in states(left).values()
    later = Desk()
    with anyio.fail_after(5):
        outcome = cancelled(await resume(comp, left, *later.handlers))
    assert sorted(later.arrived) == ["release call", "release question"]
    assert "started" not in states(outcome.log).values()


@pytest.mark.parametrize("kept_entries", range(1, 9))
async def test_a_cleanup_that_was_cut_short_is_finished(kept_entries: int) -> None:
    """7.7 The process may end after any entry of the cleanup: `resume` finishes it, each effect under its own key."""
    desk, log = Desk(), Log()
    async with open_session(working(), *desk.handlers, into=log, id="r") as session:
        await everywhere(desk, log)
        before = len(log.entries)
        cancelled(await session.cancel())
    crashed = stored(log)
    del crashed.entries[before + kept_entries :]
    for index, entry in enumerate(crashed.entries):
        if entry.sig in ("Parallel.all", "Parallel.map", "Parallel.race", "with_timeout") and entry.id != "0/1":
            crashed.entries[index] = type(entry)(
                entry.id, entry.sig, entry.data, "started", deadline=entry.deadline, strands=entry.strands
            )
    later = Desk()
    with anyio.fail_after(10):
        outcome = cancelled(await resume(working(), crashed, *later.handlers))
    assert len(later.arrived) == len(CLEANUP) - kept_entries
    assert sorted([entry.id for entry in outcome.log.entries]) == sorted(entry.id for entry in log.entries)
    assert set(later.keys) <= {f"r/{entry.id}" for entry in log.entries[before + kept_entries :]}


async def test_refused_requests_of_branches_are_named() -> None:
    """5.3 Effects in a plain `finally` of a branch are refused, and the outcome names each with its line."""

    @computation
    async def refunds_too_late(name: str) -> Effectful[str]:
        try:
            yield Call(f"hang {name}")
        finally:
            yield Call(f"refund {name}")
        yield Return("")

    desk = Desk()
    async with open_session(Parallel.all(refunds_too_late("a"), refunds_too_late("b")), *desk.handlers) as session:
        await desk.at("hang a").wait()
        await desk.at("hang b").wait()
        outcome = cancelled(await session.cancel())
    assert sorted(desk.arrived) == ["hang a", "hang b"]
    assert len(outcome.refused) == 2
    assert all(request.startswith("Call at ") and f"{__file__}:" in request for request in outcome.refused)


async def test_a_branch_that_swallows_the_cancel_is_cancelled() -> None:
    """5.8 No `except BaseException` in a branch turns a cancelled run into a completed one."""

    @computation
    async def stubborn() -> Effectful[str]:
        for _ in range(3):
            try:
                yield Call("hang")
            except BaseException:  # noqa: BLE001, S110 - the point of the test
                pass
        yield Return("completed")

    desk = Desk()
    async with open_session(Parallel.all(stubborn(), stubborn()), *desk.handlers) as session:
        await desk.at("hang").wait()
        await anyio.lowlevel.checkpoint()
        outcome = cancelled(await session.cancel())
    assert set(desk.arrived) == {"hang"}
    replayed = cancelled(await replay(Parallel.all(stubborn(), stubborn()), stored(outcome.log), *Desk().handlers))
    assert states(replayed.log) == states(outcome.log)


async def test_a_suspended_log_is_cancelled_in_another_process() -> None:
    """7.7 The session that cancels need not be the one that began; each branch does its cleanup there."""
    comp = Parallel.all(kept(asks("a"), "a"), kept(asks("b"), "b"), kept(sleeps(), "sleep"))
    log = suspended(await start(comp, *Desk().handlers)).log
    desk = Desk()
    async with open_session(comp, *desk.handlers, log=stored(log)) as session:
        outcome = cancelled(await session.cancel("not today"))
    assert sorted(desk.arrived) == ["release a", "release b", "release sleep"]
    assert outcome.log.waits == []
    assert cancelled(await replay(comp, stored(outcome.log), *Desk().handlers)).log.to_json() == outcome.log.to_json()


async def test_a_cancel_while_losers_are_being_stopped() -> None:
    """7.7 A run cancel during the cleanup of a loser: that cleanup goes on to its end, and the run is cancelled."""
    desk = Desk("release slow")
    comp = kept(Parallel.race(quick=calls("x"), slow=kept(calls("hang"), "slow")), "root")
    async with open_session(comp, *desk.handlers) as session:
        await desk.at("release slow").wait()

        async def later() -> None:
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
            desk.let("release slow")

        async with anyio.create_task_group() as group:
            group.start_soon(later)
            outcome = cancelled(await session.cancel())
    assert desk.arrived[-2:] == ["release slow", "release root"]
    assert "started" not in states(outcome.log).values()
    for verb in AGAIN:
        same = cancelled(await verb(comp, stored(outcome.log), *(later_ := Desk()).handlers))
        assert later_.arrived == []
        assert same.log.to_json() == outcome.log.to_json()


GRACE = 0.1


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_computation, "CLEANUP_GRACE", GRACE)


@pytest.mark.usefixtures("short_grace")
async def test_a_cleanup_that_hangs_is_ended() -> None:
    """7.7 Cleanup in a branch has a grace time: one that hangs is ended after it, and nothing is left running."""
    desk = Desk()
    comp = Parallel.all(kept(calls("hang a"), "hang"), kept(calls("hang b"), "b"))
    async with open_session(kept(comp, "root"), *desk.handlers) as session:
        await desk.at("hang a").wait()
        await desk.at("hang b").wait()
        with anyio.fail_after(5):
            outcome = cancelled(await session.cancel())
    assert desk.arrived[-1] == "release root"
    assert "release b" in desk.arrived
    assert desk.running == set()
    replayed = cancelled(await replay(kept(comp, "root"), stored(outcome.log), *Desk().handlers))
    assert replayed.log.to_json() == outcome.log.to_json()


# -- host cancel -----------------------------------------------------------------------------------------------------


async def test_a_host_cancel_is_a_cold_suspension_of_all_strands() -> None:
    """7.7 Host cancel: nothing is recorded, calls in flight stay started, no cleanup effect is performed."""
    desk, log = Desk(), Log()
    scope = anyio.CancelScope()

    async def host() -> None:
        await everywhere(desk, log)
        scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(host)
        with scope:
            await start(working(), *desk.handlers, into=log, id="r")
    assert scope.cancelled_caught
    assert desk.running == set()
    assert not any(name.startswith("release") and name != "release done" for name in desk.arrived)
    assert "discarded" not in states(log).values()
    assert log.header.cancelled is UNSET
    later = Desk()
    cut = stored(log)
    async with open_session(working(), *later.handlers, log=cut) as session:
        for name in ("hang", "hang one", "hang timed", "hang m"):
            await later.at(name).wait()
    assert sorted(later.arrived) == ["hang", "hang m", "hang one", "hang timed"]
    assert set(later.keys) <= set(desk.keys)
    assert len(session.log.waits) == 2


async def test_plain_cleanup_of_branches_runs_at_a_host_cancel() -> None:
    """7.6 Plain `finally` and `async with` code of each branch runs, with its awaits."""
    left: list[str] = []

    @computation
    async def frees(name: str) -> Effectful[str]:
        try:
            yield Call(f"hang {name}")
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
            left.append(name)
        yield Return("")

    desk = Desk()
    ready = anyio.Event()
    comp = Parallel.all(frees("a"), frees("b"))

    async def both() -> None:
        await desk.at("hang a").wait()
        await desk.at("hang b").wait()
        ready.set()

    async with anyio.create_task_group() as group:
        group.start_soon(both)
        log = await host_cancelled(comp, *desk.handlers, when=ready)
    assert sorted(left) == ["a", "b"]
    assert states(log) == {"0/1": "started", "0/1.1/1": "started", "0/1.2/1": "started"}


async def test_a_host_cancel_of_a_parked_run() -> None:
    """7.7 Cancelling whoever waits for a parked session leaves all waits open."""
    scope = anyio.CancelScope()
    with scope:
        async with open_session(Parallel.all(asks("a"), asks("b")), *Desk().handlers) as session:
            suspended(await session.outcome())
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert session.log.header.status == "suspended"
    assert len(session.log.waits) == 2


async def test_a_host_cancel_while_a_resume_is_on_its_way() -> None:
    """7.7 A resume that is cancelled at once, or in the middle of its replay, leaves a log that goes on."""
    comp = Parallel.all(asks("a"), calls("b", "c"), Parallel.map(calls, ["d", "e", "f"], limit=2))
    log = suspended(await start(comp, *Desk().handlers)).log
    for steps in range(12):
        into = Log()
        async with anyio.create_task_group() as group:

            async def runs(into: Log = into) -> None:
                await resume(comp, stored(log), *Desk().handlers, answer="yes", into=into)

            group.start_soon(runs)
            for _ in range(steps):
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        if not into.header.computation:
            continue  # it had not begun
        desk = Desk()
        outcome: Any = await again(comp, into, *desk.handlers, **({"answer": "yes"} if into.waits else {}))
        assert completed(outcome).value == ("a: yes", "C", ["D", "E", "F"])
        assert set(desk.arrived) <= {"after a"}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("how", ["leave", "host", "run", "error", "fault"])
async def test_no_task_is_left_running(how: str) -> None:
    """7.7 However a run with strands ends, none of its tasks is left."""
    before = asyncio.all_tasks()
    desk, log = Desk(), Log()
    comp = working()
    if how == "host":
        task = asyncio.create_task(start(comp, *desk.handlers, into=log))
        await everywhere(desk, log)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    elif how in ("leave", "run"):
        async with open_session(comp, *desk.handlers, into=log) as session:
            await everywhere(desk, log)
            if how == "run":
                await session.cancel()
    else:
        late = Call("late") if how == "error" else "not an effect"

        @computation(name="strands:breaks")
        async def breaks() -> Effectful[str]:
            for name in EVERYWHERE:
                await desk.at(name).wait()
            yield late  # type: ignore[misc]  # pyright: ignore[reportReturnType]
            yield Return("")

        desk._errors["late"] = ValueError("late")
        both = Parallel.all(comp, breaks())
        if how == "error":
            failed(await start(both, *desk.handlers))
        else:
            with pytest.raises(NotAnEffectError):
                await start(both, *desk.handlers)
    assert asyncio.all_tasks() <= before
    assert desk.running == set()


# -- warnings --------------------------------------------------------------------------------------------------------

SCRIPT = """
    import asyncio, gc, sys, anyio
    from datetime import timedelta
    from skuld_async import *
    from skuld_async.testing import VirtualClock

    class Slow(Effect[int], frozen=True): ...
    class Quick(Effect[int], frozen=True): ...
    class Boom(Effect[int], frozen=True): ...
    class Ask(Yield[int], frozen=True): ...
    class Nobody(Effect[int], frozen=True): ...

    HOUR = timedelta(hours=1)

    async def slow(_):
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0)

    async def quick(_):
        await anyio.sleep(0)
        return 1

    async def boom(_):
        await anyio.sleep(0)
        raise ValueError("v")

    HANDLERS = [Slow.handled_by(slow), Quick.handled_by(quick), Boom.handled_by(boom)]

    @computation
    async def does(kind: str) -> Effectful[int]:
        with anyio.CancelScope():
            try:
                if kind == "slow":
                    yield Slow()
                elif kind == "boom":
                    yield Quick()
                    yield Boom()
                elif kind == "idle":
                    await anyio.sleep_forever()
                elif kind == "nobody":
                    yield Quick()
                    yield Nobody()
                elif kind == "ask":
                    yield Ask()
                elif kind == "at once":
                    pass
                else:
                    await quick(None)
                    yield Quick()
            finally:
                await anyio.lowlevel.checkpoint()
        yield Return(1)

    def kept(kind):
        return does(kind).ensure(Quick())

    def teams():
        for last in ("quick", "boom", "nobody", "ask", "slow"):
            yield Parallel.all(kept("slow"), kept("idle"), kept("at once"), kept(last))
            yield Parallel.race(slow=kept("slow"), idle=kept("idle"), ask=kept("ask"), last=kept(last))
            yield Parallel.map(kept, ["quick", "at once", last, "slow", "idle"], limit=2)
            yield Parallel.map(kept, ["quick", last, "at once"], settle=True)
            yield with_timeout(Parallel.all(kept("slow"), with_timeout(kept(last), HOUR / 2)), HOUR)
            yield Parallel.race(a=Parallel.all(kept("slow"), kept("ask")), b=with_timeout(kept(last), HOUR))

    async def turn():
        for _ in range(30):
            await anyio.sleep(0)

    async def ends(comp, how):
        clock = VirtualClock()
        handlers = [*HANDLERS, clock.handler()]
        log = Log()
        try:
            if how == "host":
                async with anyio.create_task_group() as group:
                    async def host():
                        await start(comp, *handlers, into=log)
                    group.start_soon(host)
                    await turn()
                    group.cancel_scope.cancel()
            else:
                async with open_session(comp, *handlers, into=log) as session:
                    await turn()
                    if how == "run":
                        await session.cancel()
                    elif how == "time":
                        clock.advance(HOUR)
                        await turn()
        except* (UnhandledEffectError, UnencodableError):  # the errors of `settle=True` are no result
            pass
        return log

    @computation
    async def runs(comp) -> Effectful[int]:
        yield Return((yield comp))

    async def bare(comp):
        with anyio.move_on_after(0.002):
            try:
                await run(runs(comp), *HANDLERS, Ask.always(1))
            except (ValueError, UnhandledEffectError):
                pass

    async def main():
        loop = None
        if sys.argv[1] == "asyncio":
            loop = asyncio.get_running_loop()
            loop.slow_callback_duration = 60
            if len(sys.argv) > 2:
                loop.set_task_factory(asyncio.eager_task_factory)
        count = 0
        for how in ("leave", "host", "run", "time"):
            for comp in teams():
                log = await ends(comp, how)
                again = await ends(comp, "leave") if log.header.status == "running" else None
                if log.header.computation:
                    try:
                        async with open_session(comp, *HANDLERS, VirtualClock().handler(), log=log) as session:
                            await turn()
                    except (UnhandledEffectError, UnencodableError):
                        pass
                count += 1
        for comp in teams():
            await bare(comp)
        gc.collect()
        await turn()
        if loop is not None:
            assert len(asyncio.all_tasks()) == 1, asyncio.all_tasks()

    options = {"debug": True} if sys.argv[1] == "asyncio" else {}
    anyio.run(main, backend=sys.argv[1], backend_options=options)
    gc.collect()
    print("done")
"""


@pytest.mark.parametrize(
    "backend",
    ["asyncio", "trio", *(["asyncio eager"] if sys.version_info >= (3, 12) else [])],
)
def test_no_warning_is_left_behind(backend: str) -> None:
    """7.7 No task is destroyed, no scope left in another task, no coroutine never awaited: debug mode, eager tasks."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(SCRIPT), *backend.split()],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout == "done\n"
