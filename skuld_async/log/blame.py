"""Blame: which entry an error came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

if TYPE_CHECKING:
    from .entry import Entry
    from .log import Log


def blamed(error: Exception, entry: Entry) -> Exception:
    """*error*, which knows the entry that it came from."""
    object.__setattr__(error, "__skuld_entry__", entry.id)  # a frozen dataclass may be an exception too
    return error


def culprit(error: BaseException | None) -> str | None:
    """Id of the entry whose error led to *error*, or None."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        entry: str | None = getattr(one, "__skuld_entry__", None)
        if entry is not None:
            return entry
        waiting += [*getattr(one, "exceptions", ()), one.__cause__, one.__context__]
    return None


def cut_off(log: Log, error: Exception) -> str | None:
    """Id of the call that a deadline of the body cut off, where that failed the run; else None."""
    last = log.entries[-1] if log.entries else None
    if last is None or last.error is UNSET or not isinstance(error, TimeoutError):
        return None
    return last.id if last.error.kind == "body-scope" else None
