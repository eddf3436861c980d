"""The step from library code up to the pump: hands over a request without the checks of ``await``."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator


@types.coroutine
def hop(request: Any) -> Generator[Any, Any, Any]:
    """Request an effect or a computation from library code that runs in a frame."""
    return (yield request)
