"""PostgresStore: runs in PostgreSQL, for any number of workers and machines."""

from .store import PostgresStore as PostgresStore

__all__ = ["PostgresStore"]
