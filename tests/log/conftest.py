"""What the tests of the log leave behind is closed."""

from collections.abc import Iterator

import pytest

from .ledger import Database


@pytest.fixture(autouse=True)
def connections() -> Iterator[None]:
    yield
    while Database.opened:
        Database.opened.pop().close()
