"""Answers: checked before they are consumed, taken once, and given by whoever holds the address of a question."""

import base64
import uuid
from collections.abc import Callable
from datetime import timedelta

import anyio
import msgspec
import pytest

from skuld_async import (
    AlreadyAnsweredError,
    AnswerError,
    Effectful,
    InvalidAnswerError,
    NotWaitingError,
    Parallel,
    Return,
    Yield,
    computation,
    mark_loop,
)
from skuld_async.contrib.itsdangerous import SignedTokens
from skuld_async.durable import BadTokenError, UnknownQuestionError, UnknownWaitError
from skuld_async.durable.store import Store
from skuld_async.stores.memory import MemoryStore

from .parts import (
    PATIENCE,
    Approval,
    Comment,
    Cut,
    Desk,
    Line,
    Office,
    asks,
    asks_named,
    comment,
    dying,
    open_waits,
    plain,
    runtime,
    side_by_side,
    stands,
    stored,
)

Connect = Callable[[], Store]


class Form(msgspec.Struct, frozen=True):
    name: str
    age: int = 0


class Details(Yield[Form | None], frozen=True):
    about: str


@computation
async def details(about: str) -> Effectful[Form | None]:
    yield Return((yield Details(about)))


@computation
async def decides(what: str) -> Effectful[str]:
    """A question against a call."""
    won = yield Parallel.race(decided=comment("race"), done=plain(what))
    yield Return(f"{won.name}: {won.value}")


MORE = [plain, asks, asks_named, comment, side_by_side, details, decides]


async def test_an_answer_is_a_value_or_a_document(connect: Connect) -> None:
    """Both come to the body as the type that the question declares, whether the run is in memory or not."""
    for idle in (0, 10):
        async with runtime(connect(), workflows=MORE, idle=idle) as one:
            for number, given in enumerate([Form("a", 1), None, b'{"name":"b"}', '{"name":"c","age":3}', b"null"]):
                run = await one.start(details("x"), id=f"{idle} {number}")
                (wait,) = await open_waits(one, run.id)
                if isinstance(given, bytes | str):
                    accepted = await one.answer_json(wait.token, given, by="anna")
                else:
                    accepted = await one.answer(wait, given, by="anna")
                assert (accepted.run, accepted.wait, accepted.by, accepted.repeated) == (run.id, wait.id, "anna", False)
                assert await run.result(10) == [Form("a", 1), None, Form("b"), Form("c", 3), None][number]


async def test_a_refused_answer_leaves_the_question_open(connect: Connect) -> None:
    """What does not fit, is no JSON, or cannot be kept, is refused with the place of the error; nothing is consumed."""
    async with runtime(connect(), workflows=MORE) as one:
        run = await one.start(details("x"))
        (wait,) = await open_waits(one)
        for document in (b"", b"{", b"[]", b'{"name":1}', b'{"name":"a","age":"b"}', b"[" * 100_000, b"\xff", "\ud800"):
            with pytest.raises(InvalidAnswerError):
                await one.answer_json(wait.token, document)
        for value in ("a", Form("\ud800"), {"name": 1}, float("nan"), object()):
            with pytest.raises(InvalidAnswerError):
                await one.answer(wait.token, value)
        with pytest.raises(InvalidAnswerError, match=r"age"):
            await one.answer_json(wait.token, b'{"name":"a","age":"b"}')
        assert list(await one.messages(run.id)) == []
        assert await one.wait(wait.token) is not None
        await one.answer(wait.token, Form("b"))
        assert await run.result(10) == Form("b")


