"""Promise 8.1: what is declared `at_most_once` is never called twice, whatever becomes of its process."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, ClassVar, Protocol

import anyio
import pytest
from msgspec import UNSET

from skuld_async import (
    Command,
    Computation,
    Effect,
    Effectful,
    Handler,
    Log,
    MisuseError,
    OutcomeUnknown,
    Parallel,
    Port,
    RerunRefusedError,
    Return,
    Transaction,
    computation,
    open_session,
    operation,
    port,
    replay,
    rerun,
    resume,
    run,
    start,
    transact,
)
from tests.suspension.parts import cancelled, completed, failed, host_cancelled, stored


class Declined(Exception):
    pass


class Press(Effect[str], frozen=True):
    """What must not happen twice."""

    button: str = "red"

    __at_most_once__ = True
    __raises__: ClassVar[tuple[type[Exception], ...]] = (Declined,)


class Ask(Effect[str], frozen=True):
    button: str = "red"


class Launch(Command[str], frozen=True):
    __at_most_once__ = True


class Site(Port, Protocol):
    @operation(at_most_once=True)
    async def launch(self) -> str: ...


@port(at_most_once=True)
async def launch() -> str:
    return "launched"


class Console:
    """The other end: keeps what was pressed, and the log before it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.pressed: list[str] = []
        self.hangs = False
        self.error = error
        self.arrived = anyio.Event()
        self.log = Log()
        self.shot: Log | None = None

    async def press(self, effect: Press) -> str:
        if self.log.header.computation:
            self.shot = stored(self.log)
        self.pressed.append(effect.button)
        self.arrived.set()
        if self.hangs:
            await anyio.sleep_forever()
        await anyio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        return "pressed"

    async def launch(self, _: object = None) -> str:
        return await self.press(Press("launch"))

    async def ask(self, _: Ask) -> str:
        return "it was" if self.pressed else "it was not"

    @property
    def handlers(self) -> list[Handler]:
        return [Press.handled_by(self.press), Ask.handled_by(self.ask)]


@computation
async def pressing() -> Effectful[str]:
    answer = yield Press()
    yield Return(answer)


@computation
async def careful() -> Effectful[str]:
    try:
        answer = yield Press()
    except OutcomeUnknown:
        answer = yield Ask()
    yield Return(answer)


async def begun(comp: Computation[Any]) -> tuple[Console, Log]:
    """The log of a process that died in the call."""
    console = Console()
    completed(await start(comp, *console.handlers, into=console.log, id="run"))
    assert console.shot is not None
    return console, console.shot


async def test_what_goes_well_is_answered_from_the_log() -> None:
    """8.1 A call that was settled is answered from the log, like any other."""
    console = Console()
    outcome = completed(await start(pressing(), *console.handlers))
    assert completed(await resume(pressing(), stored(outcome.log), *console.handlers)).value == "pressed"
    assert console.pressed == ["red"]


async def test_a_crash_in_the_call() -> None:
    """8.1 A started call that a later session finds raises `OutcomeUnknown` at its line, and is not made again."""
    console, shot = await begun(pressing())
    outcome = failed(await resume(pressing(), shot, *console.handlers))
    assert isinstance(outcome.error, OutcomeUnknown)
    assert (outcome.error.effect, outcome.error.key) == ("Press", "run/0/1")
    assert "is not called again (at_most_once)" in str(outcome.error)
    assert console.pressed == ["red"]
    (entry,) = outcome.log.entries
    assert entry.state == "discarded"
    assert shot.entries[0].state == "started"  # the caller's log stays as it is


async def test_the_body_may_decide() -> None:
    """8.1 The body may catch it, ask, and go on; each replay takes the same way."""
    console, shot = await begun(careful())
    outcome = completed(await resume(careful(), shot, *console.handlers))
    assert outcome.value == "it was"
    assert [entry.sig.rpartition(":")[2] for entry in outcome.log.entries] == ["Press", "Ask"]
    console.pressed.clear()
    assert completed(await resume(careful(), stored(outcome.log), *console.handlers)).value == "it was"
    assert not console.pressed


