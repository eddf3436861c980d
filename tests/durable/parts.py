"""What the tests of the runtime share: a line to the store that can break, the office at the other end, workflows."""

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any, Literal, Protocol, Self, cast

import anyio

from skuld_async import (
    DomainError,
    Effectful,
    Handler,
    Parallel,
    Port,
    Return,
    Yield,
    computation,
    current_call,
    operation,
)
from skuld_async.durable import OpenWait, Runtime, RunView
from skuld_async.durable.records import Append, RunRecord, WorkerRecord
from skuld_async.durable.store import Heart, Store

LEASE = 0.5
"""Seconds: a dead worker is missed after a fifth of it."""

PATIENCE = 10
"""Seconds after which a run is given up."""


class Cut(Exception):
    """What a worker gets from a line that is cut."""


class Line:
    """Stands between one worker and a store; counts the appends, and breaks where a test says.

    A worker whose line is cut can write nothing any more, like one that was killed, and is missed by the others.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.appends: list[Append] = []
        """Those that were committed."""
        self.calls = Counter[str]()
        """How often each method was called."""
        self.cut = anyio.Event()
        self.before: Callable[[str, tuple[Any, ...]], Awaitable[None]] = _nothing
        """Called before each call; may raise."""
        self.after: Callable[[str, tuple[Any, ...]], Awaitable[None]] = _nothing
        """Called after each call that has committed; may raise."""

    @property
    def end(self) -> Store:
        """The worker's end."""
        return cast("Store", self)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.store, name)
        return method if name == "listen" else partial(self._call, name, method)

    async def _call(self, name: str, method: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
        self._check()
        self.calls[name] += 1
        await self.before(name, args)
        self._check()
        answer = await method(*args, **options)
        if name == "append":
            self.appends.append(args[0])
        await self.after(name, args)
        self._check()
        return answer

    def _check(self) -> None:
        if self.cut.is_set():
            raise Cut

    def heart(self, worker: WorkerRecord) -> Heart:
        return _LineHeart(self, self.store.heart(worker))

    async def __aenter__(self) -> Self:
        await self.store.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.store.__aexit__(kind, error, traceback)

    def appends_of(self, run: str) -> list[Append]:
        return [one for one in self.appends if one.run == run]

    def breaks_at(self, number: int, how: Literal["before", "after"], *, dies: bool = False) -> None:
        """Fail once, at the append of this *number* (the first is 1), before or after it has committed.

        With *dies* the line is cut there, for good.
        """
        left = [number]

        async def fail(name: str, args: tuple[Any, ...]) -> None:
            if name != "append":
                return
            left[0] -= 1
            if left[0] == 0:
                if dies:
                    self.cut.set()
                raise Cut

        setattr(self, how, fail)


async def _nothing(_name: str, _args: tuple[Any, ...]) -> None:
    pass


class _LineHeart:
    """Is silent behind a line that is cut."""

    def __init__(self, line: Line, heart: Heart) -> None:
        self._line = line
        self._heart = heart

    def beat(self) -> None:
        if not self._line.cut.is_set():
            self._heart.beat()

    def close(self) -> None:
        self._heart.close()


class Closed(DomainError):
    """The office is closed."""

    day: str


class Office(Port, Protocol):
    @operation
    async def do(self, what: str) -> str: ...

    @operation(at_most_once=True)
    async def once(self, what: str) -> str: ...


class Desk:
    """The other end of the office: each call is written down with its key; some are held until they are let go."""

    def __init__(self, *held: str) -> None:
        self.keys: list[tuple[str, str]] = []
        """Call and key, in the order of their arrival."""
        self.errors: dict[str, Exception] = {}
        self._there: dict[str, anyio.Event] = {}
        self._go = {what: anyio.Event() for what in held}

    @property
    def done(self) -> list[str]:
        return [what for what, _ in self.keys]

    @property
    def times(self) -> dict[str, int]:
        """How often each call came."""
        return dict(Counter(self.done))

    def check_keys(self) -> None:
        """Each key belongs to one call."""
        calls: dict[str, str] = {}
        for what, key in self.keys:
            assert calls.setdefault(key, what) == what

    def at(self, what: str) -> anyio.Event:
        """Set once *what* has arrived."""
        return self._there.setdefault(what, anyio.Event())

    def let(self, *whats: str) -> None:
        for what in whats:
            self._go[what].set()

    async def do(self, what: str) -> str:
        self.keys.append((what, current_call().key))
        self.at(what).set()
        if what in self._go:
            await self._go[what].wait()
        if what in self.errors:
            raise self.errors[what]
        return what.upper()

    once = do

    @property
    def handlers(self) -> list[Handler]:
        return [Office.handler(self)]


class Approval(Yield[Literal["yes", "no"]], frozen=True):
    about: str


class Comment(Yield[str], frozen=True):
    about: str


@computation
async def plain(*whats: str) -> Effectful[str]:
    """These calls, one after the other."""
    said = ""
    for what in whats:
        said = yield Office.do(what)
    yield Return(said)


@computation
async def asks(about: str) -> Effectful[str]:
    """A call, a question, a call."""
    yield Office.do(f"before {about}")
    decision = yield Approval(about)
    yield Office.do(f"after {about}")
    yield Return(f"{about}: {decision}")


@computation
async def asks_named(about: str) -> Effectful[str]:
    """As `asks`, by name, of somebody."""
    yield Office.do(f"before {about}")
    decision = yield Approval(about).named("approval").assigned_to("anna")
    yield Return(f"{about}: {decision}")


@computation
async def comment(about: str) -> Effectful[str]:
    said = yield Comment(about)
    yield Return((yield Office.do(f"{about} {said}")))


@computation
async def side_by_side(abouts: list[str], whats: list[str]) -> Effectful[list[str]]:
    """Comments and calls, in branches of their own."""
    said: list[str] = yield Parallel.all(*map(comment, abouts), *map(plain, whats))
    yield Return(said)


@computation
async def fails(what: str) -> Effectful[str]:
    """Raises what the call raises."""
    yield Return((yield Office.do(what)))


WORKFLOWS: list[Any] = [plain, asks, asks_named, comment, side_by_side, fails]


def runtime(store: Store | Line, desk: Desk | None = None, *more: Handler, **options: Any) -> Runtime:
    """A runtime of these workflows, or of others."""
    end = store.end if isinstance(store, Line) else store
    workflows = options.pop("workflows", WORKFLOWS)
    handlers = [*(desk or Desk()).handlers, *more]
    return Runtime(end, workflows, handlers, lease=LEASE, **options)


@asynccontextmanager
async def dying(line: Line, desk: Desk, *more: Handler, **options: Any) -> AsyncGenerator[Runtime]:
    """A runtime that is dead when it is left: nothing that it does from then on is written."""
    async with runtime(line, desk, *more, **options) as one:
        yield one
        line.cut.set()


async def stands(runtime: Runtime, run: str) -> RunView:
    """How a run stands once it stands still."""
    with anyio.fail_after(PATIENCE):
        return await runtime.get(run).settled()


async def becomes(runtime: Runtime, run: str, status: str) -> RunView:
    """How a run stands once it has this status."""
    with anyio.fail_after(PATIENCE):
        record = await runtime.get(run)._until(lambda record: record.status == status, None)
        assert record.status == status
        return await runtime.get(run).view()


async def open_waits(runtime: Runtime, run: str | None = None, count: int = 1) -> list[OpenWait]:
    """The open questions, once there are so many."""
    found = list[OpenWait]()

    async def are_there() -> bool:
        found[:] = (await runtime.waits(run=run)).items
        return len(found) == count

    await until(runtime, are_there)
    return found


async def fates(runtime: Runtime, run: str, *states: str) -> None:
    """Come back when this has become of the messages of a run."""

    async def have_come() -> bool:
        return [sent.state for sent in await runtime.messages(run)] == list(states)

    await until(runtime, have_come)


async def until(runtime: Runtime, is_so: Callable[[], Awaitable[bool]]) -> None:
    """Come back when *is_so*; asked again after each change of the store."""
    with anyio.fail_after(PATIENCE):
        async with runtime.store.listen() as listener:
            while not await is_so():
                await listener.changed(0.01)


async def put_away(runtime: Runtime, run: str | None = None) -> None:
    """Come back when a run, or each, has left the memory of its worker."""
    active = runtime._dispatcher.active

    async def is_away() -> bool:
        return run not in active if run else not active

    await until(runtime, is_away)


async def stored(store: Store, run: str) -> RunRecord:
    """The record of a run."""
    async with store:
        record = await store.get(run)
    assert record is not None
    return record
