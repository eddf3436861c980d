"""What each verb does with a log of each status: the table in `skuld_async.log.verbs`, cell by cell."""

from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from skuld_async import (
    Computation,
    DivergenceError,
    Effectful,
    Log,
    NotWaitingError,
    Outcome,
    RerunRefusedError,
    Return,
    computation,
    open_session,
    replay,
    rerun,
    resume,
    start,
)

from .parts import (
    Approval,
    Call,
    Desk,
    Release,
    cancelled,
    completed,
    failed,
    host_cancelled,
    states,
    stored,
    suspended,
)

ANSWER = "approved"


class Shop(Desk):
    """A desk whose bank may be down."""

    def __init__(self, *, is_down: bool = False) -> None:
        super().__init__()
        self.is_down = is_down

    async def serve(self, effect: Call | Release) -> str:
        if effect.name == "hang charge":
            effect = Call("charge")
            if not self.is_down:
                return await super().serve(effect)
            self.arrived.append("charge")
            message = "the bank is down"
            raise ConnectionError(message)
        return await super().serve(effect)


@computation(name="shop:order")
async def order() -> Effectful[str]:
    yield Call("validate")
    decision = yield Approval("lamp")
    yield Call("hang charge")
    yield Return(f"bought, {decision}")


def comp(status: str = "") -> Computation[str]:
    """The computation of a log of *status*; what failed has no cleanup, because `rerun` passes over no effects."""
    return order() if status == "failed" else order().ensure(Release("lamp"))


async def make_running() -> Log:
    """Its host went away while the validation was in flight."""

    async def hangs(_effect: Call) -> str:
        desk.at("validate").set()
        await Desk().serve(Call("hang"))
        raise AssertionError

    desk = Desk()
    return await host_cancelled(comp(), *desk.handlers, Call.handled_by(hangs), when=desk.at("validate"))


async def make_suspended() -> Log:
    return suspended(await start(comp(), *Shop().handlers)).log


async def make_completed() -> Log:
    return completed(await resume(comp(), await make_suspended(), *Shop().handlers, answer=ANSWER)).log


async def make_failed() -> Log:
    down = Shop(is_down=True)
    log = suspended(await start(comp("failed"), *down.handlers)).log
    return failed(await resume(comp("failed"), log, *down.handlers, answer=ANSWER)).log


async def make_cancelled() -> Log:
    """Cancelled at its question; its process was gone before the cleanup."""
    async with open_session(comp(), *Shop().handlers) as session:
        await session.outcome()
        log = cancelled(await session.cancel("out of stock")).log
    assert states(log) == [("0/1", "executed"), ("0/2", "discarded"), ("0/3", "executed")]
    return log


def cut(log: Log) -> Log:
    """A cancelled run whose process ended right after the cancel was recorded."""
    early = Log.from_json(log.to_json())
    del early.entries[2:]
    return early


MAKERS: dict[str, Callable[[], Awaitable[Log]]] = {
    "running": make_running,
    "suspended": make_suspended,
    "completed": make_completed,
    "failed": make_failed,
    "cancelled": make_cancelled,
}
VERBS: dict[str, Callable[..., Awaitable[Outcome[str]]]] = {
    "resume": resume,
    "resume(answer=)": partial(resume, answer=ANSWER),
    "replay": replay,
    "rerun": rerun,
}
CELLS: dict[tuple[str, str], tuple[str, list[str]]] = {
    # (verb, status): (what comes of it, what is performed)
    ("resume", "running"): ("goes on", ["validate"]),
    ("resume", "suspended"): ("Suspended, the same", []),
    ("resume", "completed"): ("Completed, the same", []),
    ("resume", "failed"): ("Failed, the same", []),
    ("resume", "cancelled"): ("Cancelled, the same", []),
    ("resume(answer=)", "running"): ("refused", []),
    ("resume(answer=)", "suspended"): ("goes on", ["charge", "release lamp"]),
    ("resume(answer=)", "completed"): ("refused", []),
    ("resume(answer=)", "failed"): ("refused", []),
    ("resume(answer=)", "cancelled"): ("refused", []),
    ("replay", "running"): ("Suspended, the same", []),
    ("replay", "suspended"): ("Suspended, the same", []),
    ("replay", "completed"): ("Completed, the same", []),
    ("replay", "failed"): ("Failed, the same", []),
    ("replay", "cancelled"): ("Cancelled, the same", []),
    ("rerun", "running"): ("refused", []),
    ("rerun", "suspended"): ("refused", []),
    ("rerun", "completed"): ("refused", []),
    ("rerun", "failed"): ("goes on", ["charge"]),
    ("rerun", "cancelled"): ("refused", []),
}