async def test_an_answer_is_taken_once(connect: Connect) -> None:
    """The same answer again is the one that was given; another one is a conflict, then and when the run has ended."""
    async with runtime(connect(), idle=0) as one:
        run = await one.start(asks("x"))
        (wait,) = await open_waits(one)
        assert not (await one.answer(wait.token, "yes", by="anna")).repeated
        for _ in range(2):
            assert (await one.answer_json(wait.token, b' "yes"', by="bob")).repeated
            assert (await one.answer(wait, "yes")).repeated
            with pytest.raises(AlreadyAnsweredError):
                await one.answer(wait.token, "no", by="bob")
            assert await run.result(10) == "x: yes"
        assert [(sent.by, sent.body, sent.state) for sent in await one.messages(run.id)] == [("anna", '"yes"', "used")]
        assert await one.wait(wait.token) is None


async def test_of_many_answers_one_is_taken(connect: Connect) -> None:
    """Twenty different ones at the same time, by two workers: one is accepted, the others are conflicts."""
    async with runtime(connect(), workflows=MORE) as one, runtime(connect(), workflows=MORE) as two:
        run = await one.start(comment("x"))
        (wait,) = await open_waits(one)
        accepted, refused = list[str](), list[str]()

        async def give(number: int) -> None:
            try:
                await (one if number % 2 else two).answer(wait.token, f"{number}")
            except AlreadyAnsweredError:
                refused.append(f"{number}")
            else:
                accepted.append(f"{number}")

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(give, number)
        assert len(accepted) == 1
        assert len(refused) == 19
        assert await run.result(10) == f"X {accepted[0]}".upper()


async def test_another_worker_may_answer(connect: Connect) -> None:
    """The one that has the run in memory hears of it, and goes on."""
    desk = Desk()
    async with runtime(connect(), desk, idle=60) as one, runtime(connect(), idle=60) as two:
        run = await one.start(asks("x"))
        await stands(one, run.id)
        (wait,) = await open_waits(two)
        await two.answer(wait.token, "no")
        assert await two.get(run.id).result(10) == "x: no"
    assert desk.done == ["before x", "after x"]  # all in the memory of the first


async def test_questions_are_answered_in_any_order(connect: Connect) -> None:
    """A question is open while its siblings are at a call; each answer lets its own branch go on at once."""
    desk = Desk("slow")
    async with runtime(connect(), desk, workflows=MORE) as one:
        run = await one.start(side_by_side(["a", "b", "c"], ["slow"]))
        await desk.at("slow").wait()
        waits = {bytes(wait.question): wait for wait in await open_waits(one, count=3)}
        assert (await run.view()).status == "running"
        for about in "cab":
            await one.answer(waits[b'{"about":"%s"}' % about.encode()], "said")
            with anyio.fail_after(PATIENCE):
                await desk.at(f"{about} said").wait()
        assert (await one.waits()).items == []
        desk.let("slow")
        assert await run.result(10) == ["A SAID", "B SAID", "C SAID", "SLOW"]
    assert desk.done == ["slow", "c said", "a said", "b said"]


async def test_answers_come_before_and_after_a_restart(connect: Connect) -> None:
    """Of three questions one is answered before the worker dies, one while there is none, one after."""
    desk, store = Desk("slow"), connect()
    line = Line(store)
    async with dying(line, desk, workflows=MORE) as one:
        await one.start(side_by_side(["a", "b", "c"], ["slow"]), id="one")
        waits = {bytes(wait.question): wait for wait in await open_waits(one, count=3)}
        await one.answer(waits[b'{"about":"a"}'], "first")
        await desk.at("a first").wait()
    desk.let("slow")
    async with runtime(connect(), desk, workflows=MORE) as two:
        await two.answer(waits[b'{"about":"c"}'], "second")
        (wait,) = await open_waits(two)
        await two.answer(wait, "third")
        assert await two.get("one").result(10) == ["A FIRST", "B THIRD", "C SECOND", "SLOW"]
        assert {message.state for message in await two.messages("one")} == {"used"}
    assert desk.times["b third"] == desk.times["c second"] == 1


