"""7.5: a hot session keeps the strand parked in its task, and leaving it suspends cold."""

import anyio
import pytest

from skuld_async import (
    Computation,
    Effectful,
    EventAccumulator,
    Log,
    NotAnEffectError,
    Return,
    State,
    UnhandledEffectError,
    computation,
    open_session,
    resume,
    start,
)

from .parts import (
    Approval,
    Call,
    Comment,
    Desk,
    approval,
    calls,
    cancelled,
    completed,
    failed,
    states,
    stored,
    suspended,
)

total = State("hot.total", int)
spoken = EventAccumulator("hot.spoken", str)


@computation
async def talk(rounds: int) -> Effectful[int]:
    """Keeps something that no log could hold: a task that runs beside it."""
    ticks: list[int] = []

    async def tick() -> None:
        while True:
            ticks.append(1)
            await anyio.sleep(0.001)

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        for number in range(rounds):
            text = yield Comment(str(number))
            yield spoken.emit(str(text))
            yield total.modify(lambda value: value + 1)
        group.cancel_scope.cancel()
    yield Return(len(ticks))


async def test_outcome_and_answer_take_turns() -> None:
    """7.5 `session.outcome()`, `session.answer(...)`, until it ends; events and state are there at each turn."""
    async with open_session(talk(3), total.handler(0), spoken.handler()) as session:
        for number in range(3):
            outcome = suspended(await session.outcome())
            assert outcome.question == Comment(str(number))
            assert outcome.output(spoken) == [f"answer {n}" for n in range(number)]
            assert outcome.state(total) == number
            await session.answer(f"answer {number}")
        last = completed(await session.outcome())
        assert last.state(total) == 3
        assert last.log is session.log
    assert completed(await session.outcome()) is last


async def test_the_strand_stays_in_its_task() -> None:
    """7.5 Between question and answer nothing is run again: what the body holds goes on."""
    begun: list[str] = []

    @computation
    async def once() -> Effectful[str]:
        begun.append("once")
        held = object()
        first = yield Approval("lamp")
        assert first == "approved"
        second = yield Approval("desk")
        yield Return(f"{second} {held is not None}")

    async with open_session(once()) as session:
        for _ in range(2):
            suspended(await session.outcome())
            await session.answer("approved")
        assert completed(await session.outcome()).value == "approved True"
    assert begun == ["once"]


async def test_leaving_suspends_cold_and_another_process_goes_on() -> None:
    """7.5 Leaving a hot session suspends it cold; its log resumes elsewhere, cold or hot."""
    desk = Desk()
    async with open_session(approval("lamp"), *desk.handlers) as session:
        suspended(await session.outcome())
    log = session.log
    assert log.header.status == "suspended"
    assert states(log) == [("0/1", "executed"), ("0/2", "started")]
    assert log.to_json() == suspended(await resume(approval("lamp"), stored(log), *desk.handlers)).log.to_json()

    async with open_session(approval("lamp"), *desk.handlers, log=stored(log)) as again:
        suspended(await again.outcome())
        await again.answer("approved")
        assert completed(await again.outcome()).value == "VALIDATE LAMP approved"
    assert desk.arrived == ["validate lamp", "execute lamp"]


async def test_leaving_after_the_answer_keeps_the_answer() -> None:
    """7.5 An answer that was taken is in the log, whatever happens then."""
    desk = Desk()
    async with open_session(approval("lamp"), *desk.handlers) as session:
        suspended(await session.outcome())
        await session.answer("approved")
        assert session.log.header.status == "running"
    assert session.log.waits == []
    assert desk.arrived == ["validate lamp"]
    outcome = completed(await resume(approval("lamp"), stored(session.log), *desk.handlers))
    assert outcome.value == "VALIDATE LAMP approved"


async def test_leaving_while_a_call_is_in_flight() -> None:
    """7.5 The call is cut short, its entry stays started, and the next session performs it again under its key."""
    desk = Desk()
    async with open_session(calls("a", "hang"), *desk.handlers, id="run-1") as session:
        await desk.at("hang").wait()
    assert states(session.log) == [("0/1", "executed"), ("0/2", "started")]
    again = Desk()
    outcome = await resume(calls("a", "hang"), session.log, Call.handled_by(lambda _: "done"), *again.handlers[1:])
    assert completed(outcome).value == "done"
    assert desk.keys["hang"] == ["run-1/0/2"]


async def test_leaving_at_once_performs_nothing() -> None:
    """7.5 A session that is left before its strand began has an empty log that can be resumed."""
    desk = Desk()
    async with open_session(approval("lamp"), *desk.handlers) as session:
        pass
    assert desk.arrived == []
    assert states(session.log) == []
    suspended(await resume(approval("lamp"), stored(session.log), *desk.handlers))
    assert desk.arrived == ["validate lamp"]


