"""MemoryStore: runs that live as long as this process does."""

from .store import MemoryStore as MemoryStore

__all__ = ["MemoryStore"]
