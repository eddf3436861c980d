"""Nesting: which entries stand under which, told by their ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skuld_async.effects.transaction import Begin

from .entry import COMMITTED

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from .entry import Entry


def undone_in(entries: Iterable[Entry], but: Collection[str] = ()) -> tuple[str, ...]:
    """Prefixes of the ids under those transactions of *entries* that left no trace; *but* are seen from inside."""
    return tuple(
        f"{entry.id}/"
        for entry in entries
        if entry.sig == Begin.__sig__ and entry.value != COMMITTED and entry.id not in but
    )


def count_nested(entries: Sequence[Entry], index: int) -> int:
    """How many entries behind the one at *index* stand under it."""
    prefix = f"{entries[index].id}/"
    last = index + 1
    while last < len(entries) and entries[last].id.startswith(prefix):
        last += 1
    return last - index - 1
