"""Join and cancel in the log: an entry each; what is joined comes from the task's own entries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
from msgspec import UNSET

from skuld_async._scopes import ASYNC_FRAMED, Route
from skuld_async._signals import RunCancel

from . import failures
from .blame import blamed
from .codec import codec_of
from .replaying import give_up, refuse_after_failure, wait_where_given_up

if TYPE_CHECKING:
    from skuld_async._frames import Frame
    from skuld_async.effects.fork import TaskEffect

    from .journal import Journal


def asking(kind: type[TaskEffect[Any]], journal: Journal) -> Route:
    """The route of what is requested of a task."""
    codec = codec_of(kind)

    async def ask(effect: TaskEffect[Any], frame: Frame) -> Any:
        effect.check(frame)
        entry = journal.begin(codec, effect, frame)
        is_live = entry.state == "started"
        if is_live:
            refuse_after_failure(entry, frame, journal)
        else:
            await wait_where_given_up(entry, frame)
            if entry.error is not UNSET and entry.error.kind == "run-cancel":
                raise RunCancel
        try:
            value = await effect.__perform__(frame)
        except RunCancel as signal:
            if is_live:
                journal.stop(entry, signal)
            raise
        except anyio.get_cancelled_exc_class():
            give_up(entry, frame, journal)
            raise
        except Exception as error:
            entry.error, entry.state = failures.to_data(error), "discarded"
            blamed(error, entry)
            raise
        entry.state = "executed"
        return value

    return Route(ASYNC_FRAMED, ask)
