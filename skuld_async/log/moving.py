"""Moving: what becomes of entries where the branches of a concurrent effect are others than before."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from msgspec import UNSET

from .book import strand_of
from .entry import Entry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .book import Book


def take_out(entries: list[Entry], first: int, count: int, book: Book) -> list[Entry]:
    """Take *count* entries of a strand out of the log, from *first* on, with those of the strands that they opened."""
    found = entries[first : first + count]
    del entries[first : first + count]
    return book.remove(found)


def renamed(found: Sequence[Entry], id_: str) -> list[Entry]:
    """Copies of *found*, a call and what stands under it, which now stand under *id_*: an id says whose an entry is."""
    old = found[0].id
    copies = [copy.copy(entry) for entry in found]
    for entry in copies:
        entry.id = f"{id_}{entry.id[len(old) :]}"
    return copies


def put_under(path: str, found: Sequence[Entry], book: Book) -> list[Entry]:
    """Give other strands than that of *path* their entries of *found*; gives those that are its own."""
    own: list[Entry] = []
    for entry in found:
        strand = strand_of(entry.id)
        if strand == path:
            own.append(entry)
        else:
            book.line(strand).append(entry)
            book.log.entries.append(entry)
    return own


def before_they_were_stopped(opened: Entry, stopped: Sequence[str], book: Book) -> list[Entry]:
    """Let the strands that *opened* has opened stand where they were before they were stopped.

    Args:
        opened: The entry of a concurrent effect.
        stopped: Where they were stopped.
        book: What they are in.

    Returns:
        What they did when they were stopped; it is out of the log.
    """
    left: list[Entry] = []
    for path in book.lines_under(opened):
        line = book.line(path)
        for number, entry in enumerate(line):
            if entry.error is not UNSET and entry.error.kind == "run-cancel":
                line[number] = Entry(entry.id, entry.sig, entry.data, "started", deadline=entry.deadline)
                book.replace(entry, line[number])
                left += before_they_were_stopped(line[number], stopped, book)
            elif not (number + 1 < len(line) and any(is_behind(line[number + 1].id, at) for at in stopped)):
                continue
            left += take_out(line, number + 1, len(line), book)
            break
    return left


def is_behind(id_: str, at: str) -> bool:
    """Whether the entry *id_* was requested behind *at*, an await of the body behind a request."""
    prefix, _, count = at.removesuffix("+").rpartition("/")
    head, _, number = id_.rpartition("/")
    number = number.partition("~")[0]
    return at.endswith("+") and head == prefix and number.isdecimal() and int(number) > int(count.partition("~")[0])
