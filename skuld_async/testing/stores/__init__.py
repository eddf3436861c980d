"""The conformance suite for stores: what `skuld_async.durable.store.Store` promises, one test for each sentence.

Give it a fixture ``connect``: a function that makes a handle to one place, which is new and empty for each test::

    import pytest

    from skuld_async.testing.stores import StoreConformance


    class TestMyStore(StoreConformance):
        @pytest.fixture
        def connect(self, tmp_path):
            return lambda: MyStore(tmp_path / "runs")

The tests enter what it makes. Many of them work with two handles, as two processes would have them; where only one can
be open at a time, the fixture ``other`` is overridden to be ``store``. Each test runs on the backends of the fixture
``anyio_backend``; a store that knows only one of them narrows it.
"""

from .appending import Appending
from .asking import Asking
from .claiming import Claiming
from .creating import Creating
from .listening import Listening
from .listing import Listing
from .messaging import Messaging
from .parking import Parking
from .payloads import Payloads
from .releasing import Releasing
from .removing import Removing
from .working import Working

__all__ = ["StoreConformance"]


class StoreConformance(
    Creating,
    Appending,
    Releasing,
    Claiming,
    Parking,
    Removing,
    Asking,
    Messaging,
    Listing,
    Listening,
    Working,
    Payloads,
):
    """What each store must do: the base class of its tests."""
