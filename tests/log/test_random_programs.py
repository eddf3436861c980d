"""Any sequence of effects, recorded, encoded, decoded and replayed, or cut anywhere, comes to the same."""

from typing import Any

from hypothesis import HealthCheck, given, settings

from skuld_async import Completed, Failed, Log, Outcome, Suspended, open_session, replay, resume
from skuld_async.testing import VirtualClock, always_cold

from . import programs
from .programs import Step, program
from .shop import cart, events, stored, total

each = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)


def told(outcome: Outcome[list[str]]) -> dict[str, Any]:
    """All that an outcome tells."""
    return {
        "outcome": type(outcome).__name__,
        "value": outcome.value if isinstance(outcome, Completed) else None,
        "error": f"{outcome.error!r}" if isinstance(outcome, Failed) else None,
        "state": (outcome.state(total), outcome.state(cart)),
        "events": outcome.output(events),
        "log": outcome.log.to_json(),
    }


async def finish(log: Log | None, steps: list[Step], shots: list[bytes] | None = None) -> Outcome[list[str]]:
    """Run or go on to the end, answering each question; a shot of the log is taken whenever something was settled."""

    def shoot(_: object) -> None:
        if shots is not None:
            shots.append(session.log.to_json())

    scope = [VirtualClock().handler(), *programs.handlers()]
    async with open_session(program(steps), *scope, log=log, id="run", seed="seed", observe=[shoot]) as session:
        outcome = await session.outcome()
        while isinstance(outcome, Suspended):
            shoot(None)
            await session.answer(programs.answer(outcome.question))
            outcome = await session.outcome()
        return outcome


@each
@given(programs.programs)
async def test_a_replay_comes_to_the_same(steps: list[Step]) -> None:
    """Any sequence of effects, recorded, encoded, decoded, replayed gives the same values, states and result."""
    first = await finish(None, steps)
    scope = [VirtualClock().handler(), *programs.handlers()]

    assert told(await replay(program(steps), stored(first.log), *scope)) == told(first)
    assert told(await resume(program(steps), Log.from_msgpack(first.log.to_msgpack()), *scope)) == told(first)


@each
@given(programs.programs)
async def test_a_run_that_is_resumed_at_every_effect_comes_to_the_same(steps: list[Step]) -> None:
    """Suspended, encoded, decoded and resumed at every effect, a run comes to the same.

    And it performs each effect once.
    """
    cold = await always_cold(program(steps), *programs.handlers(), answer=programs.answer)

    assert isinstance(cold, Completed | Failed)


@each
@given(programs.programs)
async def test_a_run_that_dies_at_any_entry_comes_to_the_same(steps: list[Step]) -> None:
    """Whatever was written of the log when the process died, a resume from it comes to the same."""
    shots: list[bytes] = []
    straight = told(await finish(None, steps, shots))

    for shot in shots:
        assert told(await finish(Log.from_json(shot), steps)) == straight
