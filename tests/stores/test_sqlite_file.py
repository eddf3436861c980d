"""SQLiteStore: its file, on the disk and beside other programs."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from skuld_async.durable.errors import StoreSchemaError
from skuld_async.durable.records import RunFilter
from skuld_async.stores.sqlite import SQLiteStore
from skuld_async.stores.sqlite.writer import Desk
from skuld_async.testing.stores.samples import found, owned, write

from .sqlite_parts import appends, together, writer_of


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


async def test_the_write_ahead_log_does_not_stay(path: Path) -> None:
    """When a store is left, all is in the database, and beside it is no file, or an empty one."""
    async with SQLiteStore(path) as store:
        record = await owned(store)
        await store.append(write(record, chunk=bytes(1_000_000)))
        assert path.with_name("runs.db-wal").stat().st_size > 1_000_000
        async with SQLiteStore(path):
            pass  # another process that leaves early
        async with SQLiteStore(path):
            await store.__aexit__(None, None, None)
            assert path.with_name("runs.db-wal").stat().st_size == 0
    assert not path.with_name("runs.db-wal").exists()


@pytest.mark.parametrize(("synchronous", "level"), [("full", 2), ("normal", 1)])
async def test_what_a_commit_waits_for(path: Path, synchronous: Any, level: int) -> None:
    """SQLite itself is told which it is."""
    async with SQLiteStore(path, synchronous=synchronous) as store:

        def ask(desk: Desk, _item: None) -> tuple[int, str]:
            return desk.execute("PRAGMA synchronous").fetchone()[0], desk.execute("PRAGMA journal_mode").fetchone()[0]

        assert await writer_of(store).do(ask, None) == (level, "wal")


@pytest.mark.parametrize("options", [{"path": ":memory:"}, {"path": ""}, {"path": "a", "synchronous": "off"}])
def test_what_is_no_store(options: dict[str, Any]) -> None:
    """A path that each connection would have for itself is refused, and so is a word that means nothing."""
    with pytest.raises(ValueError, match=r"MemoryStore|'full' or 'normal'"):
        SQLiteStore(**options)


async def test_an_empty_file_becomes_a_store(path: Path) -> None:
    """All stores that find it at once open it, and one makes the tables."""
    path.touch()
    async with anyio.create_task_group() as group:
        for number in range(6):

            async def enter(name: str) -> None:
                async with SQLiteStore(path) as store:
                    await owned(store, name)

            group.start_soon(enter, f"run {number}")
    async with SQLiteStore(path) as store:
        assert len(await store.runs(RunFilter(), None, 9)) == 6


def text(path: Path) -> None:
    path.write_text("no database, but some text\n" * 100)


def foreign(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE users (name)")
    connection.close()


def newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA application_id = 0x534B4C44")
    connection.execute("PRAGMA user_version = 99")
    connection.close()


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (text, "no SQLite database.*path of its own"),
        (foreign, "another program.*path of its own"),
        (newer, "later release.*version 99.*Install that release"),
    ],
    ids=["text", "foreign", "newer"],
)
async def test_a_file_that_is_no_store(path: Path, make: Callable[[Path], object], problem: str) -> None:
    """It is refused with the way out, and not a byte of it is changed."""
    make(path)
    before = path.read_bytes()
    with pytest.raises(StoreSchemaError, match=problem) as caught:
        await SQLiteStore(path).__aenter__()
    assert caught.value.place == str(path)
    assert path.read_bytes() == before


async def test_a_sqlite_that_is_too_old(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told apart from a broken file before anything is written."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 32, 9))
    with pytest.raises(StoreSchemaError, match=r"needs SQLite 3\.33"):
        await SQLiteStore(path).__aenter__()
    assert not path.exists()


async def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """The error names the file."""
    with pytest.raises(sqlite3.OperationalError, match=r"missing/runs\.db cannot be opened"):
        await SQLiteStore(tmp_path / "missing" / "runs.db").__aenter__()


async def test_a_full_disk(path: Path) -> None:
    """What does not fit fails, and says why; what fits is written, and when there is room, all goes on."""

    def limit(desk: Desk, more: int) -> None:
        pages = desk.execute("PRAGMA page_count").fetchone()[0]
        desk.execute(f"PRAGMA max_page_count = {pages + more}")

    async with SQLiteStore(path) as store:
        first, second = await owned(store, "a"), await owned(store, "b")
        big = write(second, chunk=bytes(1_000_000))
        await writer_of(store).do(limit, 10)
        outcomes = await together(store, *appends(store, write(first), big))
        assert outcomes[0] is None
        assert isinstance(outcomes[1], sqlite3.OperationalError)
        assert "disk is full; nothing was written" in str(outcomes[1])
        assert await found(store, "b") == second
        await writer_of(store).do(limit, 1_000_000)
        await store.append(big)
        assert [len((await store.load(run))[0]) for run in "ab"] == [2, 2]
