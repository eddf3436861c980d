"""FileStore: what a change asks of the disk, and what becomes of one that the disk refuses."""

import asyncio
import errno
import random
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import anyio
import anyio.lowlevel
import pytest
from msgspec.structs import replace

from skuld_async.durable.errors import LeaseLostError, StoreClosedError, StoreError
from skuld_async.durable.records import Closing, Folded
from skuld_async.stores.file import FileStore
from skuld_async.stores.file.state import State
from skuld_async.testing.stores.samples import (
    answer,
    claimed,
    deposit,
    event,
    new_run,
    owned,
    question,
    ready,
    whole,
    write,
)

from .file_parts import Disk, append, blocks, record_of, states_in, states_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


async def test_an_append_asks_the_disk_once(folder: Path, disk: Disk) -> None:
    """A new run asks for its file and the folder, an append for its file; without fsync nothing is asked."""
    async with FileStore(folder) as store:
        for expected in (2, 3, 4):
            await (append(store) if expected > 2 else owned(store))
            assert disk.synced == expected
        assert len(disk.batches) == 3
        await store.append(write(replace(await record_of(store), appends=2)))  # the last one again
        assert await store.claim("w2", now=1e12, limit=9, workflows=["order"]) == ()
        with pytest.raises(LeaseLostError):
            await store.append(write(replace(await record_of(store), token=7)))
        assert len(disk.batches) == 3
    async with FileStore(folder, fsync=False) as store:
        await append(store, replace=True)
    assert disk.synced == 4


async def test_appends_that_come_together_share_a_trip(folder: Path, disk: Disk) -> None:
    """While one is written the others wait, and then go in one batch; each file is asked for."""
    runs = [f"run-{number}" for number in range(40)]
    async with FileStore(folder) as store:
        for run in runs:
            await owned(store, run)
        batches, synced = len(disk.batches), disk.synced
        async with anyio.create_task_group() as group:
            for run in runs:
                group.start_soon(append, store, run)
        assert len(disk.batches) - batches <= 3
        assert disk.synced - synced == 40


async def test_what_is_read_is_on_the_disk(folder: Path, disk: Disk) -> None:
    """Nobody sees a change that is still on its way, nor hears of it earlier than it can be read."""
    go_on, is_writing = threading.Event(), anyio.Event()
    seen: list[object] = []

    async def read(store: FileStore) -> None:
        record = await record_of(store)
        seen.append((record.appends, go_on.is_set()))

    async with FileStore(folder) as store:
        await owned(store)
        token: Any = anyio.lowlevel.current_token()
        native = getattr(token, "native_token", token)
        soon = getattr(native, "call_soon_threadsafe", None) or native.run_sync_soon
        disk.before = lambda: (soon(is_writing.set), go_on.wait(20))
        async with anyio.create_task_group() as group:
            group.start_soon(append, store)
            await is_writing.wait()
            group.start_soon(read, store)
            await anyio.wait_all_tasks_blocked()
            assert seen == []
            go_on.set()
    assert seen == [(2, True)]


async def test_a_full_disk_refuses_and_forgets(folder: Path, disk: Disk) -> None:
    """A change that cannot be written was not made, in whatever it consists; it may be repeated when there is room."""
    async with FileStore(folder) as store:
        record = await owned(store)
        await append(store, opens=(question(),))
        await ready(store, "other")
        before = {run: store.state(run) for run in ("run", "other", "new")}
        disk.full = {"run", "other", "new"}
        item = write(await record_of(store), chunk=b'["big"]')
        changes: list[Callable[[], Any]] = [
            lambda: store.append(item),
            lambda: store.append(replace(item, replace=True)),
            lambda: store.append(replace(item, status="completed", release=True)),
            lambda: store.answer(answer()),
            lambda: store.deposit(deposit()),
            lambda: store.cancel("run", "no", "ann", 3.0),
            lambda: store.create(new_run("new"), "w1"),
            lambda: store.claim("w2", now=1e12, limit=9, workflows=["order"], dead=["w1"]),
        ]
        for change in changes:
            with pytest.raises(OSError, match="No space left") as caught:
                await change()
            assert caught.value.errno == errno.ENOSPC
            assert {run: store.state(run) for run in before} == before
            assert [run.id for run in await store.claim("w3", now=1.0, limit=9, workflows=["none"])] == []
        disk.full = set()
        await store.append(item)
        assert await store.answer(answer()) == "accepted"
        assert (await store.create(new_run("new"), "w1")).token == record.token
        after: dict[str, State | None] = {run: store.state(run) for run in ("new", "other", "run")}
    assert await states_in(folder) == after