async def test_a_token_leads_to_one_question() -> None:
    """Nothing else is accepted for one: no other text, no question that was asked otherwise, no run that is gone."""
    store = MemoryStore()
    async with runtime(store, workflows=MORE) as one:
        run = await one.start(comment("x"), id='odd "id"/\N{SNAKE}')
        (wait,) = await open_waits(one)

        def token(document: bytes) -> str:
            return base64.urlsafe_b64encode(document).decode().rstrip("=")

        for bad in ("", "abc", wait.token[:-2], wait.token + "A", token(b"{}"), token(b'["a","b"]'), token(b"[")):
            with pytest.raises(BadTokenError):
                await one.answer(bad, "said")
            with pytest.raises(BadTokenError):
                await one.wait(bad)
        for ref in ([run.id, wait.id, "0" * 16], [run.id, "0/9", wait.digest], ["another", wait.id, wait.digest]):
            with pytest.raises(UnknownWaitError):
                await one.answer_json(token(msgspec.json.encode(ref)), b'"said"')
        found = await one.wait(wait.token)
        assert found == wait
        await one.answer(wait.token, "said")
        assert await run.result(10) == "X SAID"


async def test_signed_tokens_are_those_of_the_runtime() -> None:
    """Another secret, or none, gives no token; the view of a question holds a signed one."""
    store = MemoryStore()
    async with (
        runtime(store, tokens=SignedTokens("secret" * 8)) as one,
        runtime(store, tokens=SignedTokens("other!" * 8)) as two,
        runtime(store) as three,
    ):
        run = await one.start(asks("x"))
        (wait,) = await open_waits(one)
        for other in (two, three):
            (same,) = await open_waits(other)
            assert same.token != wait.token
            with pytest.raises(BadTokenError):
                await one.answer(same.token, "yes")
            with pytest.raises(BadTokenError):
                await other.answer(wait.token, "yes")
        await two.answer(wait, "yes")  # a view is no token: whoever holds it was let in
        assert await run.result(10) == "x: yes"


async def test_the_inbox_shows_what_a_form_needs(connect: Connect) -> None:
    """Fields, both schemas, name, assignee, deadline, run, workflow and tags; as JSON too."""
    async with runtime(connect()) as one:
        await one.start(asks_named("x"), id="one", tags=["a", "b"])
        (wait,) = await open_waits(one)
        assert (wait.run, wait.workflow, wait.name, wait.assignee) == ("one", asks_named.name, "approval", "anna")
        assert (wait.tags, wait.sig, wait.deadline) == (("a", "b"), Approval.__sig__, None)
        shown = msgspec.json.decode(wait.to_json())
        assert shown["question"] == {"about": "x"}
        assert shown["answer_schema"] == {"enum": ["no", "yes"]}
        assert shown["question_schema"]["$defs"]["Approval"]["required"] == ["about"]


async def test_the_inbox_is_filtered_and_paged(connect: Connect) -> None:
    """By run, workflow, tag, assignee, name and age, the oldest first, in pages that neither skip nor repeat."""
    async with runtime(connect(), workflows=MORE, idle=0) as one:
        for number in range(9):
            comp = asks_named(f"{number}") if number % 3 == 0 else asks(f"{number}")
            await one.start(comp, id=f"run {number}", tags=[f"tag {number % 2}"])
            await stands(one, f"run {number}")
        whole = [wait.run for wait in (await one.waits()).items]
        assert whole == [f"run {number}" for number in range(9)]
        paged, after = list[str](), None
        while True:
            page = await one.waits(after=after, limit=2)
            paged += [wait.run for wait in page.items]
            if page.next is None:
                break
            after = page.next
        assert paged == whole

        async def found(**only: str | timedelta) -> list[str]:
            return [wait.run[-1:] for wait in (await one.waits(**only)).items]  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

        assert await found(run="run 4") == ["4"]
        assert await found(workflow=asks_named.name) == await found(assignee="anna") == ["0", "3", "6"]
        assert await found(name="approval", tag="tag 0") == ["0", "6"]
        assert await found(tag="tag 1") == ["1", "3", "5", "7"]
        assert await found(assignee="bob") == await found(name="other") == []
        assert await found(older_than=timedelta(hours=1)) == []
        assert len(await found(older_than=timedelta(hours=-1))) == 9
        await one.answer((await one.waits(run="run 4")).items[0], "yes")
        assert len(await found()) == 8


