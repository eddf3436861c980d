"""SQLiteStore: several processes on one file, and what is left of one that is killed."""

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import anyio
import anyio.to_thread
import pytest

from skuld_async.durable.records import WorkerRecord
from skuld_async.stores.sqlite import SQLiteStore
from skuld_async.stores.sqlite.writer import Desk
from skuld_async.testing.stores.samples import deposit, found, owned, suspended, write

from .sqlite_parts import writer_of
from .sqlite_worker import RUNS

WORKER = Path(__file__).with_name("sqlite_worker.py")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def process(path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts processes at the file; they are killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(task: str, how: str = "") -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        one = subprocess.Popen([sys.executable, WORKER, task, path, how], stdin=pipe, stdout=pipe, text=True)
        started.append(one)
        return one

    yield start
    for one in started:
        one.kill()
        one.wait()
        for pipe in pipes(one):
            pipe.close()


def pipes(one: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert one.stdin is not None
    assert one.stdout is not None
    return one.stdin, one.stdout


# -- who hears what ----------------------------------------------------------------------------------------------------


async def test_another_process_is_heard(path: Path, process: Callable[..., subprocess.Popen[str]]) -> None:
    """A message that another process sends is noticed by one that listens, and its run is due."""
    async with SQLiteStore(path) as store, store.listen() as listener:
        await suspended(store)
        while await listener.changed(0):
            pass
        told, tells = pipes(process("send"))
        assert await anyio.to_thread.run_sync(tells.readline) == "ready\n"
        told.write("run\n")
        told.flush()
        assert await listener.changed(30) is None
        assert (await found(store)).wake == 0.0


async def test_our_own_changes_are_heard_at_once(path: Path) -> None:
    """They need no look at the file, and it is known which runs they are of."""
    async with SQLiteStore(path, poll=3600) as store, store.listen() as listener:
        await suspended(store, "a")
        assert await listener.changed(30) == {"a"}
        await store.deposit(deposit("a"))
        await suspended(store, "b")
        assert await listener.changed(30) == {"a", "b"}
        assert await listener.changed(0) == set()


async def test_steps_and_beats_are_not_heard(path: Path) -> None:
    """What is written most often, by this process or by another one, wakes nobody."""
    async with SQLiteStore(path, poll=0.01) as store, SQLiteStore(path) as other:
        record = await owned(store)
        async with store.listen() as listener:
            await store.append(write(record))
            await other.append(write(record, number=3))
            heart = other.heart(WorkerRecord("w1", "host", 1, "", ()))
            heart.beat()
            heart.close()
            assert await listener.changed(0.2) == set()
            await other.deposit(deposit())
            assert await listener.changed(30) is None


async def test_who_does_not_ask_is_told_that_something_changed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener remembers so many runs, and after that only that there were changes."""
    monkeypatch.setattr("skuld_async.stores.sqlite.listening.MANY", 3)
    async with SQLiteStore(path) as store, store.listen() as listener:
        for number in range(6):
            await suspended(store, f"run {number}")
        assert await listener.changed(30) is None
        assert await listener.changed(0) == set()


async def test_nobody_listens_nobody_looks(path: Path) -> None:
    """The file is looked at while somebody listens, and no longer."""
    looked = threading.Event()

    def trace(desk: Desk, _item: None) -> None:
        desk.connection.set_trace_callback(lambda text: looked.set() if "data_version" in text else None)

    async with SQLiteStore(path, poll=0.01) as store:
        writer = writer_of(store)
        await writer.do(trace, None)
        async with store.listen():
            assert await anyio.to_thread.run_sync(looked.wait, 30)
        for number in range(3):  # it is noticed by a look at the latest that nobody listens any more
            looked.clear()
            await suspended(store, f"run {number}")
            await anyio.to_thread.run_sync(looked.wait, 0.1)
        assert (looked.is_set(), writer.patience) == (False, None)


# -- who waits for whom ------------------------------------------------------------------------------------------------


async def test_a_lock_is_waited_for(path: Path, process: Callable[..., subprocess.Popen[str]]) -> None:
    """While another process keeps the file locked, reads go on and writes wait; when it is gone, they are done."""
    async with SQLiteStore(path) as store:
        record = await owned(store)
        locker = process("lock")
        told, tells = pipes(locker)
        assert await anyio.to_thread.run_sync(tells.readline) == "locked\n"
        async with anyio.create_task_group() as group:
            group.start_soon(store.append, write(record))
            for _ in range(20):
                assert await found(store) == record
            told.close()
        assert (await store.load("run"))[0] == [b"first", b"next"]


async def test_a_lock_that_stays(path: Path, process: Callable[..., subprocess.Popen[str]]) -> None:
    """Who has waited long enough is told so, all who waited at once; the same calls go through when it is gone."""
    async with SQLiteStore(path, timeout=0.3) as store:
        records = [await owned(store, f"run {number}") for number in range(10)]
        told, tells = pipes(process("lock"))
        assert await anyio.to_thread.run_sync(tells.readline) == "locked\n"
        errors: list[Exception] = []

        async def attempt(number: int) -> None:
            try:
                await store.append(write(records[number]))
            except sqlite3.OperationalError as error:
                errors.append(error)

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                for number in range(10):
                    group.start_soon(attempt, number)
        assert len({id(error) for error in errors}) == 10
        assert f"{path} was locked by another process for all of 0.3 seconds; nothing was written" in str(errors[0])
        told.close()
        assert await anyio.to_thread.run_sync(tells.read) == ""
        for record in records:
            await store.append(write(record))
            assert (await found(store, record.id)).appends == 2


async def test_a_heart_in_its_thread(path: Path) -> None:
    """It has a connection of its own, counts its beats, comes back when it was forgotten, and is gone when closed."""
    async with SQLiteStore(path) as store:
        worker = WorkerRecord("w1", "host", 7, "then", ("order", "refund"))
        beaten, goes_on = threading.Event(), threading.Event()

        def live() -> None:
            heart = store.heart(worker)
            for _ in range(3):
                heart.beat()
            beaten.set()
            goes_on.wait(30)
            heart.beat()
            heart.close()

        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, live)
            assert await anyio.to_thread.run_sync(beaten.wait, 30)
            [seen] = await store.workers()
            assert (seen.beat, seen.host, seen.workflows) == (3, "host", ("order", "refund"))
            await store.bury(["w1"])
            assert await store.workers() == []
            goes_on.set()
        assert await store.workers() == []


# -- what is left ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("synchronous", ["full", "normal"])
@pytest.mark.parametrize("after", [1, 400, 4000])
async def test_what_was_acknowledged_survives_a_kill(
    path: Path, process: Callable[..., subprocess.Popen[str]], synchronous: str, after: int
) -> None:
    """A process that is killed while twenty of its runs append: each append that had returned is there, in order."""
    worker = process("write", synchronous)
    _, tells = pipes(worker)
    lines = [await anyio.to_thread.run_sync(tells.readline) for _ in range(after)]
    worker.kill()
    lines += (await anyio.to_thread.run_sync(tells.read)).splitlines()
    acknowledged = dict.fromkeys(RUNS, 0)
    for line in lines:
        run, _, number = line.strip().partition(":")
        if number:
            acknowledged[run] = max(acknowledged[run], int(number))
    assert any(acknowledged.values())
    async with SQLiteStore(path) as store:
        for run, last in acknowledged.items():
            record = await store.get(run)
            if record is None:
                assert not last
                continue
            assert record.appends >= last
            expected = [b"%d" % chunk for chunk in range(1, record.appends + 1)]
            assert (await store.load(run))[0] == expected
        taken = await store.claim("w2", now=1.0, limit=20, workflows=["order"], dead=["w1"])
        assert {record.owner for record in taken} == {"w2"}
