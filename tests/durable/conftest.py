"""The stores that the tests of the runtime run on."""

from collections.abc import Callable
from pathlib import Path

import pytest

from skuld_async.durable.store import Store
from skuld_async.stores.memory import MemoryStore
from skuld_async.stores.sqlite import SQLiteStore


@pytest.fixture(params=["memory", "sqlite"])
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    """Makes handles to one place, for one worker each."""
    if request.param == "sqlite":
        return lambda: SQLiteStore(tmp_path / "runs.db", synchronous="normal", poll=0.02)
    shared = MemoryStore()
    return lambda: shared