async def test_an_answer_comes_too_late() -> None:
    """Once its question was given up, by a race that is over or by a cancel, it is refused."""
    desk = Desk("b")
    async with runtime(MemoryStore(), desk, workflows=MORE) as one:
        run = await one.start(decides("b"))
        (wait,) = await open_waits(one)
        desk.let("b")
        assert await run.result(10) == "done: B"
        other = await one.start(asks("x"))
        (cancelled,) = await open_waits(one, other.id)
        await other.cancel()
        assert (await stands(one, other.id)).status == "cancelled"
        with pytest.raises(NotWaitingError):
            await one.answer(cancelled, "yes")
        with pytest.raises(AnswerError):
            await one.answer(wait, "said")


async def test_a_process_that_does_not_know_the_question_cannot_answer() -> None:
    """It has neither the class nor a schema of the question, and may only leave the answer to those who do."""
    name = f"tests:Local-{uuid.uuid4()}"  # the class of an earlier run of this test may still be there

    class Local(Yield[int], frozen=True):
        __sig__ = name
        number: int

    @computation
    async def local() -> Effectful[int]:
        yield Return((yield Local(1)))

    store = MemoryStore()
    async with runtime(store, workflows=[local], idle=0) as one:
        run = await one.start(local())
        (wait,) = await open_waits(one)
        Local.__sig__ = "tests:Another"  # as in a process that never imported it
        (shown,) = await open_waits(one)
        assert b"question_schema" not in shown.to_json()
        with pytest.raises(UnknownQuestionError, match="deposit"):
            await one.answer(wait.token, 1)
        Local.__sig__ = name
        await one.deposit(b"7", to=wait.token)
        assert await run.result(10) == 7


async def test_an_accepted_answer_outlives_its_worker() -> None:
    """It is in the store before the one who gave it hears so: whoever comes next goes on with it."""
    store, desk = MemoryStore(), Desk()
    line = Line(store)
    async with dying(line, desk, idle=60) as one:
        await one.start(asks("x"), id="one")
        (wait,) = await open_waits(one)

        async def cut(name: str, _args: object) -> None:
            if name == "answer":
                line.cut.set()

        line.after = cut
        with pytest.raises(Cut):
            await one.answer(wait, "no")
    async with runtime(store, desk) as two:
        assert (await two.answer(wait, "no")).repeated
        assert await two.get("one").result(10) == "x: no"
    assert (await stored(store, "one")).recoveries == 0
    assert desk.times == {"before x": 1, "after x": 1}


@computation
async def conversation(turns: int, calls: bool) -> Effectful[list[str]]:
    said: list[str] = []
    while len(said) < turns:
        said = yield mark_loop("conversation", list[str], carry=said)
        answer = yield Comment(f"{len(said)}")
        said = [*said, (yield Office.do(answer)) if calls else answer]
    yield Return(said)


@pytest.mark.parametrize("calls", [False, True])
@pytest.mark.parametrize("idle", [0, 10])
async def test_answers_of_turns_that_are_pruned_were_used(connect: Connect, idle: float, calls: bool) -> None:
    """Where the loop has removed question and answer before anything was written, its run does not go back to it."""
    store = connect()
    async with runtime(store, workflows=[conversation], idle=idle) as one:
        run = await one.start(conversation(5, calls), id="one")
        for number in range(5):
            assert (await stands(one, "one")).status == "suspended"
            (wait,) = await open_waits(one)
            assert bytes(wait.question) == b'{"about":"%d"}' % number
            await one.answer(wait, "abcde"[number])
        assert await run.result(10) == list("ABCDE" if calls else "abcde")
        assert {sent.state for sent in await one.messages("one")} == {"used"}
