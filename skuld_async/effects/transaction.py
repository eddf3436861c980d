"""transact: what is committed together or leaves no trace; the source is Skuld's Transaction.

A transaction has an entry of its own, and what is requested in it stands under that entry's id. How it ends:

==================  =========================  =============================================================
its body            its resource               what the entry says
==================  =========================  =============================================================
returned            committed                  executed, "committed"
raised              rolled back                executed, "rolled back"; what was raised goes on
was stopped         rolled back                started: a resume performs the whole of it again
any                 failed (begin, commit)     discarded, with the error of the resource
==================  =========================  =============================================================
"""

from __future__ import annotations

import copy
import inspect
import math
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Never, TypeAlias

import anyio
from typing_extensions import TypeVar

import skuld_async._computation as computation
from skuld_async._chain import Pending
from skuld_async._computation import Around, Computation, check_computation, grace_ends
from skuld_async._context import is_cancelled
from skuld_async._effect import Effect, Kind
from skuld_async._errors import DeclarationError, EffectError, RolledBackError
from skuld_async._frames import NOTHING, Frame, Nothing, Place
from skuld_async._handler import Cell, Handler, Installed, Lifetime
from skuld_async._hop import hop
from skuld_async._misuse import MisuseError
from skuld_async._signals import Fault
from skuld_async._strand import stopped

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextlib import AbstractAsyncContextManager

    from skuld_async._signals import Signal

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Ending: TypeAlias = Literal["committed", "rolled back"]
"""How a transaction ended whose resource did not fail."""


