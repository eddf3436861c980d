"""SQLiteStore: runs in one file, for one machine."""

from .store import SQLiteStore as SQLiteStore

__all__ = ["SQLiteStore"]
