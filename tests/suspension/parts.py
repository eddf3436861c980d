"""What the tests of suspension share: a question, a call, a cleanup, and the desk at the other end that keeps count."""

from typing import Any, Literal, TypeVar

import anyio

from skuld_async import (
    Cancelled,
    Completed,
    Computation,
    Effect,
    Effectful,
    Failed,
    Handler,
    Log,
    Outcome,
    Return,
    Suspended,
    Yield,
    computation,
    current_call,
    resume,
    start,
)

T = TypeVar("T")


class Approval(Yield[Literal["approved", "rejected"]], frozen=True):
    purchase: str


class Comment(Yield[str | None], frozen=True):
    about: str


class Call(Effect[str], frozen=True):
    """Reaches the desk; one whose name begins with `hang` never ends by itself."""

    name: str


class Release(Effect[str], frozen=True):
    name: str


class Desk:
    """The other end: each call that arrives is written down, with its key."""

    def __init__(self) -> None:
        self.arrived: list[str] = []
        self.keys: dict[str, list[str]] = {}
        self._events: dict[str, anyio.Event] = {}

    def at(self, name: str) -> anyio.Event:
        """Set once *name* has arrived."""
        return self._events.setdefault(name, anyio.Event())

    async def serve(self, effect: Call | Release) -> str:
        name = effect.name if isinstance(effect, Call) else f"release {effect.name}"
        self.arrived.append(name)
        self.keys.setdefault(name, []).append(current_call().key)
        self.at(name).set()
        if effect.name.startswith("hang"):
            await anyio.sleep_forever()
        await anyio.lowlevel.checkpoint()
        return effect.name.upper()

    @property
    def handlers(self) -> list[Handler]:
        return [Call.handled_by(self.serve), Release.handled_by(self.serve)]


@computation
async def approval(purchase: str) -> Effectful[str]:
    """A call, a question, a call."""
    valid = yield Call(f"validate {purchase}")
    decision = yield Approval(purchase)
    if decision == "rejected":
        yield Return("refused")
        return
    yield Call(f"execute {purchase}")
    yield Return(f"{valid} {decision}")


def calls(*names: str) -> Computation[str]:
    """These calls, one after the other."""
    return in_turn(list(names))


@computation
async def in_turn(names: list[str]) -> Effectful[str]:
    last = ""
    for name in names:
        last = yield Call(name)
    yield Return(last)


@computation
async def idles() -> Effectful[str]:
    """A call, then an await of the body's own that never ends by itself, then a call."""
    yield Call("before")
    await anyio.sleep_forever()
    yield Call("after")
    yield Return("done")


def completed(outcome: Outcome[T]) -> Completed[T]:
    assert isinstance(outcome, Completed), outcome
    return outcome


def suspended(outcome: Outcome[T]) -> Suspended:
    assert isinstance(outcome, Suspended), outcome
    return outcome


def failed(outcome: Outcome[T]) -> Failed:
    assert isinstance(outcome, Failed), outcome
    return outcome


def cancelled(outcome: Outcome[T]) -> Cancelled:
    assert isinstance(outcome, Cancelled), outcome
    return outcome


def states(log: Log) -> list[tuple[str, str]]:
    """The entries as (id, state)."""
    return [(entry.id, entry.state) for entry in log.entries]


def stored(log: Log) -> Log:
    """The log as another process reads it."""
    return Log.from_msgpack(Log.from_json(log.to_json()).to_msgpack())


async def host_cancelled(
    comp: Computation[Any], *handlers: Handler, when: anyio.Event, log: Log | None = None, **more: Any
) -> Log:
    """Start *comp*, or go on from *log*, until its host cancels it at *when*; the log that its caller still holds."""
    into = Log()
    scope = anyio.CancelScope()

    async def host() -> None:
        await when.wait()
        scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(host)
        with scope:
            if log is None:
                await start(comp, *handlers, into=into, **more)
            else:
                await resume(comp, log, *handlers, into=into, **more)
            message = "the run ended before it was cancelled"
            raise AssertionError(message)
    assert scope.cancelled_caught
    return into
