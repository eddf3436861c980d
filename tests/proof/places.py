"""Places: where the runs of a scenario are kept, as a worker is told of it."""

from typing import Literal

import msgspec

from skuld_async.durable.store import Store
from skuld_async.stores.sqlite import SQLiteStore


class Place(msgspec.Struct, frozen=True, tag_field="kind"):
    """A kind of store, and where it is."""


class OnSQLite(Place, frozen=True, tag="sqlite"):
    """A file."""

    path: str
    timeout: float = 30.0


class OnPostgreSQL(Place, frozen=True, tag="postgresql"):
    """A schema of a database."""

    dsn: str
    schema: str


AnyPlace = OnSQLite | OnPostgreSQL
Kind = Literal["sqlite", "postgresql"]


def store_at(place: AnyPlace) -> Store:
    """A handle to it."""
    if isinstance(place, OnSQLite):
        return SQLiteStore(place.path, timeout=place.timeout)
    from skuld_async.stores.postgres import PostgresStore  # noqa: PLC0415 - who is on SQLite is not kept waiting

    return PostgresStore(place.dsn, schema=place.schema)
