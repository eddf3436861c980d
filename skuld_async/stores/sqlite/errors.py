"""What SQLite says, with the place and the way out."""

from __future__ import annotations

import sqlite3

_WAY_OUT = {
    sqlite3.SQLITE_BUSY: (
        "{path} was locked by another process for all of {timeout:g} seconds; nothing was written. "
        "End what holds the lock (a shell with an open transaction, a back-up), or give the store a longer timeout"
    ),
    sqlite3.SQLITE_FULL: "{path} cannot grow: the disk is full; nothing was written. Make room, then it goes on",
    sqlite3.SQLITE_CANTOPEN: "{path} cannot be opened: is there such a folder, and may this process write to it?",
    sqlite3.SQLITE_READONLY: "{path} cannot be written: this process needs write access to the file and to its folder",
}


def is_busy(error: BaseException) -> bool:
    """Whether another connection holds the lock."""
    return primary_code(error) == sqlite3.SQLITE_BUSY


def explained(error: Exception, path: str, timeout: float) -> Exception:
    """An error to raise in a caller's task: of the same class, and in words where SQLite's are too few."""
    code = primary_code(error)
    words = None if code is None else _WAY_OUT.get(code)
    if words is None:
        return error
    said = type(error)(words.format(path=path, timeout=timeout))
    said.__cause__ = error
    if isinstance(error, sqlite3.Error) and isinstance(said, sqlite3.Error):
        said.sqlite_errorcode, said.sqlite_errorname = error.sqlite_errorcode, error.sqlite_errorname
    return said


def primary_code(error: BaseException) -> int | None:
    """SQLite's result code; extended ones have more in their higher bytes. None of an error that is not SQLite's."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
