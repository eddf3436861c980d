"""Folding: what strands share has the value that all of the log makes of it, whoever has replayed how much.

An `AtomicState` has the value of the last entry about it: an effect, or a mark. Each value of a channel has a number,
in the order in which they were taken in: what is in it is the values of the sends whose number no receive has. A mark,
which prunes such entries, keeps what was in it, and up to which number that is all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, Raw

from skuld_async._declared import Misfit
from skuld_async._errors import UndecodableError
from skuld_async._signals import Fault
from skuld_async.effects.channel import ChannelCell, Stored
from skuld_async.effects.transaction import Begin

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from skuld_async._handler import Cell
    from skuld_async._scopes import Scope

    from .book import Book
    from .entry import Entry


class Handed(msgspec.Struct, frozen=True):
    """What the entry of a send or a receive holds, once it is executed."""

    number: int
    value: Raw = Raw(b"null")


def fold(book: Book, cells: Iterable[tuple[str, Cell[Any]]]) -> None:
    """Give those of *cells* that strands share the value that they have at the end of the log, once."""
    for key, cell in cells:
        if isinstance(cell, ChannelCell):
            fold_channel(book, key, cell)
        elif cell.shared and key not in book.folded:
            book.folded.add(key)
            for entry in reversed(book.log.entries):
                written = _written(entry, key, cell.name)
                if written is not None:
                    try:
                        cell.value = cell.declared.decode(written)
                    except Misfit as error:
                        raise Fault(UndecodableError(cell.name, entry.id, str(error))) from None
                    break


def shared_in(scope: Scope) -> dict[str, Cell[Any]]:
    """The cells that strands share, of *scope* and those around it, by their keys."""
    found: dict[str, Cell[Any]] = {}
    for one in scope.outwards():
        origin: Scope | None = one
        while origin is not None:
            found.update((f"{one.path}{name}", cell) for name, cell in origin.cells.items() if cell.shared)
            origin = origin.origin
    return found


def is_needed(entry: Entry, book: Book, shared: Mapping[str, Cell[Any]]) -> bool:
    """Whether what one of the *shared* cells holds is told from *entry*, so that it would be lost with it."""
    if entry.mark is not UNSET:
        keys = [key for key in entry.mark.cells if key in shared]
    else:
        key = f"{entry.scope}{entry.sig.rpartition('.')[0]}"
        keys = [key] if key in shared and entry.state == "executed" else []
    return any(isinstance(shared[key], ChannelCell) or _is_last(entry, key, book, shared[key]) for key in keys)


def _is_last(entry: Entry, key: str, book: Book, cell: Cell[Any]) -> bool:
    if _written(entry, key, cell.name) is None:
        return False
    return next(one for one in reversed(book.log.entries) if _written(one, key, cell.name) is not None) is entry


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


def fold_channel(book: Book, key: str, cell: ChannelCell) -> None:
    """Put into *cell* what is in the channel at the end of the log, once."""
    if key in book.folded:
        return
    book.folded.add(key)
    sent: dict[int, Any] = {}
    received: set[int] = set()
    marks: list[Stored[Any]] = []
    is_closed = False
    # What a transaction did that is to be performed again is going to be forgotten.
    undone = tuple(f"{one.id}/" for one in book.log.entries if one.sig == Begin.__sig__ and one.state == "started")
    try:
        for entry in book.log.entries:
            if entry.mark is not UNSET and key in entry.mark.cells:
                held: Stored[Any] = cell.declared.decode(entry.mark.cells[key])
                marks.append(held)
                sent.update(held.values)
                is_closed |= held.closed
            name, _, operation = entry.sig.rpartition(".")
            if name != cell.name or f"{entry.scope}{name}" != key or entry.state != "executed":
                continue
            if entry.id.startswith(undone):
                continue
            if operation == "close":
                is_closed = True
                continue
            number = msgspec.json.decode(entry.value, type=Handed).number
            if operation == "receive":
                received.add(number)
            else:
                data = bytes(msgspec.json.decode(entry.data, type=_Sent).value)
                one: Stored[Any] = cell.declared.decode(b'{"values":[[%d,%b]]}' % (number, data))
                sent.update(one.values)
    except (Misfit, msgspec.DecodeError) as error:
        raise Fault(UndecodableError(cell.name, "the log", str(error))) from None
    for held in marks:
        here = {number for number, _ in held.values}
        received.update(number for number in sent if number <= held.accepted and number not in here)
    accepted = max((*(held.accepted for held in marks), *sent, *received), default=0)
    cell.value = Stored(accepted, [(one, sent[one]) for one in sorted(sent) if one not in received], is_closed)


class _Sent(msgspec.Struct):
    value: Raw
