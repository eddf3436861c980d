"""A session: one stretch of a run in one process, from its log to its log.

The root strand runs in a shielded task of the session, and the caller's task watches it. So the three ways of being
cancelled are told apart: the host's (SIGTERM, a client that hangs up) is a cold suspension and leaves no trace; the
run's own is recorded first, then delivered; a scope in the body is the body's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Self

import anyio
from msgspec import UNSET, Raw
from typing_extensions import TypeVar

from skuld_async._context import current_strand
from skuld_async._declared import Misfit
from skuld_async._errors import DeclarationError, DeploymentError, DivergenceError, LifetimeError, UnencodableError
from skuld_async._frames import strip
from skuld_async._pump import drive
from skuld_async._run import fault_of, fault_that_stopped
from skuld_async._scopes import Scope, open_scope
from skuld_async._signals import Fault, RunCancel, Signal, Suspend
from skuld_async._strand import Crew, Strand

from . import failures, waits
from .blame import culprit, cut_off
from .book import Book
from .divergence import Divergence
from .entry import Cancellation
from .folding import fold
from .identity import check_identity, declared_result, misfit_of_result, root_call, version_of
from .journal import Journal
from .options import LINGER
from .outcome import Cancelled, Completed, Failed, Suspended
from .questions import Answer, Questions
from .recording import Recorder, Rules
from .stopping import places_of, strand_on

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import TracebackType

    from anyio.abc import TaskGroup

    from skuld_async._computation import Computation
    from skuld_async._handler import Handler

    from .keeping import Keeper
    from .log import Log, Wait
    from .options import Options
    from .outcome import Outcome
    from .strands import LoggedStrand

T = TypeVar("T")

_NOT_BEGUN = "0/0"
"""Where a run is cancelled that has not begun."""

_POLL = 0.001
"""Seconds between two looks at a replay that a run cancel waits for."""


class Session(Generic[T]):
    """A run in this process; made by `open_session`."""

    def __init__(
        self,
        comp: Computation[T],
        log: Log,
        handlers: tuple[Handler, ...],
        options: Options,
        *,
        answers: list[Answer] | None = None,
        allow_divergence: bool = False,
        budget: int | None = None,
        keeper: Keeper | None = None,
        changed: Callable[[], None] | None = None,
    ) -> None:
        self.log = log
        """All that the run did, up to this moment."""
        self._comp = comp
        self._handlers = handlers
        check_identity(log, comp)
        for answer in answers or ():
            answer.address(log, allow_divergence=allow_divergence)
        if len({answer.wait for answer in answers or ()}) < len(answers or ()):
            problem = "two answers are meant for one question"
            raise DeclarationError("resume(..., answers=...)", problem, "give one answer for each question")
        self._expected = log.header.status
        if log.header.status in ("completed", "failed"):
            budget = 0  # nothing is left to be performed
        self._book = Book(log, allow_divergence=allow_divergence, budget=budget)
        self._book.keeper = keeper
        self._journal = Journal(self._book)
        self._questions = Questions(self._book, answers or [], self._notify)
        only = options.get("effects")
        self._rules: Rules | None = Rules(
            self._questions.ask,
            None if only is None else tuple(getattr(key, "__family__", key) for key in only),
            options.get("prune_loops", True),
            options.get("prune_branches", False),
            options.get("state_keys"),
            options.get("intercept", ()),
            options.get("observe", ()),
        )
        linger = options.get("linger", LINGER)
        self._crew = Crew(self._still, linger.total_seconds())
        self._crew.moves = self._notify
        self._crew.is_shielded = True
        self._strand: LoggedStrand | None = None
        self._scope: Scope | None = None
        self._shield = anyio.CancelScope(shield=True)
        self._early: Signal | None = None
        """What stopped the run before it had a strand."""
        self._changed = anyio.Event()
        self._tell = changed or _nothing
        self._outcome: Outcome[T] | None = None
        self._crash: BaseException | None = None
        self._told = False
        self._ended = False
        self._group: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        await anyio.lowlevel.checkpoint_if_cancelled()  # a host that is cancelled already begins nothing
        self._group = self._crew.group = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(self._run)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._group is not None
        self._stop(Suspend())
        try:
            await self._group.__aexit__(kind, error, traceback)
        except BaseExceptionGroup as group:
            # The group holds nothing but what came in: the strand reports its errors through `outcome`.
            if len(group.exceptions) != 1 or group.exceptions[0] is not error:
                raise
        if kind is None and self._crash is not None and not self._told:
            raise self._crash  # nobody asked for the outcome, and this must not pass in silence

    # -- for the caller ----------------------------------------------------------------------------------------------

    async def outcome(self) -> Outcome[T]:
        """Wait until the run stands still: it has ended, or it waits for an answer.

        Raises:
            DeploymentError: With ``.log``: after the fix, `resume` goes on.
        """
        while not self._ended and self._crew.moving:
            await self._changed.wait()
        if self._crash is not None:
            self._told = True
            raise self._crash
        if self._outcome is not None:
            return self._outcome
        return self._suspended()

    async def answer(self, value: Any, *, to: Wait | str | None = None) -> None:
        """Answer an open question; the run goes on in its task.

        Args:
            value: The answer.
            to: The wait, or its ``ref``, that the answer is meant for; the open one if None, and if there is only one.

        Raises:
            AnswerError: The answer is refused, and the wait stays open.
        """
        await self.accept(Answer(value, to))

    async def accept(self, answer: Answer) -> None:
        """The same of an `Answer`."""
        try:
            wait = waits.addressed(self.log, answer.to).id
            while not self._questions.is_parked(wait) and not self._ended and self._crew.moving:
                await self._changed.wait()  # its strand is on its way
            self._questions.answer(answer, wait)
        except DeploymentError as error:
            raise self._with_log(error) from None

    async def cancel(self, reason: str = "cancelled") -> Outcome[T]:
        """Cancel the run for good: recorded first, then delivered; brackets and `ensure` still do their cleanup."""
        while self._book.is_early() and not self._ended:  # noqa: ASYNC110 - the end of a replay is no event
            await anyio.sleep(_POLL)  # what the log holds comes first
        concluded = self._ended or self._outcome is not None or self._crash is not None
        if not concluded and self.log.header.cancelled is UNSET:
            self._cancel(reason)
        while not self._ended:
            await self._changed.wait()
        return await self.outcome()

    @property
    def book(self) -> Book:
        """The log as its strands share it."""
        return self._book

    @property
    def has_ended(self) -> bool:
        """Whether nothing of the run moves in this session any more."""
        return self._ended

    @property
    def stands_still(self) -> bool:
        """Whether no strand can move: each waits for an answer or a time."""
        return not self._ended and not self._crew.moving

    @property
    def asked(self) -> Collection[str]:
        """Ids of the open questions that strands wait at."""
        return self._questions.asked

    @property
    def has_budget(self) -> bool:
        """Whether more may be performed, where a budget was given."""
        return bool(self._book.budget)

    # -- the strand --------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        assert self._rules is not None
        bind = self._rules.bind(Recorder(self._journal, self._rules))
        try:
            with self._shield:
                async with open_scope(None, self._handlers, "", bind) as scope:
                    self._scope = scope
                    await self._drive(scope)
        except BaseException as error:  # of a handler's lifetime; the caller gets it from `outcome`
            self._lifetime_failed(error)
        finally:
            self._ended = True
            self._notify()
            # What refers back to this session lets go of it: a log is freed with its outcome, not at some collection.
            self._rules = self._strand = self._crew.root = None
            self._questions.changed = self._crew.still = self._crew.moves = self._tell = _nothing
            self._book.live.clear()

    def _lifetime_failed(self, error: BaseException) -> None:
        if self._scope is None or not isinstance(error, Exception):
            self._crash = error  # nothing was performed
        elif self._crash is not None:
            self._crash.add_note(f"and leaving the handlers' lifetimes failed: {error!r}")
        else:
            self._crash = self._with_log(LifetimeError(self.log.header.run, self.log.header.status, f"{error!r}"))
            self._crash.__cause__ = error

    async def _drive(self, scope: Scope) -> None:
        header = self.log.header
        if self._journal.cancelled_at == _NOT_BEGUN:
            self._journal.cancelled_at, self._early = None, RunCancel()
        self._strand = self._crew.root = strand = strand_on(self._journal, header.run, header.seed)
        strand.crew = self._crew
        if self._early is not None:
            strand.stop(self._early)
        token = current_strand.set(strand)
        value: Any = None
        error: BaseException | None = None
        try:
            with anyio.CancelScope() as strand.body:  # the lifetimes of its handlers are left in peace
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
            self._crew.fault = None
            if strand.sticky is not None:  # its traceback holds frames, which hold this session
                strand.sticky.__traceback__ = strand.sticky.__context__ = None

    def _conclude(self, strand: Strand, value: Any, error: BaseException | None) -> None:
        """What the strand's end means: the signal that stopped it decides, whatever the body made of it."""
        sticky = fault_that_stopped(strand) or strand.sticky
        header = self.log.header
        if self._journal.diverged:
            header.version = version_of(self._comp)
        if isinstance(sticky, Fault):
            if header.status == "running" and self.log.waits:
                header.status = "suspended"
            self._crash = self._with_log(fault_of(sticky))
        elif isinstance(sticky, Suspend):
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
        waits.check_not_cancelled(header, "returns")
        declared = declared_result(self._comp)
        try:
            data, back = declared.admit(value)
        except Misfit as error:
            raise UnencodableError(
                f"the result of {header.computation}", misfit_of_result(value, declared, error)
            ) from None
        if self._expected in ("completed", "failed"):
            waits.check_result(header, declared, data)
        header.status, header.result = "completed", Raw(data)
        # Of a bracket, and of what else is no call, the type is not known.
        self._outcome = Completed(value=value if root_call(self._comp) is None else back, **self._common())

    def _fail(self, error: Exception) -> None:
        self._journal.close("raised")
        header = self.log.header
        waits.check_not_cancelled(header, "raises")
        data = failures.to_data(error)
        if self._expected in ("completed", "failed"):
            waits.check_failure(header, data)
        header.status, header.error, header.cause = "failed", data, culprit(error) or cut_off(self.log, error)
        self._outcome = Failed(error=error, **self._common())

    # -- stopping ----------------------------------------------------------------------------------------------------

    def _cancel(self, reason: str) -> None:
        header = self.log.header
        strand = self._strand
        at, *also = [_NOT_BEGUN] if strand is None else places_of(strand)
        header.status, header.cancelled = "cancelled", Cancellation(at, failures.encodable(reason), also)
        self._book.is_unstable = True
        self._stop(RunCancel())

    def _stop(self, signal: Signal) -> None:
        """Let *signal* reach all strands."""
        if self._ended:
            return
        strand = self._strand
        if strand is None:
            self._early = signal
            if not isinstance(signal, RunCancel):
                self._shield.cancel()
            return
        if strand.stack:
            strand.interrupt(signal)
        else:  # what is still running are the exits of lifetimes
            strand.stop(signal)
            self._shield.cancel()

    def _still(self) -> None:
        """No strand can move."""
        if self._crew.outside:
            self.log.header.status = "suspended"
        self._crew.check()
        self._notify()

    # -- details -----------------------------------------------------------------------------------------------------

    def _suspended(self) -> Suspended:
        open_waits = self.log.waits
        wait = open_waits[-1] if open_waits else None
        return Suspended(
            question=None if wait is None else self._questions.asked.get(wait.id),
            wait=wait,
            waits=tuple(open_waits),
            wake_at=waits.wake_at(self.log),
            **self._common(),
        )

    def _common(self) -> dict[str, Any]:
        book = self._book
        if self._scope is not None:
            fold(book, self._scope.all_cells())
        cells = {} if self._scope is None else {cell.name: cell.value for cell in self._scope.cells.values()}
        accepted = Divergence(tuple(book.performed), tuple(book.dropped), tuple(book.unconsumed))
        return {"log": self.log, "cells": cells, "divergence": accepted}

    def _with_log(self, error: DeploymentError) -> DeploymentError:
        error.log = self.log
        if isinstance(error, DivergenceError) and self._expected == "failed":
            error.way_out = f"rerun(comp, log, *handlers) runs a failed run again; or {error.way_out}"
        version = version_of(self._comp)
        if isinstance(error, DivergenceError) and self.log.header.version != version:
            error.cause += f" (the log was written by version {self.log.header.version}, this is {version})"
        return error

    def _notify(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
        self._tell()


def _nothing() -> None:
    """Nobody is to be told any more."""
