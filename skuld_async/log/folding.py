"""Folding: what strands share has the value that all of the log makes of it, whoever has replayed how much.

An `AtomicState` has the value of the last entry about it: an effect, or a mark. Each value of a channel has a number,
in the order in which they were taken in: what is in it is the values of the sends whose number no receive has come to
yet. A mark, which prunes such entries, keeps what was in it, and both counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, Raw

from skuld_async._declared import Misfit
from skuld_async._errors import UndecodableError
from skuld_async._signals import Fault
from skuld_async.effects.channel import ChannelCell, Stored

if TYPE_CHECKING:
    from collections.abc import Iterable

    from skuld_async._handler import Cell

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


def is_needed(entry: Entry, book: Book) -> bool:
    """Whether *entry* is the last one about a shared cell, so that its value would be lost with it."""
    name, _, operation = entry.sig.rpartition(".")
    if name.startswith("Channel["):
        return True  # what is in the channel is told from all of them
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


def fold_channel(book: Book, key: str, cell: ChannelCell) -> None:
    """Put into *cell* what is in the channel at the end of the log, once."""
    if key in book.folded:
        return
    book.folded.add(key)
    sent: dict[int, Any] = {}
    taken, closed = 0, False
    try:
        for entry in book.log.entries:
            if entry.mark is not UNSET and key in entry.mark.cells:
                held: Stored[Any] = cell.declared.decode(entry.mark.cells[key])
                sent.update({held.taken + number: value for number, value in enumerate(held.values, 1)})
                taken, closed = max(taken, held.taken), closed or held.closed
            name, _, operation = entry.sig.rpartition(".")
            if name != cell.name or f"{entry.scope}{name}" != key or entry.state != "executed":
                continue
            if operation == "close":
                closed = True
                continue
            handed = msgspec.json.decode(entry.value, type=Handed)
            if operation == "receive":
                taken = max(taken, handed.number)
            else:
                data = msgspec.json.decode(entry.data, type=_Sent).value
                sent[handed.number] = cell.declared.decode(b'{"values":[' + bytes(data) + b"]}").values[0]
    except (Misfit, msgspec.DecodeError) as error:
        raise Fault(UndecodableError(cell.name, "the log", str(error))) from None
    values = [sent[number] for number in sorted(sent) if number > taken]
    cell.value = Stored(max((taken, *sent)), taken, values, closed)


class _Sent(msgspec.Struct):
    value: Raw
