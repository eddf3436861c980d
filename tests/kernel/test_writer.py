"""Writer: notes are told, looked at, heard, changed and censored, without a log and out of one."""

from typing import Any

import anyio
import pytest
from msgspec import Struct

from skuld_async import (
    Cancelled,
    Completed,
    DeclarationError,
    Effect,
    Effectful,
    Failed,
    Log,
    Outcome,
    Return,
    Suspended,
    Throw,
    UnhandledEffectError,
    Writer,
    Yield,
    computation,
    mark_loop,
    open_session,
    replay,
    rerun,
    resume,
    run,
    start,
)
from skuld_async.testing import always_cold

from .parts import Charge, Slow, too_slow

notes = Writer("notes", str)
numbers = Writer("numbers", int)


class Ask(Yield[str], frozen=True):
    pass


class Work(Effect[int], frozen=True):
    pass


@computation
async def tells(said: str) -> Effectful[int]:
    words = said.split()
    for word in words:
        yield notes.tell(word)
    yield Return(len(words))


@computation
async def tells_and_fails(said: str) -> Effectful[int]:
    yield tells(said)
    yield Throw(LookupError("failed"))


@computation
async def asks(note: str) -> Effectful[str]:
    yield notes.tell(f"{note} before")
    answer = yield Ask()
    yield notes.tell(f"{note} after")
    yield Return(answer)


def redact(told: list[str]) -> list[str]:
    return ["***" for _ in told]


def stored(outcome: Outcome[Any]) -> Log:
    return Log.from_msgpack(Log.from_json(outcome.log.to_json()).to_msgpack())


def names(log: Log) -> list[str]:
    return [entry.sig.rpartition(":")[2] for entry in log.entries]


# -- without a log -----------------------------------------------------------------------------------------------------


async def test_notes_are_told_and_looked_at() -> None:
    """`tell` answers None; `peek` gives what was told so far, as a list of its own; keys keep apart."""

    @computation
    async def body() -> Effectful[list[Any]]:
        first = yield notes.tell("a")
        await numbers.tell(1)
        seen = yield notes.peek()
        seen.append("not told")
        yield notes.tell("b")
        yield Return([first, seen, await notes.peek(), await numbers.peek()])

    handler = notes.handler()
    for _ in range(2):
        assert await run(body(), handler, numbers.handler()) == [None, ["a", "not told"], ["a", "b"], [1]]


async def test_listen_hears_what_one_computation_told() -> None:
    """`listen` gives what the computation told, and only that; it stays told, and what is heard may be changed."""

    @computation
    async def body() -> Effectful[tuple[Any, ...]]:
        yield notes.tell("before")
        value, told = yield notes.listen(tells("a b"))
        told.append("not told")
        nothing = await notes.listen(tells(""))
        yield notes.tell("after")
        yield Return((value, told, nothing, await notes.peek()))

    value = await run(body(), notes.handler())

    assert value == (2, ["a", "b", "not told"], (0, []), ["before", "a", "b", "after"])


async def test_listening_nests() -> None:
    """Each hears all that was told inside, as what stands further inside has left it."""

    @computation
    async def inner() -> Effectful[list[str]]:
        yield notes.tell("b")
        yield notes.censor(tells("c d"), redact)
        yield Return((await notes.listen(tells("e")))[1])

    @computation
    async def body() -> Effectful[tuple[Any, ...]]:
        yield notes.tell("a")
        yield Return((yield notes.listen(notes.listen(inner()))))

    assert await run(body(), notes.handler()) == ((["e"], ["b", "***", "***", "e"]), ["b", "***", "***", "e"])


async def test_what_is_told_in_a_scope_of_its_own_is_not_heard_outside() -> None:
    """5.10 A scope with a handler of its own has a list of its own."""

    @computation
    async def body() -> Effectful[Any]:
        heard = yield notes.listen(tells("a").handle(notes.handler()))
        yield Return((heard, await notes.peek()))

    assert await run(body(), notes.handler()) == ((1, []), [])


async def test_pass_lets_a_computation_change_what_it_told() -> None:
    """`pass_` takes the change from the computation, and gives its value; where it raises, what it told stays."""

    @computation
    async def sorts() -> Effectful[tuple[int, Any]]:
        value = yield tells("b a")
        yield Return((value, sorted))

    @computation
    async def fails() -> Effectful[tuple[int, Any]]:
        value = yield tells_and_fails("d c")
        yield Return((value, sorted))

    @computation
    async def body() -> Effectful[tuple[int, list[str]]]:
        yield notes.tell("z")
        value = yield notes.pass_(sorts())
        with pytest.raises(LookupError):
            yield notes.pass_(fails())
        yield Return((value, await notes.peek()))

    assert await run(body(), notes.handler()) == (2, ["z", "a", "b", "d", "c"])


