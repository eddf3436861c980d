"""Replaying: what a strand does at an entry that was settled before, or cut short."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
from msgspec import UNSET, Raw

from skuld_async._declared import Misfit, encode_canonical
from skuld_async._effect import Kind
from skuld_async._errors import UndecodableError
from skuld_async._holding import fail_again
from skuld_async._signals import Fault, TaskFailed
from skuld_async.effects.fork import Fork, Join
from skuld_async.effects.timeout import OpenTimed

from .codec import codec_of
from .entry import StrandsData
from .nesting import undone_in
from .pruning import restore_told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skuld_async._frames import Frame
    from skuld_async._scopes import Scope

    from .book import Book
    from .entry import Entry
    from .journal import Journal


def give_up(entry: Entry, frame: Frame, journal: Journal) -> None:
    """Settle *entry*, which a scope of the body has cancelled; who stops the strand keeps its own account."""
    if frame.strand.sticky is None:
        journal.abandon(entry, "body-scope")


async def wait_where_given_up(entry: Entry, frame: Frame) -> None:
    """Wait at *entry*, which was cut short, until what did so does it again: a scope of the body, or a failed task."""
    if entry.error is not UNSET and entry.error.kind == "body-scope":
        await anyio.sleep_forever()
    task = _task_that_failed(entry)
    if task is not None:
        try:
            await fail_again(frame, task)
        except TaskFailed:
            if entry.state != "started":  # else there is cleanup to do
                raise


def _task_that_failed(entry: Entry) -> str | None:
    if entry.error is not UNSET and entry.error.kind == "task":
        return entry.error.type
    return None if entry.strands is UNSET else entry.strands.task


def refuse_after_failure(entry: Entry, frame: Frame, journal: Journal) -> None:
    """Cut *entry* short, which waits for something, where a task of an activation around it has failed."""
    if frame.shielded:
        return
    for task in frame.strand.tasks:
        if task.error is not None and frame.strand.sticky is None:
            signal = TaskFailed(task)
            frame.strand.stop(signal)
            journal.stop(entry, signal)
            raise signal


def perform_nested(entry: Entry, journal: Journal, scope: Scope) -> None:
    """Pass over what the handler of *entry* requested; what it did to local state is done again."""
    _perform_all(journal.nested(entry), journal.book, scope)


def _perform_all(entries: Sequence[Entry], book: Book, scope: Scope) -> None:
    undone = undone_in(entries)
    forked: list[Entry] = []
    for inner in entries:
        if inner.id.startswith(undone):
            continue
        perform_again(inner, scope)
        restore_told(inner, scope)
        if book.lines_under(inner):
            book.pass_by(book.lines_under(inner))
            if inner.sig == Fork.__sig__:
                forked.append(inner)
            elif inner.state == "executed":
                _perform_branches(inner, book, scope)
        joined = [one for one in forked if inner.sig == Join.__sig__ and inner.data == join_data(one.id)]
        for one in joined if inner.state == "executed" else ():
            forked.remove(one)
            _perform_branches(one, book, scope)
    for one in forked:  # added at the end of the activation
        if one.state == "executed":
            _perform_branches(one, book, scope)


def _perform_branches(opened: Entry, book: Book, scope: Scope) -> None:
    """Do again what the branches of *opened* have left behind in the scope of the strand that waited for them."""
    known = StrandsData() if opened.strands is UNSET else opened.strands
    if known.timed_out or known.values is not UNSET:
        return
    names = {path.rpartition(".")[2]: path for path in book.lines_under(opened)}
    for name, path in sorted(names.items(), key=lambda one: (len(one[0]), one[0])):  # numbers, in their order
        if name not in known.failed and known.won in (None, name):
            forked = scope.fork(scope.table.bind)
            _perform_all(book.line(path), book, forked)
            forked.merge(adopt=opened.sig == OpenTimed.__sig__)


def join_data(task: str) -> Raw:
    """What the entry of a join of *task* holds as its request."""
    return Raw(encode_canonical(Join[Any](task)))


def perform_again(entry: Entry, inner: Scope) -> None:
    """Perform a local entry from the log, as seen from the scope *inner* of its requester, which no replay runs.

    State of a scope that the requester opened for itself is gone with it, and is left alone.
    """
    try:
        if entry.mark is not UNSET:
            for key, cell in inner.all_cells():
                if key in entry.mark.cells and not cell.shared:
                    cell.value = cell.declared.decode(entry.mark.cells[key])
        elif entry.state == "executed":
            for scope in inner.outwards():
                if scope.path == entry.scope:
                    _perform_in(scope, entry)
    except Misfit as error:
        raise Fault(UndecodableError(entry.sig, entry.id, str(error))) from None


def _perform_in(scope: Scope, entry: Entry) -> None:
    for kind, route in scope.whole().routes.items():
        if (
            kind.__kind__ in (Kind.LOCAL, Kind.DERIVED)
            and entry.sig in (kind.__sig__, *kind.__aliases__)
            and not route.is_async
        ):
            codec = codec_of(kind)
            if not codec.opaque:
                effect = codec.decode(entry.data)
                # The entry of a derived effect does not say whether it raised: its requester has dealt with that.
                with suppress(*[Exception] if kind.__kind__ is Kind.DERIVED else []):
                    route.function(effect)
                return
            for cell in scope.cells.values():  # its change is code; its value is what the cell became
                if entry.sig.startswith(f"{cell.name}."):
                    cell.value = codec.answer.decode(entry.value)
            return
