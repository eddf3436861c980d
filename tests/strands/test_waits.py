"""7.4: several open waits. Answers by id, one or several at a time, cold and hot."""

import random
from datetime import timedelta
from typing import Any, Literal

import anyio
import msgspec
import pytest

from skuld_async import (
    AlreadyAnsweredError,
    AnswerError,
    Clock,
    Computation,
    Effectful,
    InvalidAnswerError,
    Log,
    NotWaitingError,
    OtherQuestionError,
    Parallel,
    Return,
    SeveralWaitsError,
    StillWaitingError,
    Yield,
    computation,
    open_session,
    replay,
    start,
    with_timeout,
)
from skuld_async.testing import VirtualClock, always_cold

from .parts import (
    Ask,
    Call,
    Desk,
    about,
    again,
    asks,
    calls,
    comes_to_the_same,
    completed,
    failed,
    states,
    stored,
    suspended,
    waits_by_name,
)

HOUR = timedelta(hours=1)


class Choice(Yield[Literal["this", "that"]], frozen=True):
    about: str


class Numbered(Yield[int], frozen=True):
    about: str


def three() -> Computation[tuple[str, str, str]]:
    return Parallel.all(asks("a"), asks("b"), asks("c"))


async def test_all_open_questions_are_told() -> None:
    """A suspended outcome names each open question, as data and with its schema; so does the log in another process."""
    outcome = suspended(await start(Parallel.all(Choice("a").named("first"), Numbered("b")), id="r"))
    found = waits_by_name(outcome)
    assert sorted(found) == ["a", "b"]
    assert found["a"].name == "first"
    assert msgspec.json.decode(found["a"].schema)["enum"] == ["that", "this"]
    assert msgspec.json.decode(found["b"].schema) == {"type": "integer"}
    assert {wait.ref for wait in stored(outcome.log).waits} == {wait.ref for wait in outcome.waits}
    assert len({wait.ref for wait in outcome.waits}) == 2
    assert outcome.wait in outcome.waits
    with pytest.raises(StillWaitingError):
        outcome.value  # noqa: B018 - a property that raises


async def test_answers_one_at_a_time() -> None:
    """Several waits may be open; each is answered by its id, in any order, in a process of its own."""
    log = suspended(await start(three(), *Desk().handlers)).log
    for name, left in (("b", ["a", "c"]), ("c", ["a"])):
        desk = Desk()
        found = suspended(await again(three(), log, *desk.handlers, answer=f"yes {name}", to=find(log, name)))
        assert desk.arrived == [f"after {name}"]
        assert about(found) == left
        log = found.log
    outcome = completed(await again(three(), log, *Desk().handlers, answer="yes a"))
    assert outcome.value == ("a: yes a", "b: yes b", "c: yes c")
    await comes_to_the_same(three(), outcome)


def find(log: Log, name: str) -> str:
    """Ref of the wait about *name*."""
    return next(wait.ref for wait in log.waits if msgspec.json.decode(wait.question)["about"] == name)


async def test_several_answers_at_a_time() -> None:
    """`answers=` takes several at once, by their refs; those that are left stay open."""
    log = suspended(await start(three(), *Desk().handlers)).log
    desk = Desk()
    found = suspended(
        await again(three(), log, *desk.handlers, answers={find(log, "c"): "yes c", find(log, "a"): "yes a"})
    )
    assert sorted(desk.arrived) == ["after a", "after c"]
    assert about(found) == ["b"]
    outcome = completed(
        await again(three(), log, *Desk().handlers, answers={find(log, name): f"{name}!" for name in "abc"})
    )
    assert outcome.value == ("a: a!", "b: b!", "c: c!")


async def test_answer_and_answers_together() -> None:
    """One with its address and others by theirs may come together."""
    log = suspended(await start(three(), *Desk().handlers)).log
    found = suspended(
        await again(three(), log, *Desk().handlers, answer="one", to=find(log, "a"), answers={find(log, "b"): "two"})
    )
    assert about(found) == ["c"]


async def test_an_answer_has_to_say_which_is_meant() -> None:
    """With several open waits an answer without an address is refused, naming all; nothing is consumed."""
    log = suspended(await start(three(), *Desk().handlers)).log
    desk = Desk()
    with pytest.raises(SeveralWaitsError, match="3 questions are open") as caught:
        await again(three(), log, *desk.handlers, answer="yes")
    assert set(caught.value.waiting) == {wait.ref for wait in log.waits}
    assert all(wait.ref in str(caught.value) for wait in log.waits)
    assert caught.value.log.to_json() == log.to_json()
    assert desk.arrived == []


