"""What tests of a folder of runs need: its files, what they hold, and a disk that does what it is told."""

import errno
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from skuld_async.durable.records import RunRecord
from skuld_async.stores.file import FileStore
from skuld_async.stores.file.folder import Folder, Write, name_of
from skuld_async.stores.file.state import State
from skuld_async.testing.stores.samples import write


def file_of(folder: Path, run: str = "run") -> Path:
    """The file of a run."""
    return folder / name_of(run)


def names_in(folder: Path) -> list[str]:
    """The names of all files."""
    return sorted(file.name for file in folder.iterdir())


async def record_of(store: FileStore, run: str = "run") -> RunRecord:
    """A run that is there."""
    record = await store.get(run)
    assert record is not None
    return record


async def append(store: FileStore, run: str = "run", **changes: Any) -> None:
    """The next append of the owner of a run."""
    await store.append(write(await record_of(store, run), **changes))


def states_of(store: FileStore) -> dict[str, State | None]:
    """All that a store has in memory."""
    return {run: store.state(run) for run in store._runs}


async def states_in(folder: Path) -> dict[str, State | None]:
    """All that a folder holds, read afresh."""
    async with FileStore(folder) as store:
        return states_of(store)


class Disk:
    """Stands between a store and its disk: counts, waits and fails as it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[list[str]] = []
        self.synced = 0
        self.full: set[str] = set()
        self.before: Callable[[], object] = lambda: None
        real_write, real_put, real_sync = Folder.write, Folder._put, os.fsync

        def spied(own: Folder, writes: Iterable[Write]) -> dict[str, OSError]:
            writes = list(writes)
            self.batches.append([one.run for one in writes])
            self.before()
            return real_write(own, writes)

        def put(own: Folder, file: Path, mode: str, data: bytes) -> None:
            if file.stem in self.full:
                real_put(own, file, mode, data[: len(data) // 2])
                raise OSError(errno.ENOSPC, "No space left on device", str(file))
            real_put(own, file, mode, data)

        def sync(number: int) -> None:
            self.synced += 1
            real_sync(number)

        monkeypatch.setattr(Folder, "write", spied)
        monkeypatch.setattr(Folder, "_put", put)
        monkeypatch.setattr(os, "fsync", sync)


def blocks(begun: threading.Event, go_on: threading.Event) -> None:
    """Tell that a write has begun, and let it take its time."""
    begun.set()
    assert go_on.wait(20)
