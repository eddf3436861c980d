"""AtomicState in the log: answered from there, and folded from there.

Its value is what the last entry about it made of it, in the order of the whole log: an effect, or a mark. So it does
not matter which strand has replayed how much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, Raw

from skuld_async._declared import Misfit
from skuld_async._errors import UndecodableError, UnencodableError
from skuld_async._scopes import SYNC_FRAMED, Route
from skuld_async._signals import Fault

from .codec import codec_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from skuld_async._frames import Frame
    from skuld_async._handler import Cell
    from skuld_async._scopes import Scope
    from skuld_async.effects.atomic import AtomicEffect

    from .book import Book
    from .entry import Entry
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
        return journal.settle(codec, entry, value)

    return Route(SYNC_FRAMED, record, live.scope)


def _unfit(label: str, error: Misfit, frame: Frame) -> UnencodableError:
    return UnencodableError(label, str(error), frame.line())


def _cell_of(kind: type[AtomicEffect[Any]], scope: Scope) -> tuple[str, Cell[Any]]:
    label: str = kind.__label__.rpartition(".")[0]  # type: ignore[attr-defined]
    path, found = scope.path, scope
    while label not in found.cells and found.origin is not None:
        found = found.origin
    return f"{path}{label}", found.cells[label]


def fold(book: Book, cells: Iterable[tuple[str, Cell[Any]]]) -> None:
    """Give those of *cells* that strands share the value that they have at the end of the log, once."""
    for key, cell in cells:
        if cell.shared and key not in book.folded:
            book.folded.add(key)
            for entry in reversed(book.log.entries):
                written = _written(entry, key, cell.name)
                if written is not None:
                    try:
                        cell.value = cell.declared.decode(written)
                    except Misfit as error:
                        raise Fault(UndecodableError(cell.name, entry.id, str(error))) from None
                    break


def is_needed(entry: Entry, book: Book) -> bool:
    """Whether *entry* is the last one about a shared cell, so that its value would be lost with it."""
    name, _, operation = entry.sig.rpartition(".")
    if not name.startswith("AtomicState[") or operation == "get":
        return False
    key = f"{entry.scope}{name}"
    return next((one for one in reversed(book.log.entries) if _written(one, key, name) is not None), None) is entry


def _written(entry: Entry, key: str, label: str) -> Raw | None:
    """What *entry* made of the cell, or None where it left it alone."""
    if entry.mark is not UNSET:
        return entry.mark.cells.get(key)
    name, _, operation = entry.sig.rpartition(".")
    if name != label or f"{entry.scope}{label}" != key or entry.state != "executed":
        return None
    if operation == "modify":
        return entry.value
    if operation == "put" or (operation == "compare_and_set" and entry.value == _TRUE):
        return msgspec.json.decode(entry.data, type=_Written).value
    return None


_TRUE = Raw(b"true")


class _Written(msgspec.Struct):
    value: Raw
