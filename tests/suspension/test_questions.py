"""7.1 to 7.3: questions, answers, and which answer settles which question."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import jsonschema
import msgspec
import pytest
from msgspec import Raw, Struct
from pydantic import BaseModel

from skuld_async import (
    AlreadyAnsweredError,
    AnswerError,
    Effectful,
    InvalidAnswerError,
    Log,
    NotWaitingError,
    OtherQuestionError,
    Return,
    Yield,
    computation,
    mark_loop,
    open_session,
    resume,
    start,
)

from .parts import Approval, Comment, Desk, approval, completed, states, stored, suspended


class Travel(Struct, frozen=True):
    day: date
    budget: Decimal


class WhenAndHowMuch(Yield[list[Travel]], frozen=True):
    city: str


@computation
async def asks(*questions: Any) -> Effectful[list[Any]]:
    answers: list[Any] = []
    for question in questions:
        answers.append((yield question))  # noqa: PERF401 - a comprehension cannot yield
    yield Return(answers)


@computation
async def travels() -> Effectful[tuple[date, Decimal]]:
    plans = yield WhenAndHowMuch("Oslo")
    yield Return((plans[-1].day, plans[-1].budget))


@computation
async def two_questions() -> Effectful[list[str]]:
    first = yield Approval("lamp")
    second = yield Approval("desk")
    yield Return([first, second])


@computation
async def same_question_twice() -> Effectful[list[str]]:
    first = yield Approval("lamp")
    second = yield Approval("lamp")
    yield Return([first, second])


@computation
async def turns() -> Effectful[int]:
    total = 0
    while True:
        total = yield mark_loop("turn", int, carry=total)
        decision = yield Approval("lamp")
        if decision == "rejected":
            yield Return(total)
            return
        total += 1


async def test_an_answer_arrives_as_the_type_that_its_question_declares() -> None:
    """7.1 A question declares the type of its answer: plain data from outside arrives as that type, nested ones too."""
    log = suspended(await start(travels())).log
    outcome = await resume(travels(), stored(log), answer=[{"day": "2030-01-02", "budget": "9.50"}])
    assert completed(outcome).value == (date(2030, 1, 2), Decimal("9.50"))

    outcome = await resume(travels(), stored(log), answer=[Travel(date(2030, 1, 2), Decimal("9.50"))])
    assert completed(outcome).value == (date(2030, 1, 2), Decimal("9.50"))


async def test_the_wait_holds_the_json_schema_of_its_answer() -> None:
    """7.1 The answer's JSON Schema is stored with the wait, so that a form, a bot or another language can answer."""
    [wait] = stored(suspended(await start(two_questions())).log).waits
    assert msgspec.json.decode(wait.schema) == {"enum": ["approved", "rejected"]}
    assert msgspec.json.decode(wait.question) == {"purchase": "lamp"}

    [wait] = stored(suspended(await start(travels())).log).waits
    schema: dict[str, Any] = msgspec.json.decode(wait.schema)
    assert schema["type"] == "array"
    assert schema["$defs"]["Travel"]["required"] == ["day", "budget"]


async def test_the_schema_is_gone_once_there_is_an_answer() -> None:
    """7.1 A wait that is settled keeps its digest, not its schema."""
    log = suspended(await start(two_questions())).log
    log = suspended(await resume(two_questions(), log, answer="approved")).log
    assert b'"schema"' in log.to_json()
    log = completed(await resume(two_questions(), log, answer="approved")).log
    assert b'"schema"' not in log.to_json()


async def test_a_named_question_is_found_by_its_name() -> None:
    """7.1 `question.named(...)` is an option of the wait, no field: question, digest and match are the same."""
    plain = suspended(await start(asks(Approval("lamp"))))
    named = suspended(await start(asks(Approval("lamp").named("approval"))))
    assert plain.wait is not None
    assert named.wait is not None
    assert plain.wait.name is None
    assert stored(named.log).waits[0].name == "approval"
    assert named.wait.digest == plain.wait.digest
    assert named.wait.question == plain.wait.question
    assert Approval("lamp").named("approval") == Approval("lamp")

    assert Approval.__struct_fields__ == ("purchase",)
    assert Yield.__struct_fields__ == ()
    completed(await resume(asks(Approval("lamp").named("approval")), named.log, answer="approved"))


