"""A run, as whoever started it or looks after it sees it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic

import anyio
import msgspec
from typing_extensions import TypeVar

from skuld_async._errors import RunCancelledError
from skuld_async.log import failures
from skuld_async.log.chunks import log_of
from skuld_async.log.entry import ErrorData

from .errors import StuckRunError, UnknownRunError
from .views import RunEvent, RunView, time_of, view_of_run

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from skuld_async.log.log import Log

    from .records import RunRecord
    from .runtime import Runtime

T_co = TypeVar("T_co", covariant=True, default=Any)

_FIRST_WAITS = 10
"""Questions that a view of a run shows."""
_PAGE = 500
"""Events that are read at once."""
_LOOK = 1.0
"""Seconds between two looks at a run, beside those that a change leads to."""


class Run(Generic[T_co]):
    """A run of a runtime; it holds nothing of the run but its id.

    Attributes:
        id: Of the run.
    """

    def __init__(self, runtime: Runtime, id: str) -> None:
        self.id = id
        self._runtime = runtime

    def __repr__(self) -> str:
        return f"<Run {self.id}>"

    async def view(self) -> RunView:
        """How it stands now, with the first 10 of its open questions.

        Raises:
            UnknownRunError: It was deleted.
        """
        return await self._shown(await self._record())

    async def settled(self, timeout: float | timedelta | None = None) -> RunView:  # noqa: ASYNC109 - the answer is then how it stands
        """Wait until it stands still: it has ended, waits for an answer or a time, or is parked.

        Args:
            timeout: Seconds after which it is told as it stands then; None waits for as long as it takes.
        """
        return await self._shown(await self._until(lambda record: record.status != "running", timeout))

    async def result(self, timeout: float | timedelta | None = None) -> T_co:  # noqa: ASYNC109 - see TimeoutError
        """Wait until it has ended, and give what it returned.

        Raises:
            Exception: What it raised, as the log has it.
            RunCancelledError: It was cancelled.
            StuckRunError: It needs attention, is dead or paused: by itself it will not end.
            TimeoutError: It has not ended after *timeout* seconds.
        """
        record = await self._until(lambda record: record.status not in ("running", "suspended"), timeout)
        if record.status == "completed":
            definition: Any = self._runtime.definition(record.workflow)
            value: T_co = definition._result.decode(msgspec.Raw(record.result or b"null"))
            return value
        if record.status == "failed":
            assert record.error is not None
            raise failures.rebuild(msgspec.json.decode(record.error, type=ErrorData))
        if record.status == "cancelled":
            raise RunCancelledError(self.id, "cancelled")
        if record.status in ("running", "suspended"):
            message = f"run {self.id} has not ended yet: it is {record.status}"
            raise TimeoutError(message)
        raise StuckRunError(self.id, record.status, "" if record.error is None else record.error.decode())

    async def cancel(self, reason: str = "cancelled", *, by: str = "") -> bool:
        """Ask it to be cancelled for good; it does its cleanup first.

        Returns:
            Whether it had not ended.
        """
        return await self._runtime.cancel(self.id, reason, by=by)

    async def log(self) -> Log:
        """Its log, as far as it is stored."""
        chunks, _ = await self._runtime.store.load(self.id)
        if not chunks:
            raise UnknownRunError(self.id)
        return log_of(chunks)[0]

    async def watch(self, after: int = 0) -> AsyncGenerator[RunEvent]:
        """What happens in it, from the event behind the offset *after* on, until it has ended.

        Kept are the events since the run last stood still, and those of the stretch before that; earlier ones may be
        gone, which a gap in the offsets shows.

        Gotchas:
            Whoever leaves the loop early closes it: ``async with aclosing(run.watch()) as events``.
        """
        store, notices = self._runtime.store, self._runtime.notices
        while True:
            event = notices.of(self.id)
            try:
                record = await self._record()
                while found := await store.events(self.id, after, _PAGE):
                    for one in found:
                        data = msgspec.json.decode(one.data)
                        after = one.offset
                        yield RunEvent(offset=after, at=time_of(one.at), kind=data.pop("kind"), data=data)
                if view_of_run(record).has_ended:
                    return
                with anyio.move_on_after(_LOOK):
                    await event.wait()
            finally:
                notices.forget(self.id, event)

    async def _shown(self, record: RunRecord) -> RunView:
        if record.status in ("running", "suspended"):
            waits = await self._runtime.waits(run=self.id, limit=_FIRST_WAITS)
            return view_of_run(record, tuple(waits.items))
        return view_of_run(record)

    async def _until(self, is_so: Callable[[RunRecord], bool], within: float | timedelta | None) -> RunRecord:
        """Wait until *is_so* of its record, or *within* is over; gives the record."""
        seconds = within.total_seconds() if isinstance(within, timedelta) else within
        notices = self._runtime.notices
        with anyio.move_on_after(seconds):
            while True:
                event = notices.of(self.id)
                try:
                    record = await self._record()
                    if is_so(record):
                        return record
                    with anyio.move_on_after(_LOOK):
                        await event.wait()
                finally:
                    notices.forget(self.id, event)
        return await self._record()

    async def _record(self) -> RunRecord:
        record = await self._runtime.store.get(self.id)
        if record is None:
            raise UnknownRunError(self.id)
        return record
