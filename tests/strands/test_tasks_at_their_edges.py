"""Tasks where they meet what stops a run: host and run cancels, crashes, loops, transactions, divergences."""

import subprocess
import sys
import textwrap
from datetime import timedelta

import anyio
import pytest

from skuld_async import (
    Clock,
    DivergenceError,
    Effectful,
    MisuseError,
    Parallel,
    Return,
    UnhandledEffectError,
    bracket,
    cancel,
    computation,
    fork,
    join,
    mark_loop,
    open_session,
    resume,
    run,
    start,
    with_timeout,
)
from skuld_async.testing import VirtualClock

from .parts import (
    Ask,
    Call,
    Desk,
    Release,
    again,
    calls,
    cancelled,
    comes_to_the_same,
    completed,
    crash_anywhere,
    failed,
    host_cancelled,
    notes,
    states,
    stored,
    suspended,
    tells,
)


@computation
async def holds(name: str) -> Effectful[str]:
    """Hangs with something acquired."""
    yield Return((yield bracket(Call(f"acquire {name}"), lambda _: calls(f"hang {name}"), Release)))


# -- cancels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["hold", "call", "question", "branches", "join"])
async def test_a_run_cancel_reaches_tasks(where: str) -> None:
    """7.7 A run cancel stops tasks with their parent, wherever that is; their brackets are released, on replay too."""

    @computation
    async def body() -> Effectful[str]:
        task = yield fork(holds("task"))
        if where == "call":
            yield Call("hang")
        elif where == "question":
            yield Ask("anything")
        elif where == "branches":
            yield Parallel.all(holds("a"), calls("hang b"))
        elif where == "join":
            yield join(task)
        yield Return("not reached")

    desk = Desk()
    async with open_session(body(), *desk.handlers) as session:
        await desk.at("hang task").wait()
        if where == "branches":
            await desk.at("hang a").wait()
            await desk.at("hang b").wait()
        outcome = cancelled(await session.cancel("enough"))
    assert desk.running == set()
    assert "release ACQUIRE TASK" in desk.arrived
    assert ("release ACQUIRE A" in desk.arrived) == (where == "branches")
    assert "started" not in states(outcome.log).values()
    await comes_to_the_same(body(), outcome)


async def test_a_run_cancel_in_an_await_of_a_task() -> None:
    """A task that was stopped in an await of its own stops there on each replay, and so does its parent."""
    desk = Desk()
    there = anyio.Event()

    @computation
    async def thinks() -> Effectful[None]:
        yield notes.tell("before")
        there.set()
        await anyio.sleep_forever()

    @computation
    async def body() -> Effectful[None]:
        yield fork(thinks())
        yield Call("a")

    async with open_session(body(), *desk.handlers) as session:
        await there.wait()
        while "a" not in desk.arrived or desk.running:
            await anyio.lowlevel.checkpoint()
        outcome = cancelled(await session.cancel())
    await comes_to_the_same(body(), outcome)


async def test_a_host_cancel_leaves_tasks_to_the_next_resume() -> None:
    """7.7 A host cancel records nothing: nothing is left running, in-flight calls of tasks stay started and go on."""

    @computation
    async def body() -> Effectful[list[str]]:
        first = yield fork(bracket(Call("acquire"), lambda _: calls("a", "b"), Release))
        second = yield fork(calls("c"))
        yield Return([(yield join(first)), (yield join(second))])

    desk = Desk("a", "c")
    log = await host_cancelled(body(), *desk.handlers, when=desk.at("a"))
    assert desk.running == set()
    assert not any(name.startswith("release") for name in desk.arrived)
    assert states(log)["0/1"] == "started"
    later = Desk()
    outcome = completed(await again(body(), log, *later.handlers))
    assert outcome.value == ["B", "C"]
    assert "acquire" not in later.arrived
    assert later.arrived.count("release ACQUIRE") == 1
    done = dict(zip(desk.keys, desk.arrived, strict=True))
    assert all(done.get(key, name) == name for key, name in zip(later.keys, later.arrived, strict=True))


