"""The store: where runs are kept. Four implementations are in `skuld_async.stores`; one suite checks them all.

The rules:

1. The log of a run belongs to whoever holds its lease: `append` names worker, fencing token and number, and a store
   that finds another one refuses it. Nobody else writes to the log.
2. Everybody may send messages to a run: `answer`, `deposit`, `cancel`. Its owner folds them in, or the next one does:
   a message makes a run ready to be taken (``wake=0``) that nobody has and that is running or suspended, and it makes
   a suspended run running, whoever has it.
3. A method that returns has committed. One that raises anything but the errors named here may have committed all the
   same: calling it again with the same arguments is then right, and does nothing twice.
4. A store knows nothing of computations: to it, chunks, answers and events are bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, Self, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from .records import (
        Append,
        Message,
        NewAnswer,
        NewDeposit,
        NewEvent,
        NewRun,
        RunFilter,
        RunRecord,
        WaitFilter,
        WaitRecord,
        WorkerRecord,
    )

Answered: TypeAlias = Literal["accepted", "repeated", "conflict", "closed", "unknown"]
"""What became of an answer: taken; given before, the same; given before, another one; too late; no such question."""


class Heart(Protocol):
    """Beats for one worker; used by one thread beside the event loop, on a connection of its own.

    One whose `beat` has raised is used again: it connects anew by itself.
    """

    def beat(self) -> None:
        """Let ``beat`` of the worker grow by one; the first time, and where it was forgotten, put it into the store."""
        ...

    def close(self) -> None:
        """Remove the worker, and close the connection; runs that it still owns are those of a dead one."""
        ...


class Listener(Protocol):
    """Hears what changes in a store, whoever changes it."""

    async def changed(self, within: float) -> Collection[str] | None:
        """Wait for a change since the last call, for at most *within* seconds.

        Reported are new runs that nobody has, messages, changes of a status, leases that were given back, and events.

        Returns:
            Ids of the runs that changed, none if the time was over; None where it is not known which.
        """
        ...


class Store(Protocol):
    """Where runs are kept; an async context manager, entered once, which creates or migrates what it needs."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    # -- runs --------------------------------------------------------------------------------------------------------

    async def create(self, run: NewRun, worker: str | None) -> RunRecord:
        """Keep a new run, owned by *worker* with token 1, or by nobody and ready to be taken (``wake=0``).

        One that is ``paused`` is owned by nobody, and not ready. ``appends`` is 1.

        Returns:
            The run; where there is one of that id already, that one, and nothing is changed. The caller recognises its
            own by worker and token, which is also how a call that is repeated finds out that it had succeeded.
        """
        ...

    async def get(self, run: str) -> RunRecord | None:
        """The run, or None where there is none of that id."""
        ...

    async def load(self, run: str) -> tuple[Sequence[bytes], Sequence[Message]]:
        """The chunks of its log, oldest first, and the messages that are not folded in, oldest first."""
        ...

    async def inbox(self, run: str) -> Sequence[Message]:
        """The messages that are not folded in, oldest first."""
        ...

    async def runs(self, only: RunFilter, after: tuple[float, str] | None, limit: int) -> Sequence[RunRecord]:
        """Runs, the newest first (by ``created``, then id): those behind *after*, these two of the last one seen."""
        ...

    async def append(self, item: Append) -> None:
        """Write what happened in a run: see `Append`. Those of several runs may share a commit, and fail each alone.

        The last append again (worker, token, number) does nothing, also when the lease was given back meanwhile.

        Raises:
            LeaseLostError: The run has another owner, another token, or another number; or there is no such run. This
                comes before the next one.
            WaitTakenError: It ends a wait that has been answered meanwhile; nothing was written.
        """
        ...

    async def claim(
        self,
        worker: str,
        *,
        now: float,
        limit: int,
        workflows: Collection[str],
        dead: Collection[str] = (),
        unknown: bool = False,
    ) -> Sequence[RunRecord]:
        """Take up to *limit* runs: each gets *worker* as its owner, the status running, and the next token.

        They are the runs that nobody has and whose ``wake`` is *now* or before, the longest due first, and those that
        the workers *dead* own, whose ``recoveries`` grow by one. No two callers get the same run; one that another
        call is changing may be left for the next claim.

        Args:
            worker: Id of the worker.
            now: Seconds since the epoch, by the clock that runs go by.
            limit: How many at most.
            workflows: Names of the workflows whose runs are taken.
            dead: Ids of workers that are dead.
            unknown: Whether, instead, those of all other workflows are taken.
        """
        ...

    async def next_wake(self, workflows: Collection[str]) -> float | None:
        """The smallest ``wake`` of the runs of *workflows* that nobody has; None if none of them has one."""
        ...

    async def mail(self, worker: str) -> Sequence[tuple[str, int]]:
        """The runs of *worker* that have messages which are not folded in: id, and number of the last message."""
        ...

    async def requeue(self, run: str, now: float) -> bool:
        """Let a run that is paused, dead, or needs attention be taken again; its recoveries are counted from 0.

        Returns:
            Whether it was one of these.
        """
        ...

    async def requeue_known(self, attention: str, workflows: Collection[str], now: float) -> int:
        """The same for all runs of *workflows* that need attention for the reason *attention*; gives their number."""
        ...

    async def delete(self, run: str) -> Literal["deleted", "owned", "unknown"]:
        """Remove a run with all that belongs to it, unless somebody owns it."""
        ...

    async def expire(self, before: float, limit: int) -> int:
        """Remove up to *limit* runs that ended before *before* (``updated``); gives their number."""
        ...

    # -- messages ----------------------------------------------------------------------------------------------------

    async def wait(self, run: str, wait: str) -> WaitRecord | None:
        """One question, open or not; None where there is none."""
        ...

    async def waits(self, only: WaitFilter, after: tuple[float, str, str] | None, limit: int) -> Sequence[WaitRecord]:
        """Open questions, the oldest first (by ``opened``, run, id): those behind *after*, which has these three."""
        ...

    async def answer(self, item: NewAnswer) -> Answered:
        """Answer an open question, once: compare-and-set on its row, with a message to its run in the same commit.

        A question that was asked again with other words (another digest) is unknown. One that is closed and had an
        answer still says ``repeated`` or ``conflict``; who answers, and when, makes no difference.
        """
        ...

    async def deposit(self, item: NewDeposit) -> int | None:
        """Leave an answer that nobody has checked; it does not close a wait. An equal one is the same message.

        Returns:
            The number of the message; None where there is no such run, or it has ended.
        """
        ...

    async def cancel(self, run: str, reason: str, by: str, at: float) -> bool:
        """Ask a run to be cancelled; one that is parked is requeued for it, and asking again changes nothing.

        Returns:
            Whether it was there and had not ended.
        """
        ...

    async def messages(self, run: str) -> Sequence[tuple[Message, str | None]]:
        """All that was ever sent to a run, oldest first, each with what became of it.

        That is None until its owner has dealt with it, empty if it was of use, and else why it was not.
        """
        ...

    # -- events ------------------------------------------------------------------------------------------------------

    async def events(self, run: str, after: int, limit: int) -> Sequence[NewEvent]:
        """Events of a run behind the offset *after*, in their order."""
        ...

    def listen(self) -> AbstractAsyncContextManager[Listener]:
        """Hear of changes from now on."""
        ...

    # -- workers -----------------------------------------------------------------------------------------------------

    def heart(self, worker: WorkerRecord) -> Heart:
        """What beats for *worker*; made and used in a thread of its own."""
        ...

    async def workers(self) -> Sequence[WorkerRecord]:
        """The workers that are known, dead or alive, those included that are forgotten but own runs (``beat`` 0)."""
        ...

    async def bury(self, workers: Collection[str]) -> None:
        """Forget workers that are dead and own nothing."""
        ...
