"""A session: one stretch of a run in one process, from its log to its log.

The root strand runs in a shielded task of the session, and the caller's task watches it. So the three ways of being
cancelled are told apart: the host's (SIGTERM, a client that hangs up) is a cold suspension and leaves no trace; the run's own
is recorded first, then delivered; a scope in the body is the body's business.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Generic

import anyio
from msgspec import UNSET, Raw
from typing_extensions import Self, TypeVar

from skuld_async._chain import Chain
from skuld_async._context import current_strand
from skuld_async._declared import Misfit, describe
from skuld_async._errors import DeploymentError, InvalidAnswerError, NotWaitingError, UnencodableError
from skuld_async._misuse import DeadlineAcrossYieldError, TransientScopeError
from skuld_async._frames import strip
from skuld_async._pump import Strand, drive
from skuld_async._run import fault_of
from skuld_async._scopes import Scope, open_scope
from skuld_async._signals import Fault, RunCancel, Signal, Suspend
from skuld_async.effects.yield_ import Yield

from . import failures, waits
from .codec import Codec, codec_of
from .divergence import Divergence
from .entry import Cancellation, Entry
from .identity import check_identity, declared_result
from .journal import Journal, culprit
from .loops import Marks
from .outcome import Cancelled, Completed, Failed, Suspended
from .recording import Recorder, replayed

if TYPE_CHECKING:
    from types import TracebackType

    from anyio.abc import TaskGroup

    from skuld_async._computation import Computation
    from skuld_async._frames import Frame
    from skuld_async._handler import Handler

    from .log import Log, Wait
    from .options import Options
    from .outcome import Outcome

T = TypeVar("T")


class NoAnswer(enum.Enum):
    """The default of ``answer=``: None is an answer."""

    NO_ANSWER = enum.auto()


NO_ANSWER = NoAnswer.NO_ANSWER


class Answer:
    """An answer on its way to its wait."""

    def __init__(self, value: Any, to: Wait | str | None) -> None:
        self.value = value
        self.to = to


class _Parked:
    """The strand, waiting in its task for an answer."""

    def __init__(self, codec: Codec, entry: Entry, question: Yield[Any]) -> None:
        self.codec = codec
        self.entry = entry
        self.question = question
        self.woken = anyio.Event()
        self.value: Any = None
        self.signal: Signal | None = None


class Session(Generic[T]):
    """A run in this process; made by `open_session`."""

    def __init__(
        self,
        comp: Computation[T],
        log: Log,
        handlers: tuple[Handler, ...],
        options: Options,
        *,
        answer: Answer | None = None,
        allow_divergence: bool = False,
        budget: int | None = None,
    ) -> None:
        self.log = log
        """All that the run did, up to this moment."""
        self._comp = comp
        self._handlers = handlers
        check_identity(log, comp)
        if answer is not None:
            waits.check_address(log, answer.to)
            if allow_divergence and answer.to is None:
                answer.to = log.waits[-1]  # the computation may come to another question
        self._answer = answer
        self._expected = log.header.status
        if log.header.status in ("completed", "failed"):
            budget = 0  # nothing is left to be performed
        self._journal = Journal(log, allow_divergence=allow_divergence, budget=budget)
        marks = Marks(self._journal, prune=options.get("prune_loops", True), state_keys=options.get("state_keys"))
        recorder = Recorder(self, self._journal, marks, options.get("effects"))
        self._chain = Chain(options.get("intercept", ()), options.get("observe", ()), recorder)
        self.in_flight: anyio.CancelScope | None = None
        """Scope of the innermost external call, while there is one."""
        self._strand: Strand | None = None
        self._scope: Scope | None = None
        self._shield = anyio.CancelScope(shield=True)
        self._parked: _Parked | None = None
        self._changed = anyio.Event()
        self._outcome: Outcome[T] | None = None
        self._crash: BaseException | None = None
        self._told = False
        self._ended = False
        self._group: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(self._run)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._group is not None
        self._stop(Suspend())
        if kind is not None:
            await self._leave(kind, error, traceback)
            return
        await self._group.__aexit__(None, None, None)
        if self._crash is not None and not self._told:
            raise self._crash  # nobody asked for the outcome, and this must not pass in silence

    async def _leave(self, kind: Any, error: Any, traceback: Any) -> None:
        assert self._group is not None
        with anyio.CancelScope(shield=True):
            while not self._ended:
                await self._changed.wait()
        try:
            await self._group.__aexit__(kind, error, traceback)
        except BaseExceptionGroup as group:
            # The group holds nothing but what came in: the strand reports its errors through `outcome`.
            if len(group.exceptions) == 1 and group.exceptions[0] is error:
                return
            raise

    # -- for the caller ----------------------------------------------------------------------------------------------

    async def outcome(self) -> Outcome[T]:
        """Wait until the run stands still: it has ended, or it waits for an answer.

        Raises:
            DeploymentError: With ``.log``: after the fix, `resume` goes on.
        """
        while not self._ended and self._parked is None:
            await self._changed.wait()
        if self._crash is not None:
            self._told = True
            raise self._crash
        if self._outcome is not None:
            return self._outcome
        return self._suspended()

    async def answer(self, value: Any, *, to: Wait | str | None = None) -> None:
        """Answer the open question; the run goes on in its task.

        Args:
            value: The answer.
            to: The wait, or its ``ref``, that the answer is meant for; the open one if None.

        Raises:
            AnswerError: The answer is refused, and the wait stays open.
        """
        parked = self._parked
        if parked is None:
            raise self._with_log(NotWaitingError(self.log.header.run, self.log.header.status))
        try:
            waits.check_address(self.log, to)
            parked.value = self._accept(parked.codec, parked.entry, value)
        except DeploymentError as error:
            raise self._with_log(error) from None
        self._parked = None
        parked.woken.set()

    async def cancel(self, reason: str = "cancelled") -> Outcome[T]:
        """Cancel the run for good: recorded first, then delivered; brackets and `ensure` still do their cleanup."""
        if not self._ended and self.log.header.cancelled is UNSET:
            self._cancel(reason)
        while not self._ended:
            await self._changed.wait()
        return await self.outcome()

    # -- the strand --------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            with self._shield:
                async with open_scope(None, self._handlers, "", self._chain.bind) as scope:
                    self._scope = scope
                    await self._drive(scope)
        except BaseException as error:  # noqa: BLE001 - of a handler's lifetime; the caller gets it from `outcome`
            self._crash = error
        finally:
            self._ended = True
            self._notify()

    async def _drive(self, scope: Scope) -> None:
        header = self.log.header
        self._strand = strand = Strand(header.run, header.seed)
        token = current_strand.set(strand)
        value: Any = None
        error: BaseException | None = None
        try:
            value = await drive(strand, self._comp, scope)
        except BaseException as raised:
            error = strip(raised)
        finally:
            current_strand.reset(token)
        try:
            self._conclude(strand, value, error)
        except Fault as fault:
            self._crash = self._with_log(fault.error)
        except DeploymentError as failure:
            self._crash = self._with_log(failure)
        finally:
            del error

    def _conclude(self, strand: Strand, value: Any, error: BaseException | None) -> None:
        """What the strand's end means: the signal that stopped it decides, whatever the body made of it."""
        sticky = strand.sticky
        header = self.log.header
        if isinstance(sticky, Fault):
            if header.status == "running" and self.log.waits:
                header.status = "suspended"
            self._crash = self._with_log(fault_of(sticky))
        elif isinstance(sticky, Suspend):
            if self._journal.allow_divergence:
                self._journal.close("stopped")
            self._outcome = self._suspended()
        elif isinstance(sticky, RunCancel):
            self._journal.close("was cancelled")
            header.status = "cancelled"
            reason = "cancelled" if header.cancelled is UNSET else header.cancelled.reason
            self._outcome = Cancelled(reason=reason, refused=tuple(strand.refused), **self._common())
        elif error is None:
            self._complete(value)
        elif isinstance(error, Exception):
            self._fail(error)
        else:
            self._crash = error

    def _complete(self, value: Any) -> None:
        self._journal.close("returned")
        header = self.log.header
        declared = declared_result(self._comp)
        try:
            data, back = declared.admit(value)
        except Misfit as error:
            raise UnencodableError(f"the result of {header.computation}", str(error)) from None
        if self._expected in ("completed", "failed"):
            waits.check_result(header, declared, data)
        header.status, header.result = "completed", Raw(data)
        self._outcome = Completed(value=back, **self._common())

    def _fail(self, error: Exception) -> None:
        self._journal.close("raised")
        header = self.log.header
        data = failures.to_data(error)
        if self._expected in ("completed", "failed"):
            waits.check_failure(header, data)
        header.status, header.error, header.cause = "failed", data, culprit(error)
        self._outcome = Failed(error=error, **self._common())

    # -- questions ---------------------------------------------------------------------------------------------------

    async def ask(self, question: Yield[Any], frame: Frame) -> Any:
        """Serve a `Yield` that no handler answers: from the log, with the answer that is on its way, or by waiting."""
        codec = codec_of(type(question))
        if anyio.current_effective_deadline() != float("inf"):
            raise Fault(DeadlineAcrossYieldError(codec.label, frame.line()))
        for scope in frame.table.scope.outwards():
            if scope.transient is not None:
                raise Fault(TransientScopeError(codec.label, scope.transient, frame.line()))
        entry = self._journal.begin(codec, question, frame)
        if entry.state != "started":
            return replayed(codec, entry, self._journal, frame)
        if entry.wait is UNSET:
            entry.wait = waits.open_wait(codec, entry, question)
        if self._answer is not None:
            answer, self._answer = self._answer, None
            waits.check_question(entry, answer.to)
            return self._accept(codec, entry, answer.value)
        self.log.header.status = "suspended"
        if self._journal.allow_divergence:
            self._journal.close("waits")
        self._parked = parked = _Parked(codec, entry, question)
        self._notify()
        await parked.woken.wait()
        if parked.signal is not None:
            if isinstance(parked.signal, RunCancel):
                self._journal.abandon(entry, "run-cancel")
            raise parked.signal
        return parked.value

    def _accept(self, codec: Codec, entry: Entry, value: Any) -> Any:
        """Decode, then consume."""
        try:
            data, back = codec.answer.admit(value)
        except Misfit as error:
            raise Fault(InvalidAnswerError(codec.label, entry.id, str(error), describe(codec.answer.type))) from None
        waits.close_wait(self._journal, entry, data)
        self.log.header.status = "running"
        return back

    # -- stopping ----------------------------------------------------------------------------------------------------

    def _cancel(self, reason: str) -> None:
        header = self.log.header
        strand = self._strand
        next_id = f"{strand.path}/1" if strand is not None else "0/1"
        if strand is not None and strand.stack:
            place = strand.stack[-1].place
            next_id = f"{place.prefix}{place.count + 1}{self._journal.suffix}"
            if self._parked is not None or self.in_flight is not None:
                next_id = place.current_id
        header.status, header.cancelled = "cancelled", Cancellation(next_id, reason)
        self._stop(RunCancel())

    def _stop(self, signal: Signal) -> None:
        """Let *signal* reach the strand: at its wait, in its call, or wherever its body is."""
        if self._ended:
            return
        strand, parked = self._strand, self._parked
        if strand is not None:
            strand.stop(signal)
        if parked is not None:
            parked.signal = signal
            self._parked = None
            parked.woken.set()
        elif self.in_flight is not None:
            self.in_flight.cancel()
        else:
            self._shield.cancel()

    def interruption(self, entry: Entry) -> Signal:
        """The signal for whose sake the call of *entry* was cancelled."""
        signal = self._strand.sticky if self._strand is not None else None
        if isinstance(signal, RunCancel):
            self._journal.abandon(entry, "run-cancel")
        return signal or Suspend()

    # -- details -----------------------------------------------------------------------------------------------------

    def _suspended(self) -> Suspended:
        open_waits = self.log.waits
        question = self._parked.question if self._parked is not None else None
        return Suspended(question=question, wait=open_waits[-1] if open_waits else None, **self._common())

    def _common(self) -> dict[str, Any]:
        journal = self._journal
        cells = {} if self._scope is None else {cell.name: cell.value for cell in self._scope.cells.values()}
        accepted = Divergence(tuple(journal.performed), tuple(journal.dropped), tuple(journal.unconsumed))
        return {"log": self.log, "cells": cells, "divergence": accepted}

    def _with_log(self, error: DeploymentError) -> DeploymentError:
        error.log = self.log
        return error

    def _notify(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
