"""Aligning: which entry belongs to a request where the computation was changed, and the change was accepted.

In order: one further on in the strand, and what stands between is dropped; an external effect that was dropped before;
an executed one that another strand holds and has not come to. So what was executed is never performed again.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from msgspec import UNSET

from skuld_async._effect import Kind
from skuld_async._opening import Opening
from skuld_async._signals import Fault

from . import divergence
from .book import strand_of
from .entry import Entry
from .moving import before_they_were_stopped, put_under, renamed, take_out
from .nesting import count_nested, undone_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from msgspec import Raw

    from skuld_async._frames import Frame

    from .codec import Codec
    from .journal import Journal


def align(journal: Journal, codec: Codec, data: Raw, frame: Frame) -> Entry | None:
    """The entry of a request that is not the next one, or None where it is new."""
    cursor = journal.cursor
    undone = undone_in((*journal.entries, *journal.log.dropped), but=[unit.entry.id for unit in journal.units])
    for index in range(cursor, len(journal.entries)):
        entry = journal.entries[index]
        if entry.id.startswith(undone):
            continue
        if journal.is_entry_of(entry, codec, data):
            journal.pass_over(index)
            return journal.take()
        is_pruned = entry.strands is not UNSET and entry.strands.values is not UNSET
        if issubclass(codec.kind, Opening) and entry.sig in codec.names:  # with other branches than before
            if is_pruned:
                raise Fault(divergence.of_pruned(codec, data, journal.entries, index, frame.line()))
            journal.pass_over(index)
            return _begin_again(journal, data)
    if codec.kind.__kind__ is not Kind.EXTERNAL:
        return None
    for index, entry in enumerate(journal.log.dropped):
        if entry.state != "discarded" and not entry.id.startswith(undone) and journal.is_entry_of(entry, codec, data):
            del journal.log.dropped[index]
            nested = [one for one in journal.log.dropped if one.id.startswith(f"{entry.id}/")]
            journal.log.dropped[:] = [one for one in journal.log.dropped if one not in nested]
            if strand_of(entry.id) != journal.path:
                return _move(journal, [entry, *nested], frame)
            return _take_over(journal, [copy.copy(entry), *nested])
    return _take_from_elsewhere(journal, codec, data, frame)


def _begin_again(journal: Journal, data: Raw) -> Entry:
    """The next entry, of a concurrent effect, as it was before anything was decided."""
    index = journal.cursor
    journal.remaining -= 1
    old = journal.entries[index]
    entry = journal.entries[index] = Entry(old.id, old.sig, data, "started", deadline=old.deadline)
    book = journal.book
    if book.is_split:
        book.replace(old, entry)
        left = before_they_were_stopped(entry, [] if old.strands is UNSET else old.strands.stopped, book)
        book.dropped += [one.id for one in left]
        journal.log.dropped += left
    return entry


def _take_over(journal: Journal, found: Sequence[Entry]) -> Entry:
    """Put *found* at the cursor: a call, which is passed, and what its handler made, which is still to come."""
    cursor = journal.cursor
    for offset, entry in enumerate(found):
        journal.insert(cursor + offset, entry)
    journal.remaining += len(found) - 1
    return found[0]


def _move(journal: Journal, found: Sequence[Entry], frame: Frame) -> Entry:
    """Put *found*, of another strand, at the cursor."""
    journal.diverge()
    moved = renamed(found, journal.new_id(frame))
    journal.book.split()
    return _take_over(journal, put_under(journal.path, moved, journal.book))


def _take_from_elsewhere(journal: Journal, codec: Codec, data: Raw, frame: Frame) -> Entry | None:
    """The executed call that another strand holds and has not come to: branches may have changed places."""
    for entries, index, other in journal.book.elsewhere(journal.path):
        entry = entries[index]
        if entry.state == "executed" and journal.is_entry_of(entry, codec, data):
            count = 1 + count_nested(entries, index)
            if other is not None:
                other.remaining -= count
            return _move(journal, take_out(entries, index, count, journal.book), frame)
    return None
