"""`fork`, `join` and `cancel`: tasks in the background of the activation that forked them."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from skuld_async import (
    Completed,
    Effectful,
    Failed,
    MisuseError,
    Parallel,
    Return,
    TaskCancelledError,
    bracket,
    cancel,
    computation,
    fork,
    join,
    open_session,
    replay,
    start,
)
from skuld_async.testing import always_cold

from .parts import (
    Ask,
    Call,
    Desk,
    Release,
    about,
    again,
    asks,
    calls,
    comes_to_the_same,
    completed,
    counter,
    crash_anywhere,
    failed,
    happened,
    notes,
    states,
    stored,
    suspended,
    tells,
    waits_by_name,
)


async def test_a_task_runs_beside_the_one_that_forked_it() -> None:
    """`fork` answers a `Task` at once; both go on; `join` gives what the task returned, however often it is asked."""
    desk = Desk("task")

    @computation
    async def body() -> Effectful[list[str]]:
        task = yield fork(calls("task"))
        assert repr(task).startswith("<Task 0/1: ")
        assert not task.has_ended
        yield Call("beside")
        desk.let("task")
        yield Return([(yield join(task)), (yield join(task))])

    outcome = completed(await start(body(), *desk.handlers))
    assert outcome.value == ["TASK", "TASK"]
    assert states(outcome.log) == dict.fromkeys(["0/1", "0/1.1/1", "0/2", "0/3", "0/4"], "executed")
    await comes_to_the_same(body(), outcome)


async def test_an_effect_is_a_task_too() -> None:
    """What is forked may be a mere effect."""

    @computation
    async def body() -> Effectful[str]:
        task = yield fork(Call("a"))
        yield Return((yield join(task)))

    assert completed(await crash_anywhere(body(), Desk())).value == "A"


async def test_a_return_is_held_until_the_tasks_have_ended() -> None:
    """An activation ends after its tasks: its `async with` is open until then, and its caller goes on after it."""
    desk = Desk("task")
    order: list[str] = []

    @asynccontextmanager
    async def scope() -> AsyncGenerator[None]:
        order.append("open")
        yield
        order.append("closed")

    @computation
    async def in_background() -> Effectful[None]:
        yield Call("task")
        order.append("task")

    @computation
    async def forks() -> Effectful[str]:
        async with scope():
            yield fork(in_background())
            yield Return("value")
            order.append("resumed")

    @computation
    async def body() -> Effectful[str]:
        value = yield forks()
        order.append("caller")
        yield Return(value)

    async with open_session(body(), *desk.handlers) as session:
        await desk.at("task").wait()
        assert order == ["open"]
        desk.let("task")
        outcome = completed(await session.outcome())
    assert outcome.value == "value"
    assert order == ["open", "task", "resumed", "closed", "caller"]


@pytest.mark.parametrize("how", ["plain", "without Return", "handler"])
async def test_each_kind_of_activation_waits_for_its_tasks(how: str) -> None:
    """A plain coroutine, a body that ends without `Return` and a handler's computation wait for their tasks too."""

    @computation
    async def plain() -> str:
        await fork(calls("task"))
        return "done"

    @computation
    async def without() -> Effectful[str | None]:
        yield fork(calls("task"))

    @computation
    async def handler(_: Call) -> Effectful[str]:
        yield fork(Release("task"))
        yield Return("done")

    @computation
    async def body() -> Effectful[str]:
        if how == "handler":
            yield calls("x").handle(Call.handled_by(handler))
        else:
            yield plain() if how == "plain" else without()
        yield Return((yield Release("after")))

    desk = Desk()
    outcome = completed(await start(body(), *desk.handlers))
    assert [name.removeprefix("release ") for name in desk.arrived] == ["task", "after"]
    await comes_to_the_same(body(), outcome)