async def test_naming_makes_a_copy() -> None:
    """7.1 The question that was named stays without a name."""
    question = Approval("lamp")
    question.named("approval")
    [wait] = suspended(await start(asks(question))).log.waits
    assert wait.name is None


@pytest.mark.parametrize("answer", [None, 7, "text", ["a", {"b": 1.5}], {}])
async def test_yield_of_takes_any_answer(answer: object) -> None:
    """7.1 `yield Yield.of(value)` is the untyped form: any JSON value answers it."""
    first = suspended(await start(asks(Yield.of({"please": "help"}))))
    assert first.question == Yield.of({"please": "help"})
    [wait] = first.log.waits
    assert wait.sig == "Yield.of"
    assert msgspec.json.decode(wait.schema) == {}
    assert msgspec.json.decode(wait.question) == {"value": {"please": "help"}}
    outcome = completed(await resume(asks(Yield.of({"please": "help"})), stored(first.log), answer=answer))
    assert outcome.value == [answer]


async def test_none_is_an_answer() -> None:
    """7.1 Where the question's type allows it, `answer=None` is an answer, and leaving it out is none."""
    log = suspended(await start(asks(Comment("lamp")))).log
    assert suspended(await resume(asks(Comment("lamp")), log)).log.waits
    assert completed(await resume(asks(Comment("lamp")), log, answer=None)).value == [None]


BAD: list[tuple[Any, Any, str]] = [
    (Approval("lamp"), "maybe", "Invalid enum value 'maybe'"),
    (Approval("lamp"), None, "Expected"),
    (Approval("lamp"), object(), "not supported"),
    (WhenAndHowMuch("Oslo"), [{"day": "2030-01-02", "budget": "much"}], r"`\$\[0\]\.budget`"),
    (WhenAndHowMuch("Oslo"), [{"day": "2030-01-02"}], r"`\$\[0\]`"),
    (Yield.of(1), float("nan"), r"nan - at `\$`"),
    (Comment("lamp"), "\ud800", "surrogates"),
]
BAD_IDS = ["enum", "none", "unencodable", "nested", "missing-field", "nan", "surrogate"]


@pytest.mark.parametrize(("question", "answer", "problem"), BAD, ids=BAD_IDS)
async def test_a_bad_answer_is_refused_and_the_wait_stays_open(question: Any, answer: Any, problem: str) -> None:
    """7.2 An answer is decoded before it is consumed: a bad one is refused with the path, the log stays as it was."""
    log = suspended(await start(asks(question))).log
    before = log.to_json()
    with pytest.raises(InvalidAnswerError, match=problem) as caught:
        await resume(asks(question), log, answer=answer)
    assert log.to_json() == before
    assert caught.value.log.to_json() == before
    assert "The wait stays open" in str(caught.value)
    assert caught.value.entry == log.waits[0].id
    assert suspended(await resume(asks(question), caught.value.log)).log.to_json() == before


@pytest.mark.parametrize(("question", "answer", "problem"), BAD, ids=BAD_IDS)
async def test_a_bad_answer_is_refused_in_a_hot_session_too(question: Any, answer: Any, problem: str) -> None:
    """7.2 The same in a hot session: an ordinary error for the caller, and the strand goes on waiting."""
    async with open_session(asks(question)) as session:
        await session.outcome()
        before = session.log.to_json()
        with pytest.raises(InvalidAnswerError, match=problem):
            await session.answer(answer)
        assert session.log.to_json() == before
        assert suspended(await session.outcome()).question == question