async def test_censor_changes_what_was_told() -> None:
    """`censor` gives the value, and changes what the computation told; more or fewer notes may be left."""

    @computation
    async def body() -> Effectful[tuple[Any, ...]]:
        yield notes.tell("before")
        value = yield notes.censor(tells("a b"), redact)
        none = await notes.censor(tells("c"), lambda _: ())
        more = yield notes.censor(tells("d"), lambda told: [*told, *told])
        yield Return((value, none, more, await notes.peek()))

    assert await run(body(), notes.handler()) == (2, 1, 1, ["before", "***", "***", "d", "d"])


async def test_a_secret_told_before_an_error_does_not_leak() -> None:
    """`censor` changes what was told also where the computation raises, and the error goes on."""

    @computation
    async def body() -> Effectful[list[str]]:
        yield notes.tell("before")
        with pytest.raises(LookupError, match="failed"):
            yield notes.censor(tells_and_fails("secret"), redact)
        yield Return((yield notes.peek()))

    assert await run(body(), notes.handler()) == ["before", "***"]


@pytest.mark.parametrize("fails", [False, True])
async def test_a_change_that_raises_leaves_nothing(fails: bool) -> None:
    """Where *change* raises, all that the computation told is removed: nothing leaks."""
    heard: list[list[str]] = []

    def change(told: list[str]) -> list[str]:
        heard.append(list(told))
        told.clear()
        message = "cannot redact"
        raise ValueError(message)

    @computation
    async def body() -> Effectful[list[str]]:
        yield notes.tell("before")
        with pytest.raises(ValueError, match="cannot redact"):
            yield notes.censor((tells_and_fails if fails else tells)("secret"), change)
        yield Return((yield notes.peek()))

    assert await run(body(), notes.handler()) == ["before"]
    assert heard == [["secret"]]


async def test_censor_takes_place_under_a_cancellation() -> None:
    """`censor` changes what was told also where a scope of the body cancels the computation."""

    @computation
    async def slow() -> Effectful[int]:
        yield notes.tell("secret")
        yield Slow()
        yield Return(1)

    @computation
    async def body() -> Effectful[list[str]]:
        with anyio.move_on_after(0.01):
            yield notes.censor(slow(), redact)
        yield Return((yield notes.peek()))

    scope = [notes.handler(), Slow.handled_by(too_slow)]
    assert await run(body(), *scope) == ["***"]
    outcome = await start(body(), *scope)
    assert outcome.value == ["***"]
    assert (await replay(body(), stored(outcome), *scope)).value == ["***"]


def test_types_of_notes_are_compiled_where_the_key_stands() -> None:
    """6.11 The type of a key is compiled where it is declared."""

    class Told(Struct, frozen=True):
        text: str

    class Heard(Struct, frozen=True):
        text: str

    with pytest.raises(DeclarationError, match=r"Writer\[mixed\]"):
        Writer("mixed", Told | Heard)


async def test_a_writer_without_a_handler_is_named() -> None:
    """5.6 What nothing handles is an error with the fix, for what `listen` asks for as well."""
    for comp in (tells("a"), notes.listen(tells("a"))):
        with pytest.raises(UnhandledEffectError, match=r"Writer\[notes\]"):
            await run(comp)


# -- with a log --------------------------------------------------------------------------------------------------------


@computation
async def reports() -> Effectful[list[Any]]:
    yield notes.tell("first")
    heard = yield notes.listen(asks("heard"))
    censored = yield notes.censor(asks("censored"), redact)
    passed = yield notes.pass_(passes())
    yield Return([heard, censored, passed])


@computation
async def passes() -> Effectful[tuple[str, Any]]:
    answer = yield asks("passed")
    yield Return((answer, backwards))


def backwards(told: list[str]) -> list[str]:
    return told[::-1]


async def test_the_caller_reads_the_notes() -> None:
    """`outcome.output(key)` gives the notes of the outermost scope; the log has an entry for each request."""
    outcome = await start(tells("a b"), notes.handler(), numbers.handler())

    assert (outcome.output(notes), outcome.output(numbers)) == (["a", "b"], [])
    assert [(entry.sig, bytes(entry.data)) for entry in outcome.log.entries] == [
        ("Writer[notes].tell", b'{"note":"a"}'),
        ("Writer[notes].tell", b'{"note":"b"}'),
    ]
    with pytest.raises(KeyError, match="has no handler in the outermost scope"):
        (await start(tells("a").handle(notes.handler()))).output(notes)


async def test_listening_is_logged_around_what_it_hears() -> None:
    """6.1 `listen`, `pass_` and `censor` ask their handler by effects, which stand in the log around the rest."""
    outcome: Outcome[Any] = await start(notes.listen(tells("a")), notes.handler())
    censored = await start(notes.censor(tells("a"), redact), notes.handler())

    writer = "Writer[notes]"
    assert names(outcome.log) == [f"{writer}.count", f"{writer}.tell", f"{writer}.since"]
    assert names(censored.log) == [f"{writer}.count", f"{writer}.tell", f"{writer}.since", f"{writer}.replace"]
    assert [entry.id for entry in censored.log.entries] == ["0/1", "0/3", "0/5", "0/6"]  # calls have numbers, too


