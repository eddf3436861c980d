"""Deposits: answers that nobody has checked, left for a question or for a name that is still to be asked."""

from collections.abc import Callable
from typing import Any

import pytest

from skuld_async import (
    DeclarationError,
    Effectful,
    Parallel,
    Return,
    computation,
)
from skuld_async.durable import UnknownRunError
from skuld_async.durable.records import NewAnswer
from skuld_async.durable.store import Store
from skuld_async.stores.memory import MemoryStore

from .parts import (
    Comment,
    Desk,
    Line,
    asks,
    asks_named,
    fates,
    open_waits,
    plain,
    runtime,
    stands,
)

Connect = Callable[[], Store]


@computation
async def named() -> Effectful[str]:
    yield Return((yield Comment("beside").named("note")))


@computation
async def beside(what: str) -> Effectful[list[str]]:
    """A named question beside a call."""
    said: list[str] = yield Parallel.all(named(), plain(what))
    yield Return(said)


@computation
async def twice(name: str) -> Effectful[list[str]]:
    """Two questions of the same name, one after the other."""
    first = yield Comment("first").named(name)
    second = yield Comment("second").named(name)
    yield Return([first, second])


WORKFLOWS: list[Any] = [plain, asks, asks_named, twice, beside]


async def test_an_answer_may_come_before_its_question(connect: Connect) -> None:
    """It is left for a name, and answers the first question of that name; `messages` tells what became of it."""
    for idle in (0, 10):
        desk = Desk("before x")
        async with runtime(connect(), desk, idle=idle) as one:
            run = await one.start(asks_named("x"), id=f"{idle}")
            await desk.at("before x").wait()
            await one.deposit(b'"yes"', run=run.id, name="approval", by="bob")
            (sent,) = await one.messages(run.id)
            assert (sent.kind, sent.name, sent.by, sent.state) == ("deposit", "approval", "bob", "pending")
            desk.let("before x")
            assert await run.result(10) == "x: yes"
            (sent,) = await one.messages(run.id)
            assert sent.state == "used"
            assert (await one.waits()).items == []


async def test_early_answers_are_given_in_their_order(connect: Connect) -> None:
    """Two of one name: the second one waits for the second question; a third one is told that nobody asked."""
    async with runtime(connect(), workflows=WORKFLOWS) as one:
        run = await one.start(twice("note"), paused=True)
        for said in (b'"a"', b'"b"', b'"c"'):
            await one.deposit(said, run=run.id, name="note")
        await one.release(run.id)
        assert await run.result(10) == ["a", "b"]
        assert [sent.state for sent in await one.messages(run.id)] == ["used", "used", "refused"]


async def test_an_early_answer_does_not_wait_for_siblings() -> None:
    """Its question may be asked, or the answer come, while another branch is at a call."""
    desk = Desk("slow", "slower")
    async with runtime(MemoryStore(), desk, workflows=WORKFLOWS) as one:
        for what, early in (("slow", True), ("slower", False)):
            run = await one.start(beside(what), id=what, paused=early)
            if early:
                await one.deposit(b'"said"', run=what, name="note")
                await one.release(what)
            else:
                await desk.at(what).wait()
                await open_waits(one, what)
                await one.deposit(b'"said"', run=what, name="note")
            await desk.at(what).wait()
            await fates(one, what, "used")
            desk.let(what)
            assert await run.result(10) == ["said", what.upper()]


async def test_a_deposit_that_does_not_fit_is_refused(connect: Connect) -> None:
    """The question stays open, the run does not move, and `messages` tells why; a later one that fits is taken."""
    async with runtime(connect(), workflows=WORKFLOWS, idle=0) as one:
        run = await one.start(asks_named("x"))
        (wait,) = await open_waits(one)
        bad = [b'"maybe"', b"{", b"[" * 100_000, b"\xff", b""]
        for document in bad:
            await one.deposit(document, to=wait.token)
        for document in bad:
            await one.deposit(document, run=run.id, name="approval")
        await fates(one, run.id, *["refused"] * 10)
        assert (await stands(one, run.id)).status == "suspended"
        await open_waits(one)
        await one.deposit('"yes"', to=wait)
        assert await run.result(10) == "x: yes"


async def test_a_deposit_comes_after_an_answer() -> None:
    """It is refused, and so is one for a question that is past; for a run that has ended it is an error."""
    desk = Desk("after x")
    async with runtime(MemoryStore(), desk) as one:
        run = await one.start(asks("x"), id="one")
        (wait,) = await open_waits(one)
        await one.answer(wait, "yes")
        await desk.at("after x").wait()
        await one.deposit(b'"no"', to=wait)
        await fates(one, "one", "used", "refused")
        desk.let("after x")
        assert await run.result(10) == "x: yes"
        with pytest.raises(UnknownRunError):
            await one.deposit(b'"no"', to=wait)
        with pytest.raises(UnknownRunError):
            await one.deposit(b'"no"', run="another", name="name")
        for lacking in ({}, {"run": "one"}, {"name": "name"}):
            with pytest.raises(DeclarationError):
                await one.deposit(b'"no"', **lacking)


async def test_an_accepted_answer_comes_before_a_deposit() -> None:
    """Where the deposit came first, but was not written yet, it is told so."""
    store, desk = MemoryStore(), Desk()
    line = Line(store)
    async with runtime(line, desk) as one:
        run = await one.start(asks("x"), id="one")
        (wait,) = await open_waits(one)

        async def answer(name: str, args: tuple[Any, ...]) -> None:
            if name == "append" and args[0].closes:
                line.before = _nothing
                given = NewAnswer("one", wait.id, wait.digest, b'"yes"', "anna", 0)
                assert await store.answer(given) == "accepted"

        line.before = answer
        await one.deposit(b'"no"', to=wait)
        assert await run.result(10) == "x: yes"
        assert [sent.state for sent in await one.messages("one")] == ["refused", "used"]
    assert desk.times == {"before x": 1, "after x": 1}


async def _nothing(_name: str, _args: tuple[Any, ...]) -> None:
    pass
