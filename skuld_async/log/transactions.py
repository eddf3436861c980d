"""Transactions in the log: what is requested in one is kept with its commit, and not before.

The entry of a transaction stands before those of its body, whose ids begin with its own. While it is started, what
follows under it may be gone with the process: it is forgotten, and the whole transaction is performed again. Once it is
settled its body is run from the log, without a resource; where the resource failed, the body is passed over.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import anyio
from msgspec import UNSET

from skuld_async._chain import caller
from skuld_async._computation import grace_ends
from skuld_async._errors import DivergenceError
from skuld_async._scopes import ASYNC_FRAMED, Route
from skuld_async._signals import Fault, RunCancel
from skuld_async.effects.transaction import Begin, Unit

from . import divergence
from .blame import blamed, culprit
from .codec import codec_of
from .entry import COMMITTED, ROLLED_BACK
from .external import keep
from .replaying import wait_where_given_up

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from msgspec import Raw

    from skuld_async._effect import Effect
    from skuld_async._frames import Frame
    from skuld_async._signals import Signal
    from skuld_async.effects.transaction import Ending

    from .entry import Entry
    from .journal import Journal

_ENDINGS: dict[Ending, Raw] = {"committed": COMMITTED, "rolled back": ROLLED_BACK}


def transaction(live: Route, journal: Journal) -> Route:
    """The route of `transact`: performed where it was not settled yet, else run from the log."""
    function, codec = caller(live), codec_of(Begin)

    async def begin(effect: Effect[Any], frame: Frame) -> Unit:
        entry = journal.begin(codec, effect, frame)
        if entry.state == "started":
            journal.forget(entry)
            return LoggedUnit(entry, journal, function(effect, frame))
        why = None if entry.error is UNSET else entry.error.kind
        await wait_where_given_up(entry, frame)
        if why in (None, "run-cancel", "task"):
            return LoggedUnit(entry, journal, None)
        journal.nested(entry)
        raise journal.error(codec, entry)

    return Route(ASYNC_FRAMED, begin, live.scope)


class LoggedUnit(Unit):
    """A transaction with its entry; without *live* it is run from the log."""

    def __init__(self, entry: Entry, journal: Journal, live: Unit | None) -> None:
        super().__init__(nullcontext if live is None else live.begin)
        self.entry = entry
        self.is_live = live is not None
        self._journal = journal
        journal.units.append(self)

    def resource(self) -> AbstractAsyncContextManager[Any]:
        """Where the body is run from the log, none."""
        return super().resource() if self.is_live else self._passed()

    @asynccontextmanager
    async def _passed(self) -> AsyncGenerator[None]:
        """In place of the resource: a run that was cancelled while that began or ended is cancelled there again."""
        if self._journal.cancelled_at is not None:
            await anyio.lowlevel.checkpoint()
        try:
            yield
        finally:
            if self._journal.cancelled_at is not None:
                await anyio.lowlevel.checkpoint()

    def end(self, ending: Ending, error: BaseException | None, line: str) -> None:
        """Settle the entry, or check how it was settled."""
        entry = self.entry
        if self.is_live:
            entry.state, entry.value = "executed", _ENDINGS[ending]
        elif entry.state == "executed" and entry.value != _ENDINGS[ending]:
            raise Fault(self._otherwise(ending, line)) from error
        if isinstance(error, Exception) and culprit(error) is None:
            blamed(error, entry)  # the body's own error: a `rerun` performs the transaction again
        super().end(ending, error, line)

    def _otherwise(self, ending: Ending, line: str) -> DivergenceError:
        journal = self._journal
        return DivergenceError(
            "the transaction ends in another way than the log holds",
            line=line,
            entry=self.entry.id,
            expected=bytes(self.entry.value).decode(),
            received=bytes(_ENDINGS[ending]).decode(),
            matched=divergence.last_matched(journal.entries, journal.cursor),
            cause="its body was changed, or depends on something else than its effects",
        )

    def fail(self, error: BaseException) -> BaseException:
        """Settle the entry with the error of the resource."""
        if self.is_live and isinstance(error, Exception):
            error = self._journal.discard(codec_of(Begin), self.entry, error)
        return super().fail(error)

    def stop(self, signal: Signal | None) -> None:
        """Leave it to the next resume, or settle that it was given up."""
        if not self.is_live:
            return
        if signal is None:
            self._journal.abandon(self.entry, "body-scope")
        elif isinstance(signal, RunCancel):
            self._journal.stop(self.entry, signal)
        else:
            self._journal.forget(self.entry)

    def hurry(self) -> None:
        """The session is stopped: what the resource does now has the grace time, and no more."""
        if self.guard is not None:
            self.guard.deadline = min(self.guard.deadline, grace_ends())

    def close(self) -> None:
        """The strand has left it."""
        self._journal.units.remove(self)

    async def kept(self, frame: Frame) -> None:
        """Come back when how it ended is kept: from then on it is never performed again."""
        keeper = self._journal.book.keeper
        if self.is_live and keeper is not None and self.entry.state != "started":
            await keep(keeper, self.entry, self._journal, frame)