async def test_a_hot_session_takes_a_good_answer_after_a_bad_one() -> None:
    """7.2 A bad answer consumes nothing."""
    async with open_session(two_questions()) as session:
        await session.outcome()
        with pytest.raises(InvalidAnswerError):
            await session.answer("maybe")
        await session.answer("approved")
        assert suspended(await session.outcome()).question == Approval("desk")


async def test_nothing_is_performed_for_the_sake_of_a_bad_answer() -> None:
    """7.2 What stands before the question is answered from the log, and nothing behind it is reached."""
    desk = Desk()
    log = suspended(await start(approval("lamp"), *desk.handlers)).log
    with pytest.raises(InvalidAnswerError):
        await resume(approval("lamp"), log, *desk.handlers, answer="perhaps")
    assert desk.arrived == ["validate lamp"]


async def test_an_answer_is_addressed_to_its_wait() -> None:
    """7.3 `to=` takes the wait or its `ref`, as another process would have kept it."""
    outcome = suspended(await start(two_questions()))
    [wait] = stored(outcome.log).waits
    second = suspended(await resume(two_questions(), outcome.log, answer="approved", to=wait))
    assert suspended(await resume(two_questions(), outcome.log, answer="approved", to=wait.ref)).wait == second.wait
    assert second.wait is not None
    assert wait.ref == f"{outcome.log.header.run}/{wait.id}={wait.digest}"
    assert completed(await resume(two_questions(), second.log, answer="rejected", to=second.wait.ref)).value == [
        "approved",
        "rejected",
    ]


async def test_an_answer_for_another_question_is_refused() -> None:
    """7.3 The wait carries a digest of its question, and an answer is bound to it."""
    first = suspended(await start(two_questions()))
    other = suspended(await start(asks(Approval("chair"))))
    before = first.log.to_json()
    assert other.wait is not None
    for address in (other.wait, other.wait.ref, "0/1=0123456789abcdef", "0/1", ""):
        with pytest.raises(OtherQuestionError, match="Show the open question again"):
            await resume(two_questions(), first.log, answer="approved", to=address)
        assert first.log.to_json() == before


async def test_a_changed_question_takes_no_old_answer() -> None:
    """7.3 Where today's code asks something else at that place, the answer is not given to it."""

    @computation(name="shop:buy")
    async def buys() -> Effectful[str]:
        decision = yield Approval("lamp")
        yield Return(decision)

    @computation(name="shop:buy")
    async def buys_more() -> Effectful[str]:
        decision = yield Approval("a thousand lamps")
        yield Return(decision)

    log = suspended(await start(buys())).log
    before = log.to_json()
    with pytest.raises(OtherQuestionError):
        await resume(buys_more(), log, answer="approved", allow_divergence=True)
    assert log.to_json() == before
    assert suspended(await resume(buys_more(), log, allow_divergence=True)).question == Approval("a thousand lamps")


async def test_a_second_answer_is_refused() -> None:
    """7.3 A question that has its answer takes no second one, neither the same nor another."""
    first = suspended(await start(two_questions()))
    second = suspended(await resume(two_questions(), first.log, answer="approved", to=first.wait))
    ended = completed(await resume(two_questions(), second.log, answer="approved", to=second.wait))
    assert first.wait is not None
    for log in (second.log, ended.log):
        before = log.to_json()
        for address in (first.wait, first.wait.ref):
            for answer in ("approved", "rejected"):
                with pytest.raises(AlreadyAnsweredError, match="that answer stands"):
                    await resume(two_questions(), log, answer=answer, to=address)
        assert log.to_json() == before


async def test_the_same_question_asked_again_is_another_wait() -> None:
    """7.3 Equal questions have equal digests; the entry tells them apart."""
    first = suspended(await start(same_question_twice()))
    second = suspended(await resume(same_question_twice(), first.log, answer="approved", to=first.wait))
    assert first.wait is not None
    assert second.wait is not None
    assert first.wait.digest == second.wait.digest
    with pytest.raises(AlreadyAnsweredError):
        await resume(same_question_twice(), second.log, answer="rejected", to=first.wait)
    ended = completed(await resume(same_question_twice(), second.log, answer="rejected", to=second.wait))
    assert ended.value == ["approved", "rejected"]