async def test_it_is_rebuilt_as_itself() -> None:
    """6.6 On each replay `OutcomeUnknown` arrives as itself, with its fields."""
    console, shot = await begun(pressing())
    outcome = failed(await resume(pressing(), shot, *console.handlers))
    again = failed(await replay(pressing(), stored(outcome.log), *console.handlers))
    assert isinstance(again.error, OutcomeUnknown)
    assert again.error.args == ("Press", "run/0/1")
    assert outcome.log.header.cause == "0/1"


async def test_a_host_that_cancels_in_the_call() -> None:
    """8.1 A host cancel in the call is like a crash in it."""
    console = Console()
    console.hangs = True
    log = await host_cancelled(pressing(), *console.handlers, when=console.arrived)
    console.hangs = False
    assert isinstance(failed(await resume(pressing(), log, *console.handlers)).error, OutcomeUnknown)
    assert console.pressed == ["red"]


async def test_a_run_that_is_cancelled_in_the_call() -> None:
    """7.7 A run cancel in the call discards it, as it does with each call."""
    console = Console()
    console.hangs = True
    async with open_session(pressing(), *console.handlers) as session:
        await console.arrived.wait()
        outcome = cancelled(await session.cancel())
    (entry,) = outcome.log.entries
    assert entry.error is not UNSET
    assert entry.error.kind == "run-cancel"
    cancelled(await resume(pressing(), stored(outcome.log), *console.handlers))
    assert console.pressed == ["red"]


WAYS: dict[str, tuple[Effect[str], Callable[[Console], Handler]]] = {
    "command": (Launch().execute(), lambda it: Launch.handled_by(it.launch)),
    "operation": (Site.launch(), Site.handler),
    "port": (launch(), lambda it: launch.handled_by(it.launch)),
}


@pytest.mark.parametrize("way", WAYS)
async def test_ports_and_commands(way: str) -> None:
    """8.1 It is declared on operations, ports and commands."""
    effect, handled = WAYS[way]
    console = Console()

    @computation
    async def launching() -> Effectful[str]:
        answer = yield effect
        yield Return(answer)

    handler = handled(console)
    completed(await start(launching(), handler, into=console.log))
    assert console.shot is not None
    assert isinstance(failed(await resume(launching(), console.shot, handler)).error, OutcomeUnknown)
    assert console.pressed == ["launch"]


async def test_sync_handlers() -> None:
    """8.1 A sync handler that was begun is not called again either."""
    pressed: list[Log] = []
    log = Log()

    def press(_: Press) -> str:
        pressed.append(stored(log))
        return "pressed"

    completed(await start(pressing(), Press.handled_by(press), into=log))
    assert isinstance(failed(await resume(pressing(), pressed[0], Press.handled_by(press))).error, OutcomeUnknown)
    assert len(pressed) == 1


async def test_other_calls_in_the_same_run() -> None:
    """8.1 In a loop, and in branches, only the call that was begun is given up."""

    @computation
    async def one(button: str) -> Effectful[str]:
        try:
            answer = yield Press(button)
        except OutcomeUnknown:
            answer = "unknown"
        yield Return(answer)

    @computation
    async def several() -> Effectful[list[str]]:
        first = yield one("first")
        both = yield Parallel.all(one("left"), one("right"))
        last = yield one("last")
        yield Return([first, *both, last])

    log, shots = Log(), list[Log]()

    async def press(effect: Press) -> str:
        shots.append(stored(log))
        await anyio.wait_all_tasks_blocked()
        return effect.button

    handler = Press.handled_by(press)
    completed(await start(several(), handler, into=log))
    first, one_branch, both_branches, last = list(shots)
    buttons = ["first", "left", "right", "last"]
    for shot, begun_in_it in ((first, 1), (one_branch, 1), (both_branches, 2), (last, 1)):
        unknown = [
            bytes(one.data).decode() for one in shot.entries if one.state == "started" and one.sig != "Parallel.all"
        ]
        assert len(unknown) == begun_in_it
        value = completed(await resume(several(), shot, handler)).value
        assert value == ["unknown" if f'{{"button":"{one}"}}' in unknown else one for one in buttons]