@pytest.mark.parametrize("where", ["call", "question", "branches", "join", "hold"])
async def test_an_error_in_a_task_stops_its_activation_wherever_it_waits(where: str) -> None:  # noqa: C901 - a case each
    """A failed task cuts short what its activation waits for, whose brackets are released; the error comes out of it.

    It can be caught there, around the activation, and is recorded where it took effect.
    """
    desk = Desk("task", errors={"task": LookupError("gone")})

    @computation
    async def forks() -> Effectful[str]:
        yield fork(calls("task"))
        other = yield fork(calls("hang a"))
        if where == "call":
            yield Call("hang")
        elif where == "question":
            yield Ask("anything")
        elif where == "branches":
            yield Parallel.all(calls("hang b"), asks("more"))
        elif where == "join":
            yield join(other)
        yield Return("held")

    @computation
    async def body() -> Effectful[str]:
        try:
            yield bracket(Call("acquire"), lambda _: forks(), Release)
        except LookupError as error:
            yield Return(f"caught {error} {(yield Call('then'))}")

    async with open_session(body(), *desk.handlers) as session:
        await desk.at("hang a").wait()
        if where == "call":
            await desk.at("hang").wait()
        elif where == "question":
            while not session.log.waits:
                await anyio.lowlevel.checkpoint()
        elif where == "branches":
            await desk.at("hang b").wait()
        desk.let("task")
        outcome = completed(await session.outcome())
    assert outcome.value == "caught gone THEN"
    assert desk.running == set()
    assert desk.arrived[-2:] == ["release ACQUIRE", "then"]
    cut = {entry.sig.rpartition(":")[2] for entry in outcome.log.entries if getattr(entry.error, "kind", "") == "task"}
    expected = {"call": "Call", "question": "Ask", "branches": "Parallel.all", "join": "join", "hold": "fork"}
    assert expected[where] in cut
    await comes_to_the_same(body(), outcome)


async def test_an_error_takes_effect_at_the_next_request_that_waits() -> None:
    """A failure while the activation computes is noticed at its next request that waits, on each replay at the same."""
    desk = Desk("task", errors={"task": LookupError("gone")})

    @computation
    async def forks() -> Effectful[None]:
        task = yield fork(calls("task"))
        desk.let("task")
        while not task.has_ended:
            await anyio.lowlevel.checkpoint()
        yield counter.put(7)
        yield Call("refused")

    @computation
    async def body() -> Effectful[int]:
        with pytest.raises(LookupError):
            yield forks()
        yield Return((yield counter.get()))

    outcome = completed(await start(body(), *desk.handlers))
    assert outcome.value == 7
    assert desk.arrived == ["task"]
    await comes_to_the_same(body(), outcome)


def errors_in(outcome: Failed) -> list[str]:
    """The errors of the group that the run failed with."""
    group: Any = outcome.error
    assert type(group) is ExceptionGroup
    return [repr(error) for error in group.exceptions]


async def test_several_failed_tasks_are_a_group() -> None:
    """The errors of several tasks come out as one ExceptionGroup in the order of the forks, the same tree on replay."""
    desk = Desk(errors={"a": LookupError("a"), "release b": ValueError("b")})

    @computation
    async def body() -> Effectful[None]:
        yield fork(bracket(Call("b"), lambda _: calls("hang"), lambda _: Release("b")))
        yield fork(fails())
        yield Call("hang too")

    @computation
    async def fails() -> Effectful[None]:
        await desk.at("hang").wait()
        yield Call("a")

    outcome = failed(await start(body(), *desk.handlers))
    assert errors_in(outcome) == ["ValueError('b')", "LookupError('a')"]
    again_ = failed(await replay(body(), stored(outcome.log), *Desk().handlers))
    assert errors_in(again_) == errors_in(outcome)
    assert again_.log.to_json() == outcome.log.to_json()


async def test_an_activation_that_raises_stops_its_tasks_first() -> None:
    """An activation that raises waits for the cleanup of its tasks; then its own error comes out of it."""
    desk = Desk()

    @computation
    async def forks() -> Effectful[None]:
        yield fork(bracket(Call("acquire"), lambda _: calls("hang"), Release))
        await desk.at("hang").wait()
        message = "own"
        raise ValueError(message)

    @computation
    async def body() -> Effectful[list[str]]:
        try:
            yield forks()
        except ValueError:
            yield Return(desk.arrived[-1:])

    outcome = completed(await start(body(), *desk.handlers))
    assert outcome.value == ["release ACQUIRE"]
    assert desk.running == set()


async def test_its_own_error_and_those_of_its_tasks_are_a_group() -> None:
    """Where the activation and a task raise, both errors come out, the activation's first."""
    desk = Desk(errors={"release a": LookupError("task")})

    @computation
    async def body() -> Effectful[None]:
        yield fork(bracket(Call("a"), lambda _: calls("hang"), lambda _: Release("a")))
        while "hang" not in desk.running and not desk.at("hang").is_set():
            await anyio.lowlevel.checkpoint()
        message = "own"
        raise ValueError(message)

    outcome = failed(await start(body(), *desk.handlers))
    assert errors_in(outcome) == ["ValueError('own')", "LookupError('task')"]


