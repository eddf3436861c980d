"""AtomicState in the log: answered from there, or done at once and written there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skuld_async._declared import Misfit
from skuld_async._effect import label_of
from skuld_async._errors import UnencodableError
from skuld_async._scopes import SYNC_FRAMED, Route
from skuld_async._signals import Fault

from .codec import codec_of
from .folding import fold

if TYPE_CHECKING:
    from skuld_async._frames import Frame
    from skuld_async._handler import Cell
    from skuld_async._scopes import Scope
    from skuld_async.effects.atomic import AtomicEffect

    from .journal import Journal


def atomic(kind: type[AtomicEffect[Any]], live: Route, journal: Journal) -> Route:
    """The route of an effect of an `AtomicState`; *live* performs it."""
    codec, function = codec_of(kind), live.function
    scope: Any = live.scope
    path = scope.path
    fold(journal.book, [_cell_of(kind, scope)])

    def record(effect: AtomicEffect[Any], frame: Frame) -> Any:
        entry = journal.begin(codec, effect, frame)
        if entry.state != "started":
            return journal.replayed(codec, entry)
        entry.scope = path
        try:
            value = function(effect)
        except Misfit as error:
            raise Fault(_unfit(codec.label, error, frame)) from None
        except Exception as error:
            seen = journal.discard(codec, entry, error)
            raise seen from seen.__cause__
        journal.book.is_unstable = True  # where strands meet at it
        return journal.settle(codec, entry, value)

    return Route(SYNC_FRAMED, record, live.scope)


def _unfit(label: str, error: Misfit, frame: Frame) -> UnencodableError:
    return UnencodableError(label, str(error), frame.line())


def _cell_of(kind: type[AtomicEffect[Any]], scope: Scope) -> tuple[str, Cell[Any]]:
    label = label_of(kind).rpartition(".")[0]
    path, found = scope.path, scope
    while label not in found.cells and found.origin is not None:
        found = found.origin
    return f"{path}{label}", found.cells[label]