async def test_a_losing_branch_stops_its_tasks() -> None:
    """A branch that loses a race is stopped with its tasks, whose brackets are released before the race is over."""

    @computation
    async def loses() -> Effectful[str]:
        yield fork(holds("task"))
        yield Return("held for ever")

    @computation
    async def wins() -> Effectful[str]:
        await desk.at("hang task").wait()
        yield Return("won")

    @computation
    async def body() -> Effectful[tuple[str, bool]]:
        won = yield Parallel.race(slow=loses(), fast=wins())
        yield Return((won.name, (yield Call("after")) == "AFTER"))

    desk = Desk()
    outcome = completed(await start(body(), *desk.handlers))
    assert outcome.value == ("fast", True)
    assert desk.arrived[-2:] == ["release ACQUIRE TASK", "after"]
    await comes_to_the_same(body(), outcome)


async def test_a_timeout_stops_the_tasks_inside() -> None:
    """`with_timeout` stops the tasks of what it stops; a task with a sleep of its own wakes by itself."""
    clock = VirtualClock()

    @computation
    async def slow() -> Effectful[str]:
        yield fork(holds("task"))
        yield Return("never")

    @computation
    async def naps() -> Effectful[str]:
        yield Clock.sleep(timedelta(minutes=5))
        yield Return("rested")

    @computation
    async def body() -> Effectful[tuple[bool, str]]:
        task = yield fork(naps())
        said = yield with_timeout(slow(), timedelta(minutes=1))
        yield Return((said == "never", (yield join(task))))

    desk = Desk()
    async with open_session(body(), *desk.handlers, clock.handler()) as session:
        await desk.at("hang task").wait()
        clock.advance(timedelta(minutes=1))
        await desk.at("release ACQUIRE TASK").wait()
        waiting = suspended(await session.outcome())
        assert waiting.wake_at == clock.now + timedelta(minutes=4)
    clock.advance(timedelta(minutes=4))
    outcome = completed(await again(body(), session.log, *Desk().handlers, clock.handler()))
    assert outcome.value == (False, "rested")


# -- several failures --------------------------------------------------------------------------------------------------


async def test_a_task_of_an_activation_further_out_fails_while_an_inner_one_is_held() -> None:
    """An activation held at its `Return` is stopped, with its tasks, for a task of one around it; each replay knows."""
    desk = Desk("outer", errors={"outer": LookupError("outer")})

    @computation
    async def inner() -> Effectful[str]:
        yield fork(holds("inner"))
        yield Return("held")

    @computation
    async def middle() -> Effectful[str]:
        yield fork(calls("outer"))
        try:
            yield Return((yield inner()))
        finally:
            with pytest.raises(BaseException):  # noqa: B017, PT011 - a signal
                yield notes.tell("refused")

    @computation
    async def body() -> Effectful[str]:
        try:
            yield middle()
        except LookupError:
            yield Return((yield Call("then")))

    async with open_session(body(), *desk.handlers) as session:
        await desk.at("hang inner").wait()
        desk.let("outer")
        outcome = completed(await session.outcome())
    assert outcome.value == "THEN"
    assert outcome.output(notes) == []
    assert desk.arrived[-2:] == ["release ACQUIRE INNER", "then"]
    await comes_to_the_same(body(), outcome)


@pytest.mark.parametrize("order", [("task", "call"), ("call", "task")])
async def test_a_failure_comes_while_the_answer_is_on_its_way(order: tuple[str, str]) -> None:
    """Where a task fails at the moment at which a call is answered, a replay comes to the same, whichever was first."""
    answers: list[str] = []

    @computation
    async def forks() -> Effectful[None]:
        yield fork(calls("task"))
        answers.append((yield Call("call")))
        yield notes.tell("answered")
        yield Call("hang")

    @computation
    async def body() -> Effectful[str]:
        try:
            yield forks()
        except LookupError:
            yield Return(",".join(answers))

    for _ in range(8):  # who is stepped first is chance
        answers.clear()
        desk = Desk("task", "call", errors={"task": LookupError("gone")})
        async with open_session(body(), *desk.handlers) as session:
            await desk.at("task").wait()
            await desk.at("call").wait()
            desk.let(*order)
            outcome = completed(await session.outcome())
        assert (outcome.value == "CALL") == (states(outcome.log)["0/3"] == "executed")
        answers.clear()
        await comes_to_the_same(body(), outcome)


