"""What the tests of concurrency share: calls that end when the test says so, and the desk that serves them."""

from typing import Any, TypeVar

import anyio
import msgspec

from skuld_async import (
    Cancelled,
    Completed,
    Computation,
    Effect,
    Effectful,
    EventAccumulator,
    Failed,
    Handler,
    Log,
    Observation,
    Outcome,
    Perform,
    Request,
    Return,
    State,
    Suspended,
    Wait,
    Writer,
    Yield,
    computation,
    current_call,
    resume,
    start,
)

T = TypeVar("T")

counter = State("strands.counter", int)
notes = Writer("strands.notes", str)
happened = EventAccumulator("strands.happened", str)


class Call(Effect[str], frozen=True):
    """Reaches the desk; one whose name begins with `hang` never ends by itself."""

    name: str


class Release(Effect[str], frozen=True):
    name: str


class Ask(Yield[str], frozen=True):
    about: str


class Desk:
    """The other end of calls.

    Args:
        held: Calls that end only when they are `let` go.
        errors: What calls raise in the place of an answer.
    """

    def __init__(self, *held: str, errors: dict[str, Exception] | None = None) -> None:
        self.arrived: list[str] = []
        self.keys: list[str] = []
        self.running: set[str] = set()
        self._errors = errors or {}
        self._there: dict[str, anyio.Event] = {}
        self._go = {name: anyio.Event() for name in held}

    def at(self, name: str) -> anyio.Event:
        """Set once *name* has arrived."""
        return self._there.setdefault(name, anyio.Event())

    def let(self, *names: str) -> None:
        """Let what is held go on."""
        for name in names:
            self._go[name].set()

    async def serve(self, effect: Call | Release) -> str:
        name = effect.name if isinstance(effect, Call) else f"release {effect.name}"
        self.arrived.append(name)
        self.keys.append(current_call().key)
        self.running.add(name)
        self.at(name).set()
        try:
            if name in self._go:
                await self._go[name].wait()
            elif effect.name.startswith("hang"):
                await anyio.sleep_forever()
            else:
                await anyio.lowlevel.checkpoint()
        finally:
            self.running.discard(name)
        if name in self._errors:
            raise self._errors[name]
        return effect.name.upper()

    @property
    def handlers(self) -> list[Handler]:
        return [
            Call.handled_by(self.serve),
            Release.handled_by(self.serve),
            counter.handler(0),
            notes.handler(),
            happened.handler(),
        ]


@computation
async def calls(*names: str) -> Effectful[str]:
    """These calls, one after the other; the last answer."""
    last = ""
    for name in names:
        last = yield Call(name)
    yield Return(last)


@computation
async def asks(about: str) -> Effectful[str]:
    """A call, a question, a call."""
    yield Call(f"before {about}")
    answer = yield Ask(about)
    yield Call(f"after {about}")
    yield Return(f"{about}: {answer}")


@computation
async def tells(*words: str) -> Effectful[int]:
    """Tells and emits each word, and counts them."""
    for word in words:
        yield notes.tell(word)
        yield happened.emit(word)
        yield counter.modify(lambda value: value + 1)
        yield Call(word)
    yield Return((yield counter.get()))


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


def stored(log: Log) -> Log:
    """*log* as another process reads it."""
    return Log.from_msgpack(Log.from_json(log.to_json()).to_msgpack())


def states(log: Log) -> dict[str, str]:
    """The state of each entry, by its id."""
    found: dict[str, str] = {entry.id: entry.state for entry in log.entries}
    assert len(found) == len(log.entries)
    return found


def ids(log: Log) -> list[str]:
    return [entry.id for entry in log.entries]


def waits_by_name(outcome: Suspended) -> dict[str, Wait]:
    """The open questions by what they are about: which branch came first to its own is nobody's promise."""
    return {msgspec.json.decode(wait.question)["about"]: wait for wait in outcome.waits}


def about(outcome: Suspended) -> list[str]:
    """What the open questions are about, sorted."""
    return sorted(waits_by_name(outcome))


async def again(comp: Computation[T], log: Log, *handlers: Handler, **more: Any) -> Outcome[T]:
    """`resume` from the log as another process reads it."""
    return await resume(comp, stored(log), *handlers, **more)


async def comes_to_the_same(comp: Computation[Any], outcome: Outcome[Any], *others: Handler) -> None:
    """A resume of the log of *outcome*, which has ended, performs nothing and gives the same."""
    desk = Desk()
    resumed = await again(comp, outcome.log, *desk.handlers, *others)
    assert type(resumed) is type(outcome)
    assert desk.arrived == []
    assert resumed.log.to_json() == outcome.log.to_json()
    assert resumed.cells == outcome.cells
    if isinstance(outcome, Completed):
        assert resumed.value == outcome.value


async def crash_anywhere(comp: Computation[T], desk: Desk, *others: Handler, **more: Any) -> Outcome[T]:
    """Run *comp*, then go on from each log that a crash on its way could have left.

    Each comes to the same outcome, and performs no call again whose entry was settled.
    """
    log, left = Log(), list[bytes]()

    async def write(request: Request, perform: Perform) -> Any:
        left.append(log.to_json())
        try:
            return await perform(request)
        finally:
            left.append(log.to_json())

    def settled(_observation: Observation) -> None:
        left.append(log.to_json())

    handlers = [*desk.handlers, *others]
    outcome = await start(comp, *handlers, into=log, intercept=[write], observe=[settled], **more)
    for data in dict.fromkeys(left):
        found = Log.from_json(data)
        later = Desk()
        resumed = await again(comp, found, *later.handlers, *others)
        assert kind_of(resumed) == kind_of(outcome), data
        assert resumed.cells == outcome.cells, data
        done = {f"{found.header.run}/{entry.id}" for entry in found.entries if entry.state != "started"}
        assert done.isdisjoint(later.keys), data
        assert len(set(later.keys)) == len(later.keys)
        states(resumed.log)
    assert len(left) > len(outcome.log.entries)
    return outcome


def kind_of(outcome: Outcome[Any]) -> tuple[str, Any]:
    """How the run ended, and with what."""
    if isinstance(outcome, Completed):
        return "completed", outcome.value
    return type(outcome).__name__, repr(outcome.error) if isinstance(outcome, Failed) else None


async def host_cancelled(comp: Computation[Any], *handlers: Handler, when: anyio.Event, **more: Any) -> Log:
    """Start *comp* until its host cancels it at *when*; the log that its caller still holds."""
    into = Log()
    async with anyio.create_task_group() as group:
        scope = anyio.CancelScope()

        async def host() -> None:
            await when.wait()
            scope.cancel()

        group.start_soon(host)
        with scope:
            await start(comp, *handlers, into=into, **more)
            message = "the run ended before it was cancelled"
            raise AssertionError(message)
    assert scope.cancelled_caught
    return into