async def test_notes_are_the_same_after_each_cold_resume() -> None:
    """6.3 Writer is local: what is suspended before, inside and after listening goes on with the same notes."""
    scope = notes.handler()
    outcome: Outcome[Any] = await start(reports(), scope)
    told = [
        ["first", "heard before"],
        ["first", "heard before", "heard after", "censored before"],
        ["first", "heard before", "heard after", "***", "***", "passed before"],
    ]
    for number, expected in enumerate(told):
        assert isinstance(outcome, Suspended)
        assert outcome.output(notes) == expected
        again = await replay(reports(), stored(outcome), scope)
        assert again.output(notes) == expected
        outcome = await resume(reports(), stored(again), scope, answer=f"answer {number}")

    heard = ["answer 0", ["heard before", "heard after"]]  # a tuple is a list behind Effectful[list[Any]]
    assert isinstance(outcome, Completed)
    assert outcome.value == [heard, "answer 1", "answer 2"]
    last = ["first", "heard before", "heard after", "***", "***", "passed after", "passed before"]
    assert outcome.output(notes) == last
    assert (await replay(reports(), stored(outcome), scope)).output(notes) == last


async def test_it_is_always_cold() -> None:
    """6.9 Suspended and resumed at every effect, it comes to the same."""
    outcome = await always_cold(reports(), notes.handler(), answer=lambda _: "yes")

    assert isinstance(outcome, Completed)
    failure = await always_cold(notes.censor(tells_and_fails("a"), redact), notes.handler())
    assert isinstance(failure, Failed)
    assert failure.output(notes) == ["***"]


async def test_loops_prune_inside_and_around_listening() -> None:
    """6.10 Notes outlive the iterations that told them, and a `listen` around a loop hears those of all."""

    @computation
    async def loops() -> Effectful[int]:
        turn = 0
        while turn < 3:
            turn = yield mark_loop("turns", int, carry=turn)
            yield notes.tell(f"turn {turn}")
            yield asks(f"{turn}")
            turn += 1
        yield Return(turn)

    @computation
    async def rounds() -> Effectful[list[str]]:
        done = 0
        while done < 2:
            done = yield mark_loop("rounds", int, carry=done)
            value, told = yield notes.listen(loops())
            assert (value, len(told)) == (3, 9)
            done += 1
        yield Return((yield notes.peek()))

    outcome = await always_cold(rounds(), notes.handler(), answer=lambda _: "go")

    assert len(outcome.value) == 18
    assert len(outcome.log.entries) < 12


async def test_a_cancelled_run_keeps_no_secret() -> None:
    """7.7 Run cancel: `censor` changes what was told before the run ends."""

    @computation
    async def body() -> Effectful[str]:
        yield Return((yield notes.censor(asks("secret"), redact)))

    async with open_session(body(), notes.handler()) as session:
        await session.outcome()
        outcome = await session.cancel("enough")

    assert isinstance(outcome, Cancelled)
    assert (outcome.output(notes), outcome.refused) == (["***"], ())
    again = await replay(body(), stored(outcome), notes.handler())
    assert isinstance(again, Cancelled)
    assert again.output(notes) == ["***"]


async def test_a_failed_run_may_have_told_after_its_failure() -> None:
    """6.7 Notes leave the process alone: `rerun` is not refused for their sake."""

    @computation
    async def body() -> Effectful[str]:
        try:
            answer = yield Charge()
        except ConnectionError:
            yield notes.listen(tells("failed"))
            raise
        yield Return(answer)

    def fails(_effect: Charge) -> str:
        raise ConnectionError

    failed = await start(body(), notes.handler(), Charge.handled_by(fails))
    assert isinstance(failed, Failed)
    again = await rerun(body(), stored(failed), notes.handler(), Charge.always("charged"))
    assert (again.value, again.output(notes)) == ("charged", [])


async def test_what_a_handler_told_is_told_again() -> None:
    """5.9 When an effect is answered from the log, what its handler told, heard and censored is done again."""

    async def charge(_effect: Charge) -> str:
        _, told = await notes.listen(tells("a b"))
        await notes.censor(tells("secret"), redact)
        return f"heard {told}"

    @computation
    async def body() -> Effectful[list[Any]]:
        heard = yield Charge()
        answer = yield Ask()
        yield Return([heard, answer, await notes.peek()])

    scope = [notes.handler(), Charge.handled_by(charge)]
    first = await start(body(), *scope)
    last = await resume(body(), stored(first), *scope, answer="yes")

    assert last.value == ["heard ['a', 'b']", "yes", ["a", "b", "***"]]
    assert [entry.id for entry in first.log.entries][:3] == ["0/1", "0/1/2", "0/1/4"]


async def test_unlogged_notes_are_told_live() -> None:
    """6.13 ``effects=``: what is not logged is performed live on each replay."""
    scope = [notes.handler(), numbers.handler()]
    first = await start(reports(), *scope, effects=[])

    assert names(first.log) == ["Ask"]
    again = await resume(reports(), stored(first), *scope, answer="a", effects=[])
    assert again.output(notes) == ["first", "heard before", "heard after", "censored before"]
    assert len((await start(tells("a"), *scope, effects=[Writer])).log.entries) == 1