async def test_only_the_activation_that_forked_it_is_stopped() -> None:
    """An activation further in is stopped with the one that forked the task; the one around it goes on."""
    desk = Desk("task", errors={"task": LookupError("gone")})

    @computation
    async def inner() -> Effectful[None]:
        try:
            yield Call("hang")
        except BaseException:
            with pytest.raises(BaseException):  # noqa: B017, PT011 - a signal
                yield counter.put(1)
            raise

    @computation
    async def middle() -> Effectful[None]:
        yield fork(calls("task"))
        yield inner()

    @computation
    async def body() -> Effectful[str]:
        try:
            yield middle()
        except LookupError:
            assert (yield counter.get()) == 0
            yield Return((yield Call("goes on")))

    async with open_session(body(), *desk.handlers) as session:
        await desk.at("hang").wait()
        desk.let("task")
        outcome = completed(await session.outcome())
    assert outcome.value == "GOES ON"
    await comes_to_the_same(body(), outcome)


async def test_state_in_a_task_is_a_copy_made_at_the_fork() -> None:
    """A task sees the state as it was at the fork, whatever is put later, and what it puts is its own."""
    desk = Desk("task")

    @computation
    async def in_background() -> Effectful[int]:
        yield Call("task")
        seen = yield counter.get()
        yield counter.put(100)
        yield Return(seen)

    @computation
    async def body() -> Effectful[tuple[int, int]]:
        yield counter.put(1)
        task = yield fork(in_background())
        yield counter.put(2)
        desk.let("task")
        seen = yield join(task)
        yield Return((seen, (yield counter.get())))

    outcome = completed(await start(body(), *desk.handlers))
    assert outcome.value == (1, 2)
    await comes_to_the_same(body(), outcome)


async def test_notes_are_added_at_the_join_or_at_the_end_in_the_order_of_forks() -> None:
    """What a task told is added where it is joined, else at the end in the order of the forks, whoever ends first."""
    desk = Desk("a", "b")

    @computation
    async def body() -> Effectful[list[str]]:
        yield notes.tell("before")
        yield fork(tells("a"))
        yield fork(tells("b"))
        joined = yield fork(tells("c"))
        yield notes.tell("between")
        yield join(joined)
        seen = yield notes.peek()
        desk.let("b")
        yield Call("more")
        desk.let("a")
        yield Return(seen)

    outcome = completed(await start(body(), *desk.handlers))
    assert outcome.value == ["before", "between", "c"]
    assert outcome.output(notes) == ["before", "between", "c", "a", "b"]
    assert outcome.output(happened) == ["c", "a", "b"]
    await comes_to_the_same(body(), outcome)


async def test_a_failed_activation_adds_no_notes_of_its_tasks() -> None:
    """Nothing that was not joined is added where the activation fails, however far each task had come."""
    desk = Desk("task", errors={"task": LookupError("gone")})

    @computation
    async def forks() -> Effectful[None]:
        yield fork(tells("a"))
        yield fork(calls("task"))

    @computation
    async def body() -> Effectful[list[str]]:
        try:
            yield forks()
        except LookupError:
            yield Return((yield notes.peek()))

    async with open_session(body(), *desk.handlers) as session:
        await desk.at("a").wait()
        while "a" in desk.running:
            await anyio.lowlevel.checkpoint()
        desk.let("task")
        outcome = completed(await session.outcome())
    assert outcome.value == []
    await comes_to_the_same(body(), outcome)


async def test_cancel_waits_for_the_cleanup() -> None:
    """`cancel` stops a task and goes on after its brackets; `join` raises TaskCancelledError then, also on replay."""
    desk = Desk("release ACQUIRE")

    @computation
    async def body() -> Effectful[str]:
        task = yield fork(bracket(Call("acquire"), lambda _: calls("hang"), Release))
        while not desk.at("hang").is_set() and not task.has_ended:
            await anyio.lowlevel.checkpoint()
        yield cancel(task)
        yield cancel(task)
        yield Call("cancelled")
        try:
            yield join(task)
        except TaskCancelledError as error:
            yield Return(f"{error.task == task.id} {error}")

    async with open_session(body(), *desk.handlers) as session:
        await desk.at("release ACQUIRE").wait()
        assert "cancelled" not in desk.arrived
        desk.let("release ACQUIRE")
        outcome = completed(await session.outcome())
    assert outcome.value.startswith("True")
    assert "was cancelled" in outcome.value
    assert desk.running == set()
    await comes_to_the_same(body(), outcome)


async def test_cancel_of_a_task_that_has_ended_leaves_it_its_result() -> None:
    """A task that has returned is not stopped by `cancel`: it is joined as before, and what it told is added."""

    @computation
    async def body() -> Effectful[tuple[list[str], int]]:
        task = yield fork(tells("a"))
        yield join(task)
        yield cancel(task)
        yield Return(((yield notes.peek()), (yield join(task))))

    assert completed(await crash_anywhere(body(), Desk())).value == (["a"], 1)


