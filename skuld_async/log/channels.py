"""Channels in the log: an entry for each send and receive, settled at the moment at which a value is handed over."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
from msgspec import UNSET, Raw

from skuld_async._declared import Misfit
from skuld_async._errors import ChannelClosedError, UndecodableError
from skuld_async._scopes import ASYNC_FRAMED, Route
from skuld_async._signals import Fault, RunCancel
from skuld_async._strand import stopped
from skuld_async.effects.channel import ChannelEffect, perform

from . import failures
from .blame import blamed
from .codec import codec_of
from .entry import NULL, raw_value
from .folding import Handed, fold_channel
from .replaying import give_up, refuse_after_failure, wait_where_given_up

if TYPE_CHECKING:
    from skuld_async._frames import Frame
    from skuld_async._signals import Signal

    from .codec import Codec
    from .entry import Entry
    from .journal import Journal


def channelling(kind: type[ChannelEffect[Any]], journal: Journal) -> Route:
    """The route of what is requested of a channel."""
    codec = codec_of(kind)

    async def ask(effect: ChannelEffect[Any], frame: Frame) -> Any:
        path, cell = effect.cell_in(frame)
        entry = journal.begin(codec, effect, frame)
        if entry.state != "started":
            await wait_where_given_up(entry, frame)
            if entry.state == "discarded":
                raise _error(codec, entry, journal)
            return _value(codec, entry)
        refuse_after_failure(entry, frame, journal)
        fold_channel(journal.book, f"{path}{cell.name}", cell)
        entry.scope = path
        try:
            # What is handed over is the value as the log has it, whatever the sender does with its own.
            request: Any = codec.decode(entry.data)
            await perform(request, frame, cell, partial(_settle, codec, entry, journal), partial(_undo, entry))
        except anyio.get_cancelled_exc_class():
            signal = frame.strand.sticky
            if entry.state != "started":
                pass  # it was handed over before
            elif isinstance(signal, RunCancel):  # cleanup has had its time
                journal.stop(entry, signal)
            else:
                give_up(entry, frame, journal)
            raise
        except ChannelClosedError as error:
            entry.error, entry.state = failures.to_data(error), "discarded"
            blamed(error, entry)
            raise
        if entry.state == "started" or stopped(frame) is not None:
            raise _interrupted(entry, frame, journal)
        return _value(codec, entry)

    return Route(ASYNC_FRAMED, ask)


def _settle(codec: Codec, entry: Entry, journal: Journal, number: int, value: Any) -> None:
    """*value* is handed over."""
    journal.book.is_unstable = True
    if entry.sig.endswith(".close"):
        entry.state = "executed"
        return
    data = codec.answer.encode(value) if entry.sig.endswith(".receive") else b"null"
    entry.value, entry.state = raw_value(msgspec.json.encode(Handed(number, Raw(data)))), "executed"


def _undo(entry: Entry) -> None:
    """The value is taken back."""
    entry.value, entry.state = NULL, "started"


def _interrupted(entry: Entry, frame: Frame, journal: Journal) -> Signal:
    """The signal that stopped the strand: while it waited, or behind what was handed over."""
    signal = frame.strand.sticky
    assert signal is not None
    if entry.state == "started" and isinstance(signal, RunCancel):
        journal.stop(entry, signal)
    return signal.with_traceback(None)


def _value(codec: Codec, entry: Entry) -> Any:
    if not entry.sig.endswith(".receive"):
        return None
    try:
        return codec.answer.decode(msgspec.json.decode(entry.value, type=Handed).value)
    except (Misfit, msgspec.DecodeError) as error:
        raise Fault(UndecodableError(codec.label, entry.id, str(error))) from None


def _error(codec: Codec, entry: Entry, journal: Journal) -> BaseException:
    if entry.error is not UNSET and entry.error.kind == "other":
        return blamed(ChannelClosedError(codec.label.rpartition(".")[0]), entry)
    return journal.error(codec, entry)