@pytest.mark.parametrize("to", ["r/0/9=0123456789abcdef", "nonsense", ""])
async def test_a_wrong_address(to: str) -> None:
    """An address that no open wait has is refused, and nothing is consumed."""
    log = suspended(await start(three(), *Desk().handlers, id="r")).log
    for given in ({"answer": "yes", "to": to}, {"answers": {to: "yes", find(log, "a"): "yes"}}):
        with pytest.raises(OtherQuestionError) as caught:
            await again(three(), log, *Desk().handlers, **given)
        assert caught.value.log.to_json() == log.to_json()


async def test_the_address_of_another_run() -> None:
    """7.3 An answer is bound to its run: the same question of another run has another address."""
    logs = [suspended(await start(three(), *Desk().handlers, id=run)).log for run in ("r", "s")]
    with pytest.raises(OtherQuestionError):
        await again(three(), logs[0], *Desk().handlers, answer="yes", to=find(logs[1], "a"))


async def test_a_stale_address() -> None:
    """7.3 A wait that has its answer takes no second one, while others are open and when none is."""
    log = suspended(await start(three(), *Desk().handlers)).log
    first = find(log, "a")
    log = suspended(await again(three(), log, *Desk().handlers, answer="yes", to=first)).log
    with pytest.raises(AlreadyAnsweredError):
        await again(three(), log, *Desk().handlers, answer="no", to=first)
    with pytest.raises(AlreadyAnsweredError):
        await again(three(), log, *Desk().handlers, answers={find(log, "b"): "yes", first: "no"})
    ended = completed(await again(three(), log, *Desk().handlers, answers={wait.ref: "x" for wait in log.waits}))
    with pytest.raises(AlreadyAnsweredError):
        await again(three(), ended.log, *Desk().handlers, answer="no", to=first)
    with pytest.raises(NotWaitingError):
        await again(three(), ended.log, *Desk().handlers, answer="no")


async def test_a_bad_answer_among_good_ones() -> None:
    """7.2 An answer is decoded before it is consumed; a bad one is refused, and its wait stays open."""
    comp = Parallel.all(Numbered("a"), Choice("b"))
    log = suspended(await start(comp)).log
    with pytest.raises(InvalidAnswerError) as caught:
        await again(comp, log, answers={find(log, "a"): 1, find(log, "b"): "neither"})
    left = caught.value.log
    assert "b" in [msgspec.json.decode(wait.question)["about"] for wait in left.waits]
    answers: dict[str, Any] = {wait.ref: 1 if "Numbered" in wait.sig else "this" for wait in left.waits}
    assert completed(await again(comp, left, answers=answers)).value == (1, "this")


async def test_none_is_an_answer_to_one_of_several() -> None:
    """7.1 None is an answer like any other, with its address."""

    class Maybe(Yield[str | None], frozen=True):
        about: str

    comp = Parallel.all(Maybe("a"), Maybe("b"))
    log = suspended(await start(comp)).log
    log = suspended(await again(comp, log, answer=None, to=find(log, "b"))).log
    assert completed(await again(comp, log, answer="x")).value == ("x", None)


async def test_the_same_question_twice() -> None:
    """7.3 Two equal questions are two waits: each has an address of its own."""
    comp = Parallel.all(Ask("a"), Ask("a"))
    outcome = suspended(await start(comp, id="r"))
    refs = sorted(wait.ref for wait in outcome.waits)
    assert len(set(refs)) == 2
    ended = completed(await again(comp, outcome.log, answers=dict(zip(refs, ["one", "two"], strict=True))))
    assert ended.value == ("one", "two")


async def test_a_run_suspends_when_no_strand_can_move() -> None:
    """7.4 A run suspends when no strand can move: at questions and sleeps, in whatever depth, all at once."""
    clock = VirtualClock()
    comp = Parallel.all(
        asks("a"),
        Parallel.race(x=asks("b"), y=Clock.sleep(HOUR)),
        Parallel.map(asks, ["c", "d"], limit=1),
        with_timeout(Parallel.all(calls("x", "y"), Ask("e")), 2 * HOUR),
    )
    desk = Desk()
    outcome = suspended(await start(comp, *desk.handlers, clock.handler()))
    assert about(outcome) == ["a", "b", "c", "e"]
    assert outcome.wake_at == clock.now + HOUR
    assert sorted(desk.arrived) == ["before a", "before b", "before c", "x", "y"]


