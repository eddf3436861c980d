"""Any sequence of effects, recorded, encoded, decoded and replayed, or cut anywhere, comes to the same."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from hypothesis import HealthCheck, example, given, settings

from skuld_async import Completed, Failed, Handler, Log, Outcome, Suspended, open_session, replay, resume
from skuld_async.testing import VirtualClock, always_cold

from . import programs
from .programs import Book, Database, Note, Repeat, Step, Sub, Transact, notes, program
from .shop import cart, events, stored, total

each = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)


LOOPS: list[Step] = [Transact([Sub([Note("x"), Repeat([Book(1)], 1)]), Repeat([Book(2)], 1)], "returns")]
"""In one transaction, a loop of its body and a loop of the same name in what the body calls first."""


def told(outcome: Outcome[list[str]]) -> dict[str, Any]:
    """All that an outcome tells."""
    return {
        "outcome": type(outcome).__name__,
        "value": outcome.value if isinstance(outcome, Completed) else None,
        "error": f"{outcome.error!r}" if isinstance(outcome, Failed) else None,
        "state": (outcome.state(total), outcome.state(cart)),
        "told": (outcome.output(events), outcome.output(notes)),
        "log": outcome.log.to_json(),
    }


class Shot(NamedTuple):
    """What a process leaves that dies: what was written of its log, and what the database holds."""

    log: bytes
    rows: list[tuple[int, str]]


async def finish(
    log: Log | None, steps: list[Step], database: Database, shots: list[Shot] | None = None
) -> Outcome[list[str]]:
    """Run or go on to the end, answering each question; a shot is taken whenever something was settled."""

    def shoot(_: object) -> None:
        if shots is not None:
            shots.append(Shot(session.log.to_json(), database.committed))

    scope = [VirtualClock().handler(), *programs.handlers(database)]
    async with open_session(program(steps), *scope, log=log, id="run", seed="seed", observe=[shoot]) as session:
        outcome = await session.outcome()
        while isinstance(outcome, Suspended):
            shoot(None)
            await session.answer(programs.answer(outcome.question))
            outcome = await session.outcome()
        return outcome


@each
@given(programs.programs)
@example(LOOPS)
async def test_a_replay_comes_to_the_same(steps: list[Step]) -> None:
    """Any sequence of effects, recorded, encoded, decoded, replayed gives the same values, states and result."""
    first = await finish(None, steps, Database())
    other = Database()
    scope = [VirtualClock().handler(), *programs.handlers(other)]

    assert told(await replay(program(steps), stored(first.log), *scope)) == told(first)
    assert told(await resume(program(steps), Log.from_msgpack(first.log.to_msgpack()), *scope)) == told(first)
    assert other.committed == []


@each
@given(programs.programs)
@example(LOOPS)
async def test_a_run_that_is_resumed_at_every_effect_comes_to_the_same(steps: list[Step]) -> None:
    """Suspended, encoded, decoded and resumed at every effect, a run comes to the same.

    And it performs each effect once.
    """
    databases: list[Database] = []

    def fresh() -> Sequence[Handler]:
        databases.append(Database())
        return programs.handlers(databases[-1])

    cold = await always_cold(program(steps), fresh=fresh, answer=programs.answer)

    assert isinstance(cold, Completed | Failed)
    assert databases[0].committed == databases[1].committed


@each
@given(programs.programs)
@example(LOOPS)
async def test_a_run_that_dies_at_any_entry_comes_to_the_same(steps: list[Step]) -> None:
    """Whatever was written of the log when the process died, a resume from it comes to the same.

    The database holds the same rows then, each once.
    """
    shots: list[Shot] = []
    first = Database()
    straight = told(await finish(None, steps, first, shots))

    for shot in shots:
        database = Database(shot.rows)
        assert told(await finish(Log.from_json(shot.log), steps, database)) == straight
        assert database.committed == first.committed