class Unit(Pending):
    """One transaction: what its handler answers, and what a log puts around that."""

    guard: anyio.CancelScope | None = None
    """Around its resource, while that is open."""

    def __init__(self, begin: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
        super().__init__()
        self.begin = begin

    def resource(self) -> AbstractAsyncContextManager[Any]:
        """What is open while the body runs: left with an error, it rolls back."""
        made = self.begin()
        if not hasattr(made, "__aenter__"):
            if inspect.iscoroutine(made):
                made.close()
            problem = f"Transaction.handler was given what makes a {type(made).__name__}: no async context manager"
            raise Fault(MisuseError(f"{problem}.\n\n  Transaction.handler(connection.transaction)   # for example"))
        return made

    def end(self, ending: Ending, error: BaseException | None, line: str) -> None:  # noqa: ARG002 - a log asks for it
        """The body ended, and the resource went along with it."""
        self.settled(ending, None)

    def fail(self, error: BaseException) -> BaseException:
        """The resource failed: gives the error that the body gets to see."""
        self.settled(None, error)
        return error

    def stop(self, signal: Signal | None) -> None:
        """The strand was stopped by *signal*; None where a scope of the body gave the resource up as it began."""

    async def kept(self, frame: Frame) -> None:
        """Come back when how it ended is kept, where somebody stores the log."""

    def close(self) -> None:
        """It is over, in whatever way."""


class Begin(Effect[Unit], frozen=True):
    """Effect with which `transact` opens its transaction."""

    __kind__ = Kind.CONTROL
    __sig__ = "transact"
    __label__ = "transact"
    __answer_form__: ClassVar[Any] = Any
    computation: str


class Rollback(Effect[Never], frozen=True):
    """Effect of `rollback`."""

    __kind__ = Kind.CONTROL
    __sig__ = "rollback"
    __label__ = "rollback"
    __raises__: ClassVar[tuple[type[Exception], ...]] = (RolledBackError,)
    __answer_form__: ClassVar[Any] = Any
    reason: str

    def __perform__(self, frame: Any) -> Never:  # pyright: ignore[reportIncompatibleVariableOverride] - in place of None
        place = f"rollback({self.reason!r}) at {frame.line()}"
        raise Fault(
            MisuseError(f"{place} stands in the body of no transact(...); in a handler, raise an error instead")
        )


class Transact(Around[T_co], frozen=True, eq=False):
    """What `transact` makes."""

    async def enter(self, frame: Frame) -> T_co:
        """Run the body; its effects stand or fall together."""
        unit: Unit = await hop(Begin(self.inner.name))
        frame.place = Place(f"{frame.place.current_id}/")
        frame.activation = 0  # those under this prefix are counted from 1
        frame.transparent = True
        ending = _Ending[T_co]()
        before: list[tuple[Cell[Any], Any]] = []
        try:
            try:
                before += [
                    (cell, copy.deepcopy(cell.value)) for _, cell in frame.table.scope.all_cells() if not cell.shared
                ]
                await self._perform(unit, frame, ending)
            except BaseException as error:
                ending.error = error
            ending.error = ending.error or ending.raised  # also where the resource has swallowed it
            if ending.error is None and not isinstance(ending.value, Nothing):
                unit.end("committed", None, frame.line())
                return ending.value
            for cell, earlier in before:
                cell.value = earlier
            raise self._rolled_back(unit, frame, ending)
        finally:
            unit.close()
            ending.raised = ending.error = None  # whose tracebacks hold this frame
            if stopped(frame) is None:
                await unit.kept(frame)

    async def _perform(self, unit: Unit, frame: Frame, ending: _Ending[T_co]) -> None:
        """Run the body in its resource."""
        body = self.inner.handle(_inside(frame))
        with anyio.CancelScope() as unit.guard:
            async with unit.resource():
                try:
                    ending.value = await hop(body)
                except BaseException as error:
                    ending.raised = error
                    raise
                finally:
                    # Neither a commit nor a rollback is cut short.
                    if stopped(frame) is not None or anyio.current_effective_deadline() == -math.inf:
                        unit.guard.deadline = grace_ends()
                    unit.guard.shield = True
        if unit.guard.cancelled_caught and ending.raised is None:
            message = f"the commit was cut off after {computation.CLEANUP_GRACE:g} seconds"
            raise TimeoutError(message)

    def _rolled_back(self, unit: Unit, frame: Frame, ending: _Ending[T_co]) -> BaseException:
        """Tell *unit* how it ended; gives what is raised behind it."""
        signal, raised, error = stopped(frame), ending.raised, ending.error
        assert error is not None
        if signal is not None:
            unit.stop(signal)
            return signal
        cancelled = anyio.get_cancelled_exc_class()
        if raised is not None and (error is raised or isinstance(raised, cancelled)):
            unit.end("rolled back", raised, frame.line())
            return raised
        if isinstance(error, cancelled):
            if is_cancelled():
                unit.stop(None)
                return error
            error = EffectError("asyncio.exceptions:CancelledError", "what the transaction waited for was cancelled")
        return unit.fail(error)


class _Ending(Generic[T]):
    """How the body and its resource ended."""

    def __init__(self) -> None:
        self.value: T | Nothing = NOTHING
        self.raised: BaseException | None = None
        """By the body."""
        self.error: BaseException | None = None
        """What came out of the resource: what the body raised, or an error of its own."""


def _inside(frame: Frame) -> Handler:
    """The scope of a body: it cannot wait, and it may roll back."""

    @asynccontextmanager
    async def scope() -> AsyncGenerator[Handler]:
        rollbacks = _Rollbacks()
        yield rollbacks
        # The body returned, whatever it made of what stopped it.
        signal = stopped(frame)
        if signal is not None:
            raise signal.with_traceback(None)
        if rollbacks.error is not None:
            raise rollbacks.error

    made = Lifetime(scope, spans_suspension=False)
    made.label = "transact"
    return made


class _Rollbacks(Handler):
    label = "rollback"

    def __init__(self) -> None:
        self.error: RolledBackError | None = None

    def install(self) -> Installed:
        return Installed({Rollback: self._roll_back})

    def _roll_back(self, effect: Rollback) -> Never:
        self.error = RolledBackError(effect.reason)
        raise self.error


class _TransactionHandler(Handler):
    label = "Transaction"

    def __init__(self, begin: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
        self._begin = begin

    def install(self) -> Installed:
        return Installed({Begin: self._unit})

    def _unit(self, _effect: Begin) -> Unit:
        return Unit(self._begin)


class Transaction:
    """Handlers of `transact`."""

    @staticmethod
    def handler(begin: Callable[[], AbstractAsyncContextManager[Any]], /) -> Handler:
        """Transactions of a database.

        Args:
            begin: Gives an async context manager for each transaction: left normally it commits, left with an error it
                rolls back. Entered inside another one it is a savepoint. The ``transaction`` method of a connection is
                one, in asyncpg, and in psycopg with ``autocommit=True``.

        Gotchas:
            It is entered only where the body is performed: a replay of a settled transaction opens none. The port's
            implementation works on the same connection, usually that of a `lifetime`.
        """
        if hasattr(begin, "__aenter__") or not callable(begin):
            problem = f"{type(begin).__name__} is one transaction, or none"
            raise DeclarationError("Transaction.handler", problem, "pass connection.transaction, without calling it")
        return _TransactionHandler(begin)

    @staticmethod
    def in_memory() -> Handler:
        """No database, for tests and for state alone: State, Writer and events are restored."""
        return _TransactionHandler(nullcontext)


def transact(comp: Computation[T]) -> Computation[T]:
    """Run *comp* so that its effects are committed together or leave no trace.

    When *comp* returns, the transaction commits. When it raises, the transaction is rolled back: State, Writer and
    events are again what they were, and the error goes on. A transaction inside a transaction is a savepoint.

    Until the commit nothing of it is kept: a crash or a cancelled host performs the whole of it again, under the same
    idempotency keys. A question in *comp* is refused at its line.

    Args:
        comp: What is done in the transaction.

    Gotchas:
        A crash between the commit and the moment at which the log is stored performs it a second time, under the same
        keys: let the port keep ``current_call().key`` with what it returned, in the same transaction, and return that.
        A port that is not part of the database is not rolled back; request it outside.
    """
    check_computation(comp, "transact")
    return Transact(comp)


def rollback(reason: str) -> Effect[Never]:
    """Roll the transaction back: raises `RolledBackError` at this line.

    And at `transact`, whatever the body makes of it.
    """
    return Rollback(reason)