async def test_an_answered_branch_may_ask_again() -> None:
    """A branch may go through many questions while another waits at its first."""

    @computation
    async def chats() -> Effectful[list[str]]:
        heard: list[str] = []
        for number in range(5):
            heard = [*heard, (yield Ask(f"{number}"))]
        yield Return(heard)

    comp = Parallel.all(chats(), asks("other"))
    log = suspended(await start(comp, *Desk().handlers)).log
    for number in range(5):
        assert len(log.waits) == 2
        outcome = await again(comp, log, *Desk().handlers, answer=f"answer {number}", to=find(log, f"{number}"))
        log = outcome.log
    assert completed(await again(comp, log, *Desk().handlers, answer="x")).value == (
        [f"answer {number}" for number in range(5)],
        "other: x",
    )


# -- hot -------------------------------------------------------------------------------------------------------------


async def test_hot_answers_by_id() -> None:
    """In an open session each wait is answered in its live task, in any order."""
    desk = Desk()
    async with open_session(three(), *desk.handlers) as session:
        found = waits_by_name(suspended(await session.outcome()))
        for number, name in enumerate("cab"):
            await session.answer(f"yes {name}", to=found[name] if number else found[name].ref)
            if number < 2:
                assert name not in about(suspended(await session.outcome()))
        outcome = completed(await session.outcome())
    assert outcome.value == ("a: yes a", "b: yes b", "c: yes c")
    assert desk.arrived[-3:] == ["after c", "after a", "after b"]
    await comes_to_the_same(three(), outcome)


async def test_hot_answers_while_other_strands_run() -> None:
    """7.4 A session takes an answer while other strands are at work: the run need not stand still."""
    desk = Desk("slow")
    comp = Parallel.all(asks("a"), calls("slow"))
    async with open_session(comp, *desk.handlers) as session:
        await desk.at("slow").wait()
        while not session.log.waits:
            await anyio.lowlevel.checkpoint()
        await session.answer("yes")
        await desk.at("after a").wait()
        assert "slow" in desk.running
        desk.let("slow")
        assert completed(await session.outcome()).value == ("a: yes", "SLOW")


async def test_hot_refusals_leave_all_waits_open() -> None:
    """7.2 What is refused in an open session consumes nothing: the run goes on with good answers."""
    async with open_session(three(), *Desk().handlers) as session:
        found = waits_by_name(suspended(await session.outcome()))
        with pytest.raises(SeveralWaitsError):
            await session.answer("yes")
        with pytest.raises(InvalidAnswerError):
            await session.answer(1, to=found["a"])
        with pytest.raises(OtherQuestionError):
            await session.answer("yes", to="nonsense")
        assert len(session.log.waits) == 3
        await session.answer("yes", to=found["a"])
        with pytest.raises(AlreadyAnsweredError):
            await session.answer("no", to=found["a"])
        await session.answer("yes", to=found["b"])
        await session.answer("yes", to=found["c"])
        assert completed(await session.outcome()).value == ("a: yes", "b: yes", "c: yes")


async def test_several_hot_answers_at_once() -> None:
    """Answers that come from several tasks at once each find their wait."""
    async with open_session(three(), *Desk().handlers) as session:
        found = waits_by_name(suspended(await session.outcome()))

        async def answer(name: str) -> None:
            await session.answer(f"{name}!", to=found[name])

        async with anyio.create_task_group() as group:
            for name in found:
                group.start_soon(answer, name)
        assert completed(await session.outcome()).value == ("a: a!", "b: b!", "c: c!")


async def test_an_answer_to_a_strand_that_is_on_its_way() -> None:
    """A session that goes on from a log takes answers at once: the strand is still on its way to its wait."""
    log = suspended(await start(three(), *Desk().handlers)).log
    async with open_session(three(), *Desk().handlers, log=stored(log)) as session:
        for name in "bca":
            await session.answer(f"{name}!", to=find(log, name))
        assert completed(await session.outcome()).value == ("a: a!", "b: b!", "c: c!")


async def test_leaving_a_session_suspends_all_strands_cold() -> None:
    """7.5 Leaving suspends cold: each wait stays open, what was answered stays answered, plain `finally` code runs."""
    left: list[str] = []

    @computation
    async def careful(name: str) -> Effectful[str]:
        try:
            answer = yield Ask(name)
        finally:
            left.append(name)
        yield Return(answer)

    comp = Parallel.all(careful("a"), careful("b"), careful("c").ensure(Call("never")))
    async with open_session(comp, *Desk().handlers) as session:
        found = waits_by_name(suspended(await session.outcome()))
        await session.answer("yes", to=found["b"])
        suspended(await session.outcome())
    assert sorted(left) == ["a", "b", "c"]
    assert sorted(found[name].ref for name in "ac") == sorted(wait.ref for wait in session.log.waits)
    desk = Desk()
    answers = {wait.ref: "no" for wait in session.log.waits}
    assert completed(await again(comp, session.log, *desk.handlers, answers=answers)).value == ("no", "yes", "no")
    assert desk.arrived == ["never"]