def test_every_cell_is_tested() -> None:
    """Four verbs that take a log, five statuses."""
    assert set(CELLS) == {(verb, status) for verb in VERBS for status in MAKERS}


@pytest.mark.parametrize(("verb", "status"), list(CELLS), ids=["-".join(cell) for cell in CELLS])
async def test_the_cell(verb: str, status: str) -> None:
    """Each verb does with a log of each status what the table says; the given log stays as it was, byte for byte."""
    log = await MAKERS[status]()
    assert log.header.status == status
    log, before = stored(log), log.to_json()
    desk = Shop()
    what, performed = CELLS[verb, status]
    if what == "refused":
        with pytest.raises((NotWaitingError, RerunRefusedError)) as caught:
            await VERBS[verb](comp(status), log, *desk.handlers)
        assert caught.value.log.to_json() == before
    else:
        outcome = await VERBS[verb](comp(status), log, *desk.handlers)
        if what.endswith("the same"):
            assert type(outcome).__name__ == what.partition(",")[0]
            assert outcome.log.to_json() == before
            assert outcome.log is not log
        else:
            assert outcome.log.header.status != status or verb == "resume"
    assert desk.arrived == performed
    assert log.to_json() == before


async def test_start_takes_no_log() -> None:
    """`start` writes a new log; what `into` held before is not gone on from."""
    old = await make_suspended()
    outcome = suspended(await start(comp(), *Shop().handlers, into=old, id="new"))
    assert outcome.log is old
    assert old.header.run == "new"
    assert states(old) == [("0/1", "executed"), ("0/2", "started")]


async def test_resume_goes_on_after_a_crash_under_the_same_key() -> None:
    """7.7 The call that was in flight is performed again under its own key, and the run goes on to its question."""
    log = await make_running()
    assert states(log) == [("0/1", "started")]
    desk = Shop()
    outcome = suspended(await resume(comp(), log, *desk.handlers))
    assert desk.keys["validate"] == [f"{log.header.run}/0/1"]
    assert outcome.question == Approval("lamp")


async def test_replay_of_a_run_that_was_stopped_on_its_way_stops_there() -> None:
    """`replay` performs nothing: it ends where the log ends, as `Suspended` without a wait."""
    outcome = suspended(await replay(comp(), await make_running(), *Shop().handlers))
    assert outcome.wait is None
    assert outcome.question is None


@pytest.mark.parametrize("verb", ["resume", "replay"])
async def test_a_suspended_run_suspends_again_with_its_question(verb: str) -> None:
    """The outcome of `resume` and `replay` holds the question and the wait, as that of `start` did."""
    first = suspended(await start(comp(), *Shop().handlers))
    again = suspended(await VERBS[verb](comp(), stored(first.log), *Shop().handlers))
    assert again.question == first.question == Approval("lamp")
    assert again.wait is not None
    assert first.wait is not None
    assert again.wait.ref == first.wait.ref


@pytest.mark.parametrize("verb", ["resume", "replay"])
async def test_ended_runs_give_the_same_values(verb: str) -> None:
    """A completed run gives its result again, a failed one its error, a cancelled one its reason."""
    handlers = Shop().handlers
    assert completed(await VERBS[verb](comp(), await make_completed(), *handlers)).value == "bought, approved"
    error = failed(await VERBS[verb](comp("failed"), await make_failed(), *handlers)).error
    assert type(error) is ConnectionError
    assert error.args == ("the bank is down",)
    assert cancelled(await VERBS[verb](comp(), await make_cancelled(), *handlers)).reason == "out of stock"


async def test_resume_of_a_cancelled_run_finishes_its_cleanup() -> None:
    """7.7 A cleanup that was cut short is finished by `resume`; after that nothing is left to do."""
    log = cut(await make_cancelled())
    desk = Shop()
    outcome = cancelled(await resume(comp(), log, *desk.handlers))
    assert desk.arrived == ["release lamp"]
    assert outcome.reason == "out of stock"
    again = cancelled(await resume(comp(), stored(outcome.log), *desk.handlers))
    assert desk.arrived == ["release lamp"]
    assert states(again.log) == [("0/1", "executed"), ("0/2", "discarded"), ("0/3", "executed")]


@computation(name="shop:order")
async def order_says_more() -> Effectful[str]:
    yield Call("validate")
    decision = yield Approval("lamp")
    yield Call("hang charge")
    yield Return(f"bought a lamp, {decision}")