async def test_cleanup_of_a_cancelled_task_that_fails() -> None:
    """An error in the cleanup of a cancelled task is an error of the task: it stops the activation at the `cancel`."""
    desk = Desk(errors={"release ACQUIRE": LookupError("stuck")})

    @computation
    async def forks() -> Effectful[None]:
        task = yield fork(bracket(Call("acquire"), lambda _: calls("hang"), Release))
        while not desk.at("hang").is_set() and not task.has_ended:
            await anyio.lowlevel.checkpoint()
        yield cancel(task)
        yield counter.put(1)

    @computation
    async def body() -> Effectful[int]:
        with pytest.raises(LookupError, match="stuck"):
            yield forks()
        yield Return((yield counter.get()))

    outcome = completed(await start(body(), *desk.handlers))
    assert outcome.value == 0
    await comes_to_the_same(body(), outcome)


async def test_a_question_leaves_tasks_running() -> None:
    """The run suspends when no strand can move: a task goes on while its parent waits for an answer, and vice versa."""
    desk = Desk("slow")

    @computation
    async def body() -> Effectful[str]:
        task = yield fork(asks("task"))
        yield fork(calls("slow"))
        answer = yield Ask("parent")
        yield Return(f"{answer}, {(yield join(task))}")

    async with open_session(body(), *desk.handlers) as session:
        await desk.at("slow").wait()
        while len(session.log.waits) < 2:
            await anyio.lowlevel.checkpoint()
        assert desk.running == {"slow"}
        desk.let("slow")
        first = suspended(await session.outcome())
        assert about(first) == ["parent", "task"]
    second = suspended(
        await again(body(), session.log, *desk.handlers, answer="yes", to=waits_by_name(first)["parent"].ref)
    )
    assert about(second) == ["task"]
    third = completed(await again(body(), second.log, *desk.handlers, answer="no"))
    assert third.value == "yes, task: no"
    assert sorted(desk.arrived) == ["after task", "before task", "slow"]
    await comes_to_the_same(body(), third)


async def test_tasks_stop_and_go_on_at_every_effect() -> None:
    """A run with tasks, questions in them and nested forks comes to the same when it is stopped at each effect."""

    @computation
    async def nested(name: str) -> Effectful[str]:
        inner = yield fork(asks(f"{name} inner"))
        yield tells(name)
        yield Return((yield join(inner)))

    @computation
    async def body() -> Effectful[list[str]]:
        first = yield fork(nested("a"))
        second = yield fork(nested("b"))
        yield Ask("parent")
        yield Return([(yield join(second)), (yield join(first))])

    outcome = await always_cold(body(), *Desk().handlers, answer=lambda question: f"to {question!r}"[:12])
    assert isinstance(outcome, Completed)
    assert [text.partition(":")[0] for text in outcome.value] == ["b inner", "a inner"]
    assert outcome.output(notes) == ["b", "a"]


async def test_a_run_with_tasks_dies_anywhere() -> None:
    """Whatever was written when a run with tasks died, a resume comes to the same, and repeats nothing."""

    @computation
    async def fails() -> Effectful[None]:
        yield fork(tells("x", "y"))
        yield Call("c")
        message = "own"
        raise LookupError(message)

    @computation
    async def body() -> Effectful[list[str]]:
        task = yield fork(tells("a"))
        with pytest.raises(LookupError):
            yield fails()
        yield Call("d")
        yield join(task)
        yield Return((yield notes.peek()))

    assert completed(await crash_anywhere(body(), Desk())).value == ["a"]


@pytest.mark.parametrize("ask", [join, cancel])
async def test_another_strand_may_not_ask_for_a_task(ask: Any) -> None:
    """Only the strand that forked a task joins or cancels it: anything else would hang on who is faster."""

    @computation
    async def body() -> Effectful[None]:
        task = yield fork(calls("a"))
        inner = yield fork(ask(task))
        yield join(inner)

    with pytest.raises(MisuseError, match="only the strand that forked a task"):
        await start(body(), *Desk().handlers)


async def test_a_handler_forks_no_tasks() -> None:
    """A handler has no activation that could wait: it is refused, with the way out."""

    async def forks(_: Call) -> str:
        await fork(Release("a"))
        return ""

    with pytest.raises(MisuseError, match="fork them in a computation"):
        await start(calls("x"), Call.handled_by(forks), Release.always(""))