async def test_an_error_of_the_caller_leaves_as_it_is() -> None:
    """7.5 What the block of the session raises comes out as itself, not in a group; the run suspends cold."""
    error = LookupError("the caller's own")
    with pytest.raises(LookupError) as caught:  # noqa: PT012
        async with open_session(approval("lamp"), *Desk().handlers) as session:
            suspended(await session.outcome())
            raise error
    assert caught.value is error
    assert session.log.header.status == "suspended"


async def test_a_failure_is_an_outcome_of_the_session() -> None:
    """7.5 A body that raises makes a `Failed`, and leaving the session raises nothing."""

    @computation
    async def fails() -> Effectful[str]:
        decision = yield Approval("lamp")
        message = "no"
        raise ValueError(message, decision)

    async with open_session(fails()) as session:
        suspended(await session.outcome())
        await session.answer("rejected")
        assert failed(await session.outcome()).error.args == ("no", "rejected")
    assert session.log.header.status == "failed"


@pytest.mark.parametrize("ask", [True, False], ids=["outcome", "leave"])
async def test_an_error_of_the_deployment_does_not_pass_in_silence(ask: bool) -> None:
    """5.6 It is raised by `outcome`, or where nobody asked, on leaving; with the log."""
    desk = Desk()
    with pytest.raises(UnhandledEffectError) as caught:  # noqa: PT012
        async with open_session(approval("lamp"), Call.handled_by(desk.serve)) as session:
            suspended(await session.outcome())
            await session.answer("approved")
            async with open_session(approval("lamp")) as lacking:
                await anyio.sleep(0.001)
                if ask:
                    await lacking.outcome()
    assert caught.value.log is lacking.log


async def test_a_misuse_in_a_hot_session_is_raised_once() -> None:
    """5.6 What `outcome` has raised is not raised again on leaving."""

    @computation
    async def wrong() -> Effectful[str]:
        yield "not an effect"  # type: ignore[misc]  # pyright: ignore[reportReturnType]
        yield Return("")

    async with open_session(wrong()) as session:
        for _ in range(2):
            with pytest.raises(NotAnEffectError):
                await session.outcome()


async def test_several_tasks_may_wait_for_one_outcome() -> None:
    """7.5 `outcome` may be awaited by more than one task; each sees the run stand still."""
    seen: list[str] = []
    async with open_session(approval("lamp"), *Desk().handlers) as session:

        async def watch(name: str) -> None:
            suspended(await session.outcome())
            seen.append(name)

        async with anyio.create_task_group() as group:
            group.start_soon(watch, "one")
            group.start_soon(watch, "two")
    assert sorted(seen) == ["one", "two"]


async def test_a_hot_run_and_a_cold_one_write_the_same_log() -> None:
    """7.5 Whether the strand stayed parked or ran again from the top cannot be seen in the log."""

    async def hot() -> Log:
        async with open_session(approval("lamp"), *Desk().handlers, id="run", seed="s") as session:
            suspended(await session.outcome())
            await session.answer("approved")
            return completed(await session.outcome()).log

    async def cold() -> Log:
        log = suspended(await start(approval("lamp"), *Desk().handlers, id="run", seed="s")).log
        return completed(await resume(approval("lamp"), stored(log), *Desk().handlers, answer="approved")).log

    assert (await hot()).to_json() == (await cold()).to_json()


def waiting() -> Computation[str]:
    return approval("lamp").ensure(Call("cleanup"))


async def test_cancel_at_once_performs_nothing_but_the_cleanup() -> None:
    """7.7 A run that is cancelled before its strand began requests nothing; its cleanup is performed, and logged."""
    desk = Desk()
    async with open_session(waiting(), *desk.handlers) as session:
        outcome = cancelled(await session.cancel("never mind"))
    assert outcome.reason == "never mind"
    assert desk.arrived == ["cleanup"]
    assert session.log.header.status == "cancelled"
    again = Desk()
    assert states(cancelled(await resume(waiting(), stored(outcome.log), *again.handlers)).log) == states(outcome.log)
    assert again.arrived == []


async def test_cancel_of_an_ended_run_changes_nothing() -> None:
    """7.7 A run that has ended cannot be cancelled: its outcome stands."""
    async with open_session(approval("lamp"), *Desk().handlers) as session:
        suspended(await session.outcome())
        await session.answer("rejected")
        ended = completed(await session.outcome())
        before = ended.log.to_json()
        assert await session.cancel("too late") is ended
    assert ended.log.to_json() == before


async def test_cancel_twice_is_one_cancel() -> None:
    """7.7 The first reason stands."""
    async with open_session(waiting(), *Desk().handlers) as session:
        await session.outcome()
        assert cancelled(await session.cancel("first")).reason == "first"
        assert cancelled(await session.cancel("second")).reason == "first"