@computation(name="shop:order")
async def order_asks_less() -> Effectful[str]:
    yield Call("validate")
    yield Return("bought")


@computation(name="shop:order")
async def order_survives() -> Effectful[str]:
    yield Call("validate")
    yield Approval("lamp")
    try:
        yield Call("hang charge")
    except ConnectionError:
        pass
    yield Return("bought")


@computation(name="shop:order")
async def order_fails_otherwise() -> Effectful[str]:
    yield Call("validate")
    yield Approval("lamp")
    try:
        yield Call("hang charge")
    except ConnectionError as error:
        raise LookupError from error
    yield Return("bought")


@pytest.mark.parametrize("verb", ["resume", "replay"])
@pytest.mark.parametrize(
    ("status", "changed"),
    [
        ("suspended", order_asks_less().ensure(Release("lamp"))),
        ("completed", order_says_more().ensure(Release("lamp"))),
        ("completed", order_asks_less().ensure(Release("lamp"))),
        ("completed", order()),
        ("failed", order_survives()),
        ("failed", order_fails_otherwise()),
        ("failed", order().ensure(Release("lamp"))),
        ("cancelled", order()),
        ("cancelled", order().ensure(Release("chair"))),
    ],
    ids=[
        "suspended-ends-early",
        "completed-other-result",
        "completed-ends-early",
        "completed-without-cleanup",
        "failed-survives",
        "failed-other-error",
        "failed-with-a-cleanup",
        "cancelled-without-cleanup",
        "cancelled-other-cleanup",
    ],
)
async def test_the_same_is_verified(verb: str, status: str, changed: Computation[str]) -> None:
    """Another computation is a divergence wherever the verbs say "the same": nothing is performed, the log stays."""
    log = await MAKERS[status]()
    before = log.to_json()
    desk = Shop()
    with pytest.raises(DivergenceError):
        await VERBS[verb](changed, log, *desk.handlers)
    assert desk.arrived == []
    assert log.to_json() == before


@pytest.mark.parametrize("status", [status for status in MAKERS if status != "failed"])
async def test_a_refused_rerun_says_which_verb_to_use(status: str) -> None:
    """6.7 `rerun` is the verb for failed runs; for others it names the right one."""
    with pytest.raises(RerunRefusedError, match=rf"it is {status}, not failed\. Use resume\("):
        await rerun(comp(), await MAKERS[status]())


async def test_a_refused_answer_says_how_to_go_on() -> None:
    """An answer for a run that waits for nothing: leave it out."""
    with pytest.raises(NotWaitingError, match=r"Leave the answer out: resume\(comp, log, \*handlers\)"):
        await resume(comp(), await make_completed(), answer=ANSWER)


async def test_a_cancelled_run_whose_wait_looks_open_takes_no_answer() -> None:
    """A process that ended between recording the cancel and delivering it left the wait open; it is cancelled too."""
    log = cut(await make_cancelled())
    log.entries[1] = (await make_suspended()).entries[1]
    assert [wait.id for wait in log.waits] == ["0/2"]
    with pytest.raises(NotWaitingError, match="it is cancelled"):
        await resume(comp(), log, *Shop().handlers, answer=ANSWER)
    desk = Shop()
    assert cancelled(await resume(comp(), log, *desk.handlers)).reason == "out of stock"
    assert desk.arrived == ["release lamp"]


@pytest.mark.parametrize("verb", [resume, replay, rerun], ids=["resume", "replay", "rerun"])
async def test_each_verb_fills_into(verb: Callable[..., Awaitable[Outcome[str]]]) -> None:
    """7.7 `into=` holds the new log for each verb; the given one stays as it was."""
    status = "failed" if verb is rerun else "suspended"
    log = await MAKERS[status]()
    before = log.to_json()
    into = Log()
    outcome = await verb(comp(status), log, *Shop().handlers, into=into)
    assert outcome.log is into
    assert log.to_json() == before


@pytest.mark.parametrize("verb", list(VERBS))
async def test_errors_of_the_deployment_carry_the_log(verb: str) -> None:
    """5.6 A log of another computation is refused by each verb, and the error has it."""

    @computation(name="shop:other")
    async def other() -> Effectful[str]:
        yield Return("other")

    log = await (make_failed() if verb == "rerun" else make_suspended())
    before = log.to_json()
    with pytest.raises(DivergenceError, match="this is the log of shop:order, not of shop:other") as caught:
        await VERBS[verb](other(), log, *Shop().handlers)
    assert log.to_json() == before
    assert [entry.id for entry in caught.value.log.entries] == [entry.id for entry in log.entries]