async def test_cleanup_is_not_cut_short_by_a_failure() -> None:
    """A release that is under way when a task fails comes to its end; then the activation is stopped."""
    desk = Desk("task", "release A", errors={"task": LookupError("gone")})

    @computation
    async def forks() -> Effectful[None]:
        yield fork(calls("task"))
        yield bracket(Call("a"), lambda _: calls("b"), Release)
        yield Call("refused")

    @computation
    async def body() -> Effectful[str]:
        try:
            yield forks()
        except LookupError:
            yield Return("caught")

    async with open_session(body(), *desk.handlers) as session:
        await desk.at("release A").wait()
        desk.let("task")
        while "task" in desk.running:
            await anyio.lowlevel.checkpoint()
        assert "release A" in desk.running
        desk.let("release A")
        outcome = completed(await session.outcome())
    assert "refused" not in desk.arrived
    assert [entry.state for entry in outcome.log.entries if entry.sig.endswith(":Release")] == ["executed"]
    await comes_to_the_same(body(), outcome)


async def test_a_body_that_swallows_the_failure_goes_nowhere() -> None:
    """No `except BaseException` turns a failed task into success: further requests are refused, the error comes out."""
    desk = Desk("task", errors={"task": LookupError("gone")})

    @computation
    async def stubborn() -> Effectful[str]:
        yield fork(calls("task"))
        for name in ("hang", "b", "c"):
            try:
                yield Call(name)
            except BaseException:  # noqa: BLE001, S112 - what is tested
                continue
        yield Return("made it")

    async with open_session(stubborn(), *desk.handlers) as session:
        await desk.at("hang").wait()
        desk.let("task")
        outcome = failed(await session.outcome())
    assert repr(outcome.error) == "LookupError('gone')"
    assert sorted(desk.arrived) == ["hang", "task"]
    await comes_to_the_same(stubborn(), outcome)


# -- loops -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("logged", [True, False])
async def test_a_mark_refuses_to_lose_a_task(ended: bool, logged: bool) -> None:
    """A task of an iteration is joined or cancelled in it, whether it still runs or not: the next mark says so."""
    desk = Desk()

    @computation
    async def body() -> Effectful[None]:
        while True:
            yield mark_loop("loop")
            task = yield fork(calls("a" if ended else "hang"))
            while ended and not task.has_ended:
                await anyio.lowlevel.checkpoint()
            yield Call("b")

    with pytest.raises(MisuseError, match=r"would drop .*calls, the task 0/loop@0#1/1[\s\S]*yield join\(task\)"):
        await (start if logged else run)(body(), *desk.handlers)
    assert desk.running == set()


@pytest.mark.parametrize("settle", [join, cancel])
async def test_a_loop_with_a_task_in_each_iteration(settle: object) -> None:
    """A task that is joined or cancelled is pruned with its iteration, and what it told is kept, after any crash."""
    ask = join if settle is join else cancel

    @computation
    async def body() -> Effectful[int]:
        turns = 0
        while turns < 3:
            turns = yield mark_loop("loop", int, carry=turns)
            task = yield fork(tells(f"turn {turns}"))
            while not task.has_ended:
                await anyio.lowlevel.checkpoint()
            yield ask(task)
            turns += 1
        yield Return(turns)

    outcome = completed(await crash_anywhere(body(), Desk()))
    assert outcome.output(notes) == ["turn 0", "turn 1", "turn 2"]
    assert not any("#1" in entry.id or "#2" in entry.id for entry in outcome.log.entries)


async def test_a_task_that_was_forked_before_the_loop() -> None:
    """A task from before the loop lives through its iterations, and is joined after them."""

    @computation
    async def body() -> Effectful[str]:
        task = yield fork(asks_then("task"))
        turns = 0
        while turns < 3:
            turns = yield mark_loop("loop", int, carry=turns)
            yield Call(f"turn {turns}")
            turns += 1
        yield Return((yield join(task)))

    @computation
    async def asks_then(name: str) -> Effectful[str]:
        yield Call(name)
        yield Return((yield Ask(name)))

    first = suspended(await start(body(), *Desk().handlers))
    second = completed(await again(body(), first.log, *Desk().handlers, answer="yes"))
    assert second.value == "yes"
    await comes_to_the_same(body(), second)


async def test_a_loop_inside_a_task() -> None:
    """Marks in a task prune what is the task's own, and nothing of its parent's."""

    @computation
    async def loops() -> Effectful[int]:
        turns = 0
        while turns < 3:
            turns = yield mark_loop("loop", int, carry=turns)
            inner = yield fork(calls(f"turn {turns}"))
            yield join(inner)
            turns += 1
        yield Return(turns)

    @computation
    async def body() -> Effectful[int]:
        task = yield fork(loops())
        yield Call("a")
        yield Return((yield join(task)))

    outcome = completed(await crash_anywhere(body(), Desk()))
    assert outcome.value == 3
    assert [one for one in states(outcome.log) if "loop" in one and "#3" not in one] == []


