"""What a session leaves behind: its outcome, and nothing that waits for a garbage collection."""

import gc
import weakref
from typing import Any

import pytest

from skuld_async import Effectful, Return, State, computation, open_session

from .parts import Approval, Desk, calls

total = State("memory.total", int)


@computation
async def counts() -> Effectful[int]:
    yield total.modify(lambda value: value + 1)
    value = yield total.get()
    yield Return(value)


@computation
async def asks() -> Effectful[str]:
    answer = yield Approval("laptop")
    yield Return(answer)


@pytest.mark.parametrize("case", ["completed", "suspended", "calls"])
async def test_a_session_is_freed_when_it_is_left(case: str) -> None:
    """A session refers to itself no more once it has ended: its log is freed with its outcome, without a collection."""
    comp: Any = {"completed": counts(), "suspended": asks(), "calls": calls("now")}[case]
    gc.collect()
    gc.disable()
    try:
        async with open_session(comp, total.handler(0), *Desk().handlers) as session:
            await session.outcome()
        ended = weakref.ref(session)
        del session
        assert ended() is None
    finally:
        gc.enable()