async def test_a_second_answer_is_refused_after_its_question_was_pruned() -> None:
    """6.10 Settled answers' digests outlive pruning: the last 16."""
    outcome = suspended(await start(turns()))
    old = outcome.wait
    for _ in range(15):
        outcome = suspended(await resume(turns(), stored(outcome.log), answer="approved", to=outcome.wait))
    last = await resume(turns(), stored(outcome.log), answer="approved", to=outcome.wait)
    log = suspended(last).log
    assert old is not None
    assert old.id not in [entry.id for entry in log.entries]
    assert len(log.header.settled) == 16
    with pytest.raises(AlreadyAnsweredError):
        await resume(turns(), log, answer="rejected", to=old)

    outcome = suspended(await resume(turns(), log, answer="approved"))
    with pytest.raises(OtherQuestionError):
        await resume(turns(), outcome.log, answer="rejected", to=old)
    assert completed(await resume(turns(), outcome.log, answer="rejected")).value == 17


@pytest.mark.parametrize("to", [None, "0/1=0123456789abcdef"])
async def test_an_answer_for_a_log_that_waits_for_nothing_is_refused(to: str | None) -> None:
    """7.3 A run that has ended, or that was stopped on its way, takes no answer."""
    desk = Desk()
    log = suspended(await start(approval("lamp"), *desk.handlers)).log
    ended = completed(await resume(approval("lamp"), log, *desk.handlers, answer="rejected")).log
    stopped = Log.from_json(log.to_json())
    del stopped.entries[1]
    stopped.header.status = "running"
    for one in (ended, stopped):
        before = one.to_json()
        with pytest.raises(NotWaitingError, match=one.header.status) as caught:
            await resume(approval("lamp"), one, *desk.handlers, answer="approved", to=to)
        assert one.to_json() == before
        assert caught.value.log is one
    assert desk.arrived == ["validate lamp"]


async def test_addresses_are_checked_in_a_hot_session_too() -> None:
    """7.3 The same errors from `session.answer`, and the strand goes on waiting."""
    async with open_session(two_questions()) as session:
        first = suspended(await session.outcome())
        with pytest.raises(OtherQuestionError):
            await session.answer("approved", to="0/7=0123456789abcdef")
        await session.answer("approved", to=first.wait)
        with pytest.raises(AlreadyAnsweredError):
            await session.answer("approved", to=first.wait)
        second = suspended(await session.outcome())
        with pytest.raises(AlreadyAnsweredError):
            await session.answer("rejected", to=first.wait)
        await session.answer("rejected", to=second.wait)
        assert completed(await session.outcome()).value == ["approved", "rejected"]
        with pytest.raises(AlreadyAnsweredError):
            await session.answer("rejected", to=second.wait)
        with pytest.raises(NotWaitingError):
            await session.answer("rejected")


async def test_all_refusals_of_an_answer_have_one_base() -> None:
    """7.2 `except AnswerError` is what a web app needs around an answer."""
    for kind in (InvalidAnswerError, NotWaitingError, OtherQuestionError, AlreadyAnsweredError):
        assert issubclass(kind, AnswerError)


async def test_a_hand_edited_answer_is_honoured() -> None:
    """6.12 A value that was edited in the JSON of the log is what the body sees; one that does not fit is refused."""

    @computation(name="shop:one")
    async def one() -> Effectful[Literal["approved", "rejected"]]:
        decision = yield Approval("lamp")
        yield Comment(decision)
        yield Return(decision)

    log = suspended(await start(one())).log
    log = suspended(await resume(one(), log, answer="approved")).log
    log.entries[0].value = Raw(b'"rejected"')
    log.entries[1].data = Raw(b'{"about":"rejected"}')
    assert completed(await resume(one(), stored(log), answer="fine")).value == "rejected"
    assert states(log) == [("0/1", "executed"), ("0/2", "started")]


class Verdict(Struct, frozen=True):
    by: str
    comment: str = ""


