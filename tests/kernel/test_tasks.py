"""`fork`, `join` and `cancel` without a log."""

import anyio
import pytest

from skuld_async import (
    AtomicState,
    Effect,
    Effectful,
    MisuseError,
    Parallel,
    Return,
    State,
    TaskCancelledError,
    UnhandledEffectError,
    Writer,
    bracket,
    cancel,
    computation,
    fork,
    join,
    run,
)

counter = State("tasks.counter", int)
shared = AtomicState("tasks.shared", int)
notes = Writer("tasks.notes", str)


class Call(Effect[str], frozen=True):
    name: str


class Desk:
    """Serves calls; `hang` never ends, `fail` raises."""

    def __init__(self) -> None:
        self.arrived: list[str] = []
        self.running: set[str] = set()
        self.hangs = anyio.Event()

    async def serve(self, effect: Call) -> str:
        self.arrived.append(effect.name)
        self.running.add(effect.name)
        try:
            if effect.name == "hang":
                self.hangs.set()
                await anyio.sleep_forever()
            await anyio.lowlevel.checkpoint()
        finally:
            self.running.discard(effect.name)
        if effect.name == "fail":
            raise LookupError(effect.name)
        return effect.name.upper()


@computation
async def calls(*names: str) -> Effectful[str]:
    last = ""
    for name in names:
        last = yield Call(name)
    yield Return(last)


@computation
async def holds() -> Effectful[str]:
    yield Return((yield bracket(Call("acquire"), lambda _: calls("hang"), lambda _: Call("release"))))


async def test_a_task_runs_beside_and_is_joined() -> None:
    """A task runs beside the activation, with a copy of its state; what it told is added where it is joined."""

    @computation
    async def counts() -> Effectful[int]:
        yield notes.tell("task")
        yield shared.modify(lambda value: value + 1)
        yield Return((yield counter.modify(lambda value: value + 1)))

    @computation
    async def body() -> Effectful[tuple[int, int, int, list[str]]]:
        yield counter.put(1)
        task = yield fork(counts())
        yield counter.put(10)
        value = yield join(task)
        yield Return((value, (yield counter.get()), (yield shared.get()), (yield notes.peek())))

    assert await run(body(), counter.handler(0), shared.handler(0), notes.handler()) == (2, 10, 1, ["task"])


async def test_a_return_is_held() -> None:
    """`run` comes back after all tasks, those of tasks too."""
    desk = Desk()

    @computation
    async def nested() -> Effectful[str]:
        yield fork(calls("c", "d"))
        yield Return((yield Call("b")))

    @computation
    async def body() -> str:
        await fork(nested())
        return await Call("a")

    assert await run(body(), Call.handled_by(desk.serve)) == "A"
    assert sorted(desk.arrived) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("where", ["hold", "join", "branches"])
async def test_an_error_in_a_task_stops_its_activation(where: str) -> None:
    """An error in a task ends what its activation waits for; other tasks do their cleanup; then it comes out."""
    desk = Desk()

    @computation
    async def fails() -> Effectful[None]:
        await desk.hangs.wait()
        yield Call("fail")

    @computation
    async def forks() -> Effectful[None]:
        task = yield fork(holds())
        yield fork(fails())
        if where == "join":
            yield join(task)
        elif where == "branches":
            yield Parallel.all(calls("hang"), holds())

    @computation
    async def body() -> Effectful[str]:
        try:
            yield forks()
        except LookupError as error:
            yield Return(f"{error} {(yield Call('then'))}")

    assert await run(body(), Call.handled_by(desk.serve)) == "fail THEN"
    assert desk.running == set()
    assert desk.arrived[-2:] == ["release", "then"]
    assert desk.arrived.count("acquire") == desk.arrived.count("release")


async def test_an_activation_that_raises_stops_its_tasks() -> None:
    """An activation that raises waits for the cleanup of its tasks."""
    desk = Desk()

    @computation
    async def body() -> Effectful[None]:
        yield fork(holds())
        await desk.hangs.wait()
        message = "own"
        raise ValueError(message)

    with pytest.raises(ValueError, match="own"):
        await run(body(), Call.handled_by(desk.serve))
    assert desk.arrived[-1] == "release"
    assert desk.running == set()


async def test_cancel_and_join() -> None:
    """`cancel` waits for the cleanup; `join` says then that the task was cancelled."""
    desk = Desk()

    @computation
    async def body() -> Effectful[str]:
        task = yield fork(holds())
        await desk.hangs.wait()
        yield cancel(task)
        assert desk.arrived[-1] == "release"
        try:
            yield join(task)
        except TaskCancelledError as error:
            yield Return(error.computation)

    assert (await run(body(), Call.handled_by(desk.serve))).endswith("holds")


async def test_several_errors_are_a_group() -> None:
    """The errors of several tasks come out as an ExceptionGroup, in the order of the forks."""

    @computation
    async def fails(name: str) -> Effectful[None]:
        try:
            await anyio.sleep_forever() if name == "first" else None
        finally:
            raise ValueError(name)
        yield Call("never")

    @computation
    async def body() -> Effectful[None]:
        yield fork(fails("first"))
        yield fork(fails("second"))

    with pytest.raises(ExceptionGroup) as caught:
        await run(body())
    assert [str(error) for error in caught.value.exceptions] == ["first", "second"]


async def test_a_cancelled_host_stops_the_tasks() -> None:
    """Whoever cancels the caller of `run` ends its tasks with it."""
    desk = Desk()

    @computation
    async def body() -> Effectful[None]:
        yield fork(calls("hang"))
        yield fork(fail_later())

    @computation
    async def fail_later() -> Effectful[None]:
        await anyio.sleep_forever()
        yield Call("never")

    async with anyio.create_task_group() as group:
        group.start_soon(run, body(), Call.handled_by(desk.serve))
        await desk.hangs.wait()
        group.cancel_scope.cancel()
    assert desk.running == set()


async def test_a_fault_in_a_task_comes_out_of_run() -> None:
    """An effect that nothing handles, in a task, is raised by `run`."""

    @computation
    async def body() -> Effectful[None]:
        task = yield fork(Call("a"))
        yield join(task)

    with pytest.raises(UnhandledEffectError, match="Call"):
        await run(body())


async def test_another_strand_may_not_join() -> None:
    """Only the strand that forked a task may join it."""

    @computation
    async def body() -> Effectful[None]:
        task = yield fork(calls("a"))
        yield Parallel.all(join(task))

    with pytest.raises(MisuseError, match="only the strand that forked"):
        await run(body(), Call.handled_by(Desk().serve))
