"""The stores that are tested, each on the backends that it knows."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from skuld_async.durable.store import Store
from skuld_async.stores.file import FileStore
from skuld_async.stores.memory import MemoryStore
from skuld_async.stores.postgres import PostgresStore
from skuld_async.stores.sqlite import SQLiteStore

from .server import running

pytest.register_assert_rewrite("skuld_async.testing.stores")


class Place(NamedTuple):
    """Where a test may keep runs: nobody else does."""

    folder: Path
    request: pytest.FixtureRequest

    @property
    def uri(self) -> str:
        """Of the PostgreSQL server, which is started by the first test that needs it."""
        return str(self.request.getfixturevalue("postgresql"))


def _shared(store: MemoryStore) -> Callable[[], Store]:
    return lambda: store


BOTH = ("asyncio", "trio")
NUMBERS = count(1)
"""Each place in a database has a schema of its own."""

STORES: dict[str, tuple[Callable[[Place], Callable[[], Store]], tuple[str, ...]]] = {
    "memory": (lambda _: _shared(MemoryStore()), BOTH),
    "file": (lambda place: partial(FileStore, place.folder / "runs"), BOTH),
    "sqlite": (lambda place: partial(SQLiteStore, place.folder / "runs.db"), BOTH),
    "postgres": (lambda place: partial(PostgresStore, place.uri, schema=f"test_{next(NUMBERS)}"), ("asyncio",)),
}
"""For each kind of store what makes handles to a new place, and the backends that it knows."""

SETUPS = [(kind, backend) for kind, (_, backends) in STORES.items() for backend in backends]


@pytest.fixture(scope="module", params=SETUPS, ids="-".join)
def setup(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A kind of store, and a backend that it knows."""
    store, backend = request.param
    return str(store), str(backend)


@pytest.fixture(scope="module")
def new_place(
    setup: tuple[str, str], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[[], Callable[[], Store]]:
    """Makes a new place, and gives what makes handles to it."""
    make, _ = STORES[setup[0]]
    return lambda: make(Place(tmp_path_factory.mktemp(setup[0]), request))


@pytest.fixture
def connect(new_place: Callable[[], Callable[[], Store]]) -> Callable[[], Store]:
    """Makes handles to a place that is new for each test."""
    return new_place()


@pytest.fixture(scope="module")
def handles(setup: tuple[str, str]) -> int:
    """How many handles a place may have at a time: a folder of files has one."""
    return 1 if setup[0] == "file" else 2


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The address of a PostgreSQL server, one for all tests."""
    with running() as server:
        with psycopg.connect(server.uri, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")  # no test cuts the power
            connection.execute("SELECT pg_reload_conf()")
        yield server.uri
