"""Each store does what the protocol says."""

from collections.abc import AsyncGenerator, Callable

import pytest

from skuld_async.durable.store import Store
from skuld_async.testing.stores import StoreConformance


@pytest.fixture(scope="module")
def anyio_backend(setup: tuple[str, str]) -> str:
    return setup[1]


class TestConformance(StoreConformance):
    """The suite, over the stores of conftest.py."""

    @pytest.fixture
    async def other(self, connect: Callable[[], Store], store: Store, setup: tuple[str, str]) -> AsyncGenerator[Store]:
        if setup[0] == "file":  # it belongs to one process, and there to one handle
            yield store
            return
        async with connect() as other:
            yield other
