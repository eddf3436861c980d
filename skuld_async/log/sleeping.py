"""Sleep in the log: when it is over stands in its entry from the first arrival on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from msgspec import UNSET

from skuld_async._clock import due_in
from skuld_async._scopes import ASYNC_FRAMED, Route
from skuld_async._signals import RunCancel
from skuld_async.effects.clock import Sleep

from .codec import codec_of
from .pauses import Pause, in_last_cleanup, refuse_in_cleanup, refuse_what_cannot_wait
from .replaying import give_up, refuse_after_failure, wait_where_given_up

if TYPE_CHECKING:
    from skuld_async._frames import Frame

    from .journal import Journal


def sleeping(journal: Journal) -> Route:
    """The route of `Clock.sleep`."""
    codec = codec_of(Sleep)

    async def sleep(effect: Sleep, frame: Frame) -> None:
        entry = journal.begin(codec, effect, frame)
        if entry.state != "started":
            await wait_where_given_up(entry, frame)
            if entry.state == "discarded":
                refuse_in_cleanup(codec.label, frame)
                raise journal.error(codec, entry)
            return
        refuse_after_failure(entry, frame, journal)
        if entry.deadline is UNSET:
            entry.deadline = await due_in(frame, effect.after)
            journal.book.is_unstable = True
        pause = Pause(frame, entry)
        if not pause.timer.is_near:
            if in_last_cleanup(frame) is not None:
                journal.stop(entry, RunCancel())
            refuse_in_cleanup(codec.label, frame)
            await refuse_what_cannot_wait(codec.label, frame)
        try:
            await pause.wait(journal)
        except anyio.get_cancelled_exc_class():
            give_up(entry, frame, journal)
            raise
        entry.state = "executed"
        if journal.log.header.status == "suspended":
            journal.log.header.status = "running"

    return Route(ASYNC_FRAMED, sleep)