async def test_of_a_claim_that_which_could_be_written_is_taken(folder: Path, disk: Disk) -> None:
    """Runs whose files cannot be written stay with nobody, and a later claim gets them."""
    async with FileStore(folder) as store:
        for run in ("one", "two", "three"):
            await ready(store, run)
        disk.full = {"two"}
        assert sorted(run.id for run in await claimed(store)) == ["one", "three"]
        disk.full = set()
        assert [run.id for run in await claimed(store)] == ["two"]


async def test_a_file_that_cannot_be_put_back_ends_the_store(folder: Path, disk: Disk) -> None:
    """Where it is not known what the files hold, the store refuses all changes until it is opened again."""
    async with FileStore(folder) as store:
        await owned(store)
        disk.full = {"run"}
        told = r"not known what the files hold .*Input/output error.* open it again"
        broken = patch("os.truncate", side_effect=OSError(errno.EIO, "Input/output error"))
        with broken, pytest.raises(StoreError, match=told):
            await append(store)
        disk.full = set()
        with pytest.raises(StoreError, match="open it again"):
            await owned(store, "other")
        assert (await record_of(store)).appends == 1
    async with store:
        await append(store)
    assert len(await states_in(folder)) == 1


async def test_a_change_whose_task_was_cancelled_is_made_whole(folder: Path, disk: Disk) -> None:
    """It is in memory and in the file, or in neither: whoever comes next sees the same as after a restart."""
    go_on, is_writing = threading.Event(), threading.Event()
    async with FileStore(folder) as store:
        await owned(store)
        disk.before = lambda: blocks(is_writing, go_on)
        async with anyio.create_task_group() as group:
            group.start_soon(append, store)
            await anyio.to_thread.run_sync(is_writing.wait)
            group.cancel_scope.cancel()
        go_on.set()
        assert (await record_of(store)).appends == 2
        before = {"run": store.state("run")}
    assert await states_in(folder) == before


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_task_that_asyncio_cancels_leaves_the_store_whole(folder: Path, disk: Disk) -> None:
    """A cancel of the task itself, in a write or while the store is opened, leaves no half change and no lock."""
    go_on, is_writing = threading.Event(), threading.Event()
    async with FileStore(folder) as store:
        await owned(store)
        disk.before = lambda: blocks(is_writing, go_on)
        task = asyncio.create_task(append(store))
        await anyio.to_thread.run_sync(is_writing.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        await append(store)
        assert (await record_of(store)).appends == 3
    opening = asyncio.create_task(FileStore(folder).__aenter__())
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert len(await states_in(folder)) == 1


async def test_what_was_made_before_the_end_is_written(folder: Path, disk: Disk) -> None:
    """A store that is left while the disk is slow waits for the batch that is on its way, and its tasks hear of it."""
    go_on, is_writing = threading.Event(), threading.Event()
    ends: dict[str, str] = {}

    async def change(store: FileStore, run: str) -> None:
        try:
            await owned(store, run)
        except StoreClosedError:
            ends[run] = "refused"
        else:
            ends[run] = "written"

    async with anyio.create_task_group() as group, FileStore(folder) as store:
        disk.before = lambda: blocks(is_writing, go_on)
        for number in range(5):
            group.start_soon(change, store, f"early-{number}")
        await anyio.to_thread.run_sync(is_writing.wait)
        group.start_soon(change, store, "late")
        await anyio.wait_all_tasks_blocked()
        assert ends == {}
        threading.Timer(0.05, go_on.set).start()
    assert {run for run, end in ends.items() if end == "written"} == {*await states_in(folder)}
    assert [ends[f"early-{number}"] for number in range(5)] == ["written"] * 5
    assert ends["late"] in {"written", "refused"}


@pytest.mark.parametrize("steps", range(6))
async def test_a_store_that_is_left_leaves_nobody_waiting(folder: Path, steps: int) -> None:
    """However far a change has come when the store is left, its task hears whether it was written."""
    ends: list[str] = []

    async def change(store: FileStore) -> None:
        try:
            await owned(store)
        except StoreClosedError:
            ends.append("refused")
        else:
            ends.append("written")

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group, FileStore(folder) as store:
            group.start_soon(change, store)
            for _ in range(steps):
                await anyio.lowlevel.checkpoint()
    assert len(await states_in(folder)) == ends.count("written")
    assert len(ends) == 1


async def test_what_no_file_can_hold_is_refused(folder: Path) -> None:
    """A text that is no Unicode is the caller's error, and changes nothing: neither here nor after a restart."""
    async with FileStore(folder) as store:
        await owned(store)
        before = states_of(store)
        with pytest.raises(UnicodeEncodeError):
            await store.cancel("run", "no", "\ud800", 3.0)
        assert states_of(store) == before
        await append(store)
        before = states_of(store)
    assert await states_in(folder) == before


async def test_what_is_seen_of_a_change_that_fails_fails_too(folder: Path, disk: Disk) -> None:
    """A call that finds a change done which then cannot be written does not report it as done."""
    told: list[object] = []

    async def tell(change: Awaitable[object]) -> None:
        try:
            told.append(await change)
        except OSError as error:
            told.append(error.errno)

    async with FileStore(folder) as store:
        await owned(store)
        item = write(await record_of(store))
        disk.full = {"run"}
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(tell, store.append(item))
        assert told == [errno.ENOSPC] * 3
        assert len(disk.batches) == 2


async def _random_change(store: FileStore, chance: random.Random) -> None:
    run = f"run-{chance.randrange(4)}"
    record = await store.get(run)
    wait = f"0/{chance.randrange(4)}"
    kind = chance.randrange(9)
    if record is None or kind == 0:
        await store.create(new_run(run, paused=chance.random() < 0.2), chance.choice([None, "w1", "w2"]))
    elif kind <= 4:
        offset = record.events
        item = write(
            record,
            chunk=chance.choice([b"[1]", b"\xff", b'{"a":1}', None]),
            opens=(question(run, wait, name=chance.choice([None, "approval"])),) * chance.randrange(2),
            closes=(Closing(f"0/{chance.randrange(4)}", answered=True),) * chance.randrange(2),
            folded=(Folded(chance.randrange(record.inbox + 1), chance.choice(["", "late"])),) * chance.randrange(2),
            events=tuple(event(offset + 1 + more) for more in range(chance.randrange(3))),
            trim=chance.randrange(offset + 2) if chance.random() < 0.3 else 0,
            progress=chance.random() < 0.5,
        )
        if item.chunk is not None and chance.random() < 0.2:
            item = replace(item, replace=True)
        if chance.random() < 0.3:
            status = chance.choice(["suspended", "completed", "failed", "needs_attention", "dead"])
            item = replace(
                item, status=status, release=True, error=b"{}" * chance.randrange(2), wake=5.0, seen=record.inbox
            )
        if record.owner is not None:
            await store.append(item)
    elif kind == 5:
        await store.answer(answer(run, wait, body=chance.choice([b"null", b'"yes"', b"\xff"])))
    elif kind == 6:
        await store.deposit(deposit(run, at=chance.random()))
        await store.requeue(run, chance.random())
    elif kind == 7:
        await store.claim("w3", now=10.0, limit=2, workflows=["order"], dead=chance.choice([[], ["w1"], ["w3"]]))
    elif chance.random() < 0.5:
        await store.cancel(run, "no", "ann", 9.0)
    else:
        await store.delete(run)


@pytest.mark.parametrize("seed", range(12))
async def test_the_files_hold_what_the_memory_holds(folder: Path, seed: int, disk: Disk) -> None:
    """After any changes, alone and together, with a disk that fails now and then, a restart changes nothing."""
    chance = random.Random(seed)
    store = FileStore(folder, fsync=False)

    async def change() -> None:
        try:
            await _random_change(store, chance)
        except (OSError, LeaseLostError):
            pass

    for _ in range(10):
        async with store:
            for _ in range(chance.randrange(15)):
                disk.full = {f"run-{chance.randrange(4)}"} if chance.random() < 0.2 else set()
                async with anyio.create_task_group() as group:
                    for _ in range(chance.choice([1, 1, 4])):
                        group.start_soon(change)
            disk.full = set()
            states = states_of(store)
            seen = [await whole(store, run) for run in states]
        async with store:
            assert states_of(store) == states
            assert [await whole(store, run) for run in states] == seen
    assert len(disk.batches) > 20