class Terse(Struct, frozen=True, omit_defaults=True):
    by: str
    comment: str = ""


@dataclass(frozen=True)
class Note:
    by: str
    tags: list[str] = field(default_factory=list[str])


class Form(BaseModel):
    by: str
    comment: str = ""


JUNE = datetime(2026, 6, 1, tzinfo=UTC)
KEY = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
SENT: list[tuple[Any, Any, Any]] = [
    (Verdict, {"by": "tom"}, Verdict("tom")),
    (Verdict, {"comment": "", "by": "tom"}, Verdict("tom")),
    (list[Verdict], [{"by": "tom"}], [Verdict("tom")]),
    (Verdict | None, {"by": "tom"}, Verdict("tom")),
    (Terse, {"by": "tom", "comment": ""}, Terse("tom")),
    (Note, {"by": "tom"}, Note("tom")),
    (Form, {"by": "tom"}, Form(by="tom")),
    (datetime, "2026-06-01T00:00:00.000Z", JUNE),
    (datetime, "2026-06-01T00:00:00+00:00", JUNE),
    (UUID, str(KEY).upper(), KEY),
    (Decimal, "15E-1", Decimal("15E-1")),
    (float, 1, 1.0),
]


@computation
async def told(question: Any) -> Effectful[str]:
    yield Return(repr((yield question)))


@pytest.mark.parametrize(("kind", "sent", "taken"), SENT, ids=lambda value: str(value)[:40])
async def test_an_answer_may_leave_out_defaults_and_be_spelled_otherwise(kind: Any, sent: Any, taken: Any) -> None:
    """7.2 An answer that the JSON Schema of the wait allows is taken; the log holds it as the type writes it."""

    class Asked(Yield[kind], frozen=True):
        pass

    log = suspended(await start(told(Asked()))).log
    jsonschema.validate(sent, msgspec.json.decode(log.waits[0].schema))
    ended = completed(await resume(told(Asked()), stored(log), answer=sent))
    assert ended.value == repr(taken)
    assert completed(await resume(told(Asked()), stored(ended.log))).value == repr(taken)
    spelled = completed(await resume(told(Asked()), stored(log), answer=taken)).log.entries[0].value
    assert msgspec.json.decode(ended.log.entries[0].value) == msgspec.json.decode(spelled)


UNKNOWN: list[tuple[Any, Any, str]] = [
    (Verdict, {"by": "tom", "coment": "?"}, r"\$\.coment"),
    (list[Verdict], [{"by": "tom"}, {"by": "tom", "junk": []}], r"\$\[1\]\.junk"),
    (Terse, {"by": "tom", "comment": "", "junk": None}, r"\$\.junk"),
    (Note, {"by": "tom", "junk": [[[]]]}, r"\$\.junk"),
    (Form, {"by": "tom", "junk": 1}, r"\$\.junk"),
]


@pytest.mark.parametrize(("kind", "sent", "path"), UNKNOWN)
async def test_what_the_type_does_not_know_is_refused(kind: Any, sent: Any, path: str) -> None:
    """7.2 A field that would be lost is refused, with its path, and the wait stays open."""

    class Asked(Yield[kind], frozen=True):
        pass

    log = suspended(await start(asks(Asked()))).log
    with pytest.raises(InvalidAnswerError, match=f"`{path}` would be lost: .* declares no such field"):
        await resume(asks(Asked()), log, answer=sent)


async def test_an_answer_to_the_same_question_of_another_run_is_refused() -> None:
    """7.3 A ref names the run as well: runs that ask the same at the same place are told apart."""
    first = suspended(await start(two_questions(), id="first"))
    second = suspended(await start(two_questions(), id="second"))
    assert first.wait is not None
    assert second.wait is not None
    assert first.wait.digest == second.wait.digest
    with pytest.raises(OtherQuestionError):
        await resume(two_questions(), second.log, answer="approved", to=first.wait.ref)
    suspended(await resume(two_questions(), second.log, answer="approved", to=second.wait.ref))
