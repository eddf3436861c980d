"""Chunks: a log as a sequence of parts, each what has changed since the one before it.

A chunk is a JSON array: how many leading entries stay as they are, the entries behind them, those among the leading
ones that have changed, and the header and what a divergence dropped, where these have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from skuld_async._errors import LogDecodeError

from .entry import Entry, Header
from .log import Log, checked

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .book import Book

_SPARE = 64
"""Entries that may be out of date in what is stored, however short the log is."""
_SPARE_AT_REST = 8


class _Part(msgspec.Struct, array_like=True, frozen=True):
    kept: int
    entries: list[Entry]
    changed: list[tuple[int, Entry]] = []
    header: Header | None = None
    dropped: list[Entry] | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Part).decode


class Chunk(NamedTuple):
    """A part of a log."""

    data: bytes
    is_whole: bool
    """Whether it is the whole log: what was written before is needed no more."""
    news: list[Entry]
    """The entries that it holds."""
    has_lost: bool
    """Whether entries that were written before may be in the log no more."""


class Changes:
    """What has happened to the log of a session since somebody last asked.

    Args:
        book: Of the session.
        stored: How many entries the stored chunks of that log hold, out of date ones included; None if there are none.
    """

    def __init__(self, book: Book, stored: int | None) -> None:
        self._book = book
        self._header = b""
        self._open: list[tuple[int, tuple[Any, ...]]] = []
        """The entries that were started when they were last written: index, and what may still change."""
        self._written = stored or 0
        self._length = book.kept = 0
        if stored is not None:
            self._note_written(0, _encode(book.log.header))

    def take(self, *, rests: bool = False) -> Chunk | None:
        """What is new, or None.

        Args:
            rests: Whether the run comes to rest: then less of what is stored may be out of date.
        """
        book, log = self._book, self._book.log
        entries, kept = log.entries, book.kept
        header = _encode(log.header)
        new_header = log.header if header != self._header else None
        changed: list[tuple[int, Entry]] = []
        if self._open:
            changed = [(at, entries[at]) for at, was in self._open if at < kept and _stamp(entries[at]) != was]
        if kept == len(entries) and kept == self._length and new_header is None and not changed:
            return None
        book.is_unstable = False
        out_of_date = self._written - kept
        spare = kept // 4 + _SPARE_AT_REST if rests else kept + _SPARE
        is_whole = not self._header or book.allow_divergence or out_of_date > spare
        if is_whole:
            part = _Part(0, entries, [], log.header, log.dropped)
            self._written = 0
        else:
            part = _Part(kept, entries[kept:], changed, new_header)
        news = [*part.entries, *(entry for _, entry in changed)] if changed and not is_whole else part.entries
        self._written += len(news)
        data, has_lost = _encode(part), kept < self._length
        self._note_written(part.kept, header)
        return Chunk(data, is_whole, news, has_lost)

    def _note_written(self, kept: int, header: bytes) -> None:
        entries = self._book.log.entries
        still = [at for at, _ in self._open if at < kept and entries[at].state == "started"] if self._open else []
        still += [at for at in range(kept, len(entries)) if entries[at].state == "started"]
        self._open = [(at, _stamp(entries[at])) for at in still]
        self._book.kept = self._length = len(entries)
        self._header = header


def _stamp(entry: Entry) -> tuple[Any, ...]:
    """What may change of an entry that was started."""
    return (entry.state, entry.wait, entry.deadline, entry.strands, entry.error, entry.attempts)


def log_of(chunks: Iterable[bytes]) -> tuple[Log, int]:
    """The log that *chunks* are the parts of, and how many entries these hold, out of date ones included.

    Raises:
        LogDecodeError: They are no parts of a log.
    """
    log, written = Log(), 0
    for number, chunk in enumerate(chunks, 1):
        try:
            written = _put(_decode(chunk), log, written)
        except (ValueError, IndexError, RecursionError) as error:
            raise LogDecodeError(f"chunk {number}: {error}") from None
    return checked(log), written


def _put(part: _Part, log: Log, written: int) -> int:
    entries = log.entries
    if part.kept > len(entries):
        problem = f"it keeps {part.kept} entries, and there are {len(entries)}"
        raise ValueError(problem)
    del entries[part.kept :]
    entries += part.entries
    for at, entry in part.changed:
        entries[at] = entry
    log.header = part.header or log.header
    log.dropped = log.dropped if part.dropped is None else part.dropped
    is_whole = part.dropped is not None
    return (0 if is_whole else written) + len(part.entries) + len(part.changed)