# -- faults ------------------------------------------------------------------------------------------------------------


async def test_a_fault_in_a_task_is_a_fault_of_the_run() -> None:
    """An effect that nothing handles, in a task, is raised by `start`; nothing is left running; a resume goes on."""
    desk = Desk()

    @computation
    async def asks_for_more() -> Effectful[str]:
        yield Call("a")
        yield Return((yield Release("b")))

    @computation
    async def body() -> Effectful[str]:
        task = yield fork(asks_for_more())
        yield fork(holds("other"))
        yield Return((yield join(task)))

    @computation
    async def fixed() -> Effectful[str]:
        task = yield fork(asks_for_more())
        yield Return((yield join(task)))

    with pytest.raises(UnhandledEffectError) as caught:
        await start(body(), desk.handlers[0])
    assert desk.running == set()
    assert caught.value.log is not None
    with pytest.raises(UnhandledEffectError) as other:
        await start(fixed(), desk.handlers[0])
    assert other.value.log is not None
    outcome = completed(await again(fixed(), other.value.log, *Desk().handlers))
    assert outcome.value == "B"


async def test_a_task_that_does_something_else_is_a_divergence() -> None:
    """6.4 What a task logged is matched in its own strand: another request there is refused before it is made."""
    names = ["a"]

    @computation
    async def changing() -> Effectful[str]:
        task = yield fork(calls(*names))
        yield Ask("anything")
        yield Return((yield join(task)))

    first = suspended(await start(changing(), *Desk().handlers))
    names[0] = "b"
    desk = Desk()
    with pytest.raises(DivergenceError, match="Call"):
        await resume(changing(), stored(first.log), *desk.handlers, answer="")
    assert desk.arrived == []
    names[:] = []
    with pytest.raises(DivergenceError):
        await resume(changing(), stored(first.log), *desk.handlers, answer="")


# -- what is left behind -----------------------------------------------------------------------------------------------

SCRIPT = """
    import asyncio, sys, warnings
    warnings.simplefilter("error")
    import anyio
    from skuld_async import Effect, Effectful, Return, bracket, cancel, computation
    from skuld_async import fork, join, open_session, run, start

    class Call(Effect[str], frozen=True):
        name: str

    async def serve(effect):
        if effect.name == "hang":
            await anyio.sleep_forever()
        await anyio.sleep(0)
        if effect.name == "fail":
            raise LookupError("fail")
        return effect.name

    @computation
    async def call(name: str) -> Effectful[str]:
        yield Return((yield Call(name)))

    @computation
    async def calls(name: str) -> Effectful[str]:
        yield Return((yield bracket(Call("acquire"), lambda _: call(name), lambda _: Call("release"))))

    @computation
    async def body(name: str) -> Effectful[str]:
        first = yield fork(calls("a"))
        second = yield fork(calls("hang"))
        third = yield fork(calls(name))
        yield join(first)
        yield cancel(second)
        yield Return((yield join(third)))

    handler = Call.handled_by(serve)

    async def main():
        for name in ("b", "fail"):
            await start(body(name), handler)
            try:
                await run(body(name), handler)
            except LookupError:
                pass
        async with open_session(body("hang"), handler) as session:
            for _ in range(50):
                await anyio.sleep(0)
            await session.cancel()
        async with open_session(body("hang"), handler) as session:
            for _ in range(50):
                await anyio.sleep(0)

    async def on_asyncio():
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = 60  # seconds: a slow machine is no finding
        if sys.argv[1] == "eager":
            loop.set_task_factory(asyncio.eager_task_factory)
        await main()
        assert len(asyncio.all_tasks()) == 1

    if sys.argv[1] == "trio":
        anyio.run(main, backend="trio")
    else:
        asyncio.run(on_asyncio(), debug=True)
"""


@pytest.mark.parametrize(
    "how",
    ["debug", "trio", *(["eager"] if sys.version_info >= (3, 12) else [])],
)
def test_nothing_is_left_behind(how: str) -> None:
    """In debug mode, on trio, and with eager tasks (3.12+), tasks leave no warning and nothing running behind."""
    found = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(SCRIPT), how],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (found.returncode, found.stderr) == (0, "")