async def test_a_changed_computation() -> None:
    """6.5 With `allow_divergence=True` a begun call is found, wherever it stands now, and given up."""

    @computation(name="changing")
    async def before() -> Effectful[str]:
        yield Ask("before")
        answer = yield Press()
        yield Return(answer)

    @computation(name="changing")
    async def after() -> Effectful[str]:
        answer = yield Press()
        yield Return(answer)

    console, shot = await begun(before())
    outcome = failed(await resume(after(), shot, *console.handlers, allow_divergence=True))
    assert isinstance(outcome.error, OutcomeUnknown)
    assert console.pressed == ["red"]


async def test_what_its_handler_had_requested() -> None:
    """6.5 What the handler of a begun call had requested is passed over with it."""
    log, shots = Log(), list[Log]()

    async def press(_: Press) -> str:
        answer = await Ask()
        shots.append(stored(log))
        return answer

    handlers = [Press.handled_by(press), Ask.always("inner")]
    completed(await start(careful(), *handlers, into=log))
    outcome = completed(await resume(careful(), shots[0], *handlers))
    assert [(entry.id, entry.state) for entry in outcome.log.entries] == [
        ("0/1", "discarded"),
        ("0/1/1", "executed"),
        ("0/2", "executed"),
    ]
    completed(await resume(careful(), stored(outcome.log), *handlers))


async def test_a_rerun_asks_first() -> None:
    """6.7 A rerun of a call whose outcome is unknown is refused; forced, it is made again, under a key of its own."""
    console, shot = await begun(pressing())
    outcome = failed(await resume(pressing(), shot, *console.handlers))
    with pytest.raises(RerunRefusedError, match="0/1 is called at most once, and may have been performed"):
        await rerun(pressing(), outcome.log, *console.handlers)
    forced = completed(await rerun(pressing(), outcome.log, *console.handlers, force=True))
    assert forced.value == "pressed"
    assert [entry.id for entry in forced.log.entries] == ["0/1~1"]
    assert console.pressed == ["red", "red"]


async def test_a_rerun_of_a_call_that_failed() -> None:
    """6.7 One that failed may have happened: a rerun raises `OutcomeUnknown`. A declared error is an answer."""
    console = Console(ConnectionError("no line"))
    outcome = failed(await start(pressing(), *console.handlers))
    assert isinstance(outcome.error, ConnectionError)
    assert isinstance(failed(await rerun(pressing(), outcome.log, *console.handlers)).error, OutcomeUnknown)
    assert console.pressed == ["red"]

    console = Console(Declined())
    outcome = failed(await start(pressing(), *console.handlers))
    console.error = None
    assert completed(await rerun(pressing(), outcome.log, *console.handlers)).value == "pressed"


async def test_a_transaction_may_be_performed_again() -> None:
    """8.1 Inside `transact`, which a crash performs again, it is refused at its line."""
    console = Console()
    handlers = [*console.handlers, Transaction.handler(partial(nullcontext))]
    with pytest.raises(MisuseError, match=r"Press is called at most once, and .*test_at_most_once.py:\d+ is inside"):
        await start(transact(pressing()), *handlers)
    assert not console.pressed


async def test_without_a_log() -> None:
    """8.1 `run` has no log that another session could find: there it is a call like any other."""
    console = Console()
    assert await run(pressing(), *console.handlers) == "pressed"


async def test_a_replay_gives_nothing_up() -> None:
    """6.7 `replay` verifies, and changes nothing: a started call stays started."""
    console, shot = await begun(pressing())
    outcome = await replay(pressing(), shot, *console.handlers)
    assert [entry.state for entry in outcome.log.entries] == ["started"]
