"""DESIGN 6.8: suspension by cancelling a scope in the body."""

import anyio
import pytest
from msgspec import UNSET

from skuld_async import DeadlineAcrossYieldError, Effectful, Return, computation, resume, start

from .shop import Approval, Charge, World, completed, left, stored, suspended


async def hang(effect: Charge) -> str:
    await anyio.sleep_forever()
    return "never"


@computation
async def gives_up() -> Effectful[str]:
    receipt = "gave up"
    with anyio.move_on_after(0.02):
        receipt = yield Charge(1)
    yield Approval()
    yield Return(receipt)


async def test_a_call_cut_off_by_the_bodys_scope_is_discarded_and_waited_for_on_replay() -> None:
    """6.8 The entry is discarded with the cause `body-scope`.

    On replay the strand waits at it until the body's scope fires.
    """
    calls: list[str] = []

    async def hang_once(effect: Charge) -> str:
        calls.append("charge")
        return await hang(effect)

    log = suspended(await start(gives_up(), Charge.handled_by(hang_once))).log
    entry = log.entries[0]
    assert entry.state == "discarded"
    assert entry.error is not UNSET
    assert entry.error.kind == "body-scope"

    with anyio.fail_after(5):
        outcome = completed(await resume(gives_up(), stored(log), Charge.handled_by(hang_once), answer="yes"))
    assert outcome.value == "gave up"
    assert calls == ["charge"]


async def test_a_call_cut_off_then_is_cut_off_under_a_sync_handler_too() -> None:
    """6.8 What the log says does not depend on whether today's handler is async."""
    log = suspended(await start(gives_up(), Charge.handled_by(hang))).log

    with anyio.fail_after(5):
        outcome = completed(await resume(gives_up(), stored(log), Charge.always("other"), answer="yes"))
    assert outcome.value == "gave up"


async def test_a_deadline_held_across_a_question_is_refused() -> None:
    """6.8 An anyio or trio deadline set by the body and held across a `Yield` is refused, with the way out."""

    @computation
    async def holds() -> Effectful[str]:
        answer = "none"
        with anyio.move_on_after(3600):
            yield Charge(1)
            answer = yield Approval()
        yield Return(answer)

    world = World()
    with pytest.raises(DeadlineAcrossYieldError, match="ask outside the `with move_on_after") as caught:
        await start(holds(), *world.handlers)
    assert f"{__file__}:" in caught.value.line
    assert len(left(caught.value).entries) == 1
    assert left(caught.value).waits == []