async def test_hot_and_cold_write_the_same_log() -> None:
    """7.5 Whether the strands stayed parked cannot be seen in the log, but for the order of the entries."""

    def sorted_entries(log: Log) -> list[tuple[str, str, bytes]]:
        return sorted((entry.id, entry.state, bytes(entry.value)) for entry in log.entries)

    async with open_session(three(), *Desk().handlers) as session:
        found = waits_by_name(suspended(await session.outcome()))
        for name in "bca":
            await session.answer(f"{name}!", to=found[name])
        hot = completed(await session.outcome()).log
    log = suspended(await start(three(), *Desk().handlers)).log
    for name in "bca":
        log = (await again(three(), log, *Desk().handlers, answer=f"{name}!", to=find(log, name))).log
    assert sorted_entries(hot) == sorted_entries(log)


# -- many ------------------------------------------------------------------------------------------------------------


async def test_a_thousand_open_waits_hot() -> None:
    """1,000 open waits are answered hot in random order: each answer reaches its own question."""
    count, seed = 1000, 4
    comp = Parallel.map(Numbered, [f"{number}" for number in range(count)])
    async with open_session(comp) as session:
        waits = list(suspended(await session.outcome()).waits)
        assert len(waits) == count
        random.Random(seed).shuffle(waits)
        for wait in waits:
            await session.answer(int(msgspec.json.decode(wait.question)["about"]), to=wait)
        outcome = completed(await session.outcome())
    assert outcome.value == list(range(count))
    assert completed(await replay(comp, stored(outcome.log))).value == outcome.value


async def test_a_hundred_open_waits_cold() -> None:
    """100 open waits are answered one by one, each in a fresh process: nothing is lost, nothing asked twice."""
    count = 100
    comp = Parallel.map(Numbered, [f"{number}" for number in range(count)])
    log = suspended(await start(comp)).log
    outcome: Any = None
    order = list(range(count))
    random.Random(4).shuffle(order)
    for left, number in zip(range(count, 0, -1), order, strict=True):
        assert len(log.waits) == left
        outcome = await again(comp, log, answer=number, to=find(log, f"{number}"))
        log = outcome.log
    assert completed(outcome).value == list(range(count))
    assert len(log.entries) == count + 1
    assert set(states(log).values()) == {"executed"}


async def test_always_cold() -> None:
    """7 Questions in branches come to the same, stopped and resumed at every effect."""
    outcome = await always_cold(three(), *Desk().handlers, answer=lambda question: f"{question.about}?")
    assert completed(outcome).value == ("a: a?", "b: b?", "c: c?")


async def test_an_answer_that_fails_its_branch_beside_other_answers() -> None:
    """Answers that come together are all consumed or refused: none of them is lost without a trace."""

    @computation
    async def picky(name: str) -> Effectful[str]:
        answer = yield Ask(name)
        if answer == "bad":
            raise ValueError(name)
        yield Return(answer)

    comp = Parallel.all(picky("a"), picky("b"))
    log = suspended(await start(comp, *Desk().handlers)).log
    answers = {find(log, "a"): "bad", find(log, "b"): "fine"}
    outcome = failed(await again(comp, log, *Desk().handlers, answers=answers))
    assert repr(outcome.error) == "ValueError('a')"
    assert sorted(bytes(entry.value) for entry in outcome.log.entries[1:]) == [b'"bad"', b'"fine"']
    await comes_to_the_same(comp, outcome)


async def test_waits_in_a_map_with_a_limit_open_as_others_are_answered() -> None:
    """One that waits for an answer is one of those that the limit lets run."""
    comp = Parallel.map(asks, ["a", "b", "c", "d"], limit=2)
    outcome: Any = await start(comp, *Desk().handlers)
    assert about(suspended(outcome)) == ["a", "b"]
    outcome = await again(comp, outcome.log, *Desk().handlers, answer="x", to=find(outcome.log, "b"))
    assert about(suspended(outcome)) == ["a", "c"]
    while outcome.log.waits:
        outcome = await again(comp, outcome.log, *Desk().handlers, answer="x", to=outcome.log.waits[0])
    assert completed(outcome).value == ["a: x", "b: x", "c: x", "d: x"]


async def test_a_cancelled_run_takes_no_answers() -> None:
    """7.7 A run that was cancelled has no open waits any more."""
    async with open_session(three(), *Desk().handlers) as session:
        found = waits_by_name(suspended(await session.outcome()))
        await session.cancel()
        with pytest.raises(AnswerError):
            await session.answer("yes", to=found["a"])
    assert session.log.waits == []
    with pytest.raises(NotWaitingError):
        await again(three(), session.log, *Desk().handlers, answer="yes", to=found["a"])
