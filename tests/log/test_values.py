"""DESIGN 6.11: values round-trip, on the first run too; what would not is refused at that effect."""

import contextlib
import dataclasses
import enum
import pickle
import sys
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar

import attrs
import msgspec
import pydantic
import pytest

from skuld_async import (
    DeclarationError,
    DivergenceError,
    Effect,
    Effectful,
    EventAccumulator,
    Fresh,
    Log,
    Reader,
    ResultError,
    Return,
    State,
    UndecodableError,
    UnencodableError,
    Yield,
    bracket,
    computation,
    mark_loop,
    port,
    replay,
    resume,
    start,
)

from .shop import Approval, Charge, Comment, Placed, Refused, World, completed, ids, left, stored, suspended

T = TypeVar("T")


class Point(msgspec.Struct, frozen=True):
    x: int
    y: int = 0


class Box(msgspec.Struct, Generic[T], frozen=True):
    inside: T


@dataclasses.dataclass(frozen=True)
class Purchase:
    items: list[str]
    price: Decimal


@attrs.frozen
class Address:
    street: str
    number: int = 1


class Customer(pydantic.BaseModel):
    name: str
    born: date
    tags: set[str] = set()


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


class Pair(NamedTuple):
    left: int
    right: str


class Options(TypedDict):
    depth: int


VALUES: list[tuple[Any, Any]] = [
    (Point, Point(1, 2)),
    (Box[int], Box(3)),
    (Purchase, Purchase(["book"], Decimal("19.90"))),
    (Address, Address("Main", 7)),
    (Customer, Customer(name="Ann", born=date(2000, 1, 2), tags={"a", "b"})),
    (list[Customer], [Customer(name="Ann", born=date(2000, 1, 2))]),
    (Color, Color.BLUE),
    (Level, Level.LOW),
    (Pair, Pair(1, "two")),
    (Options, {"depth": 3}),
    (datetime, datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC)),
    (datetime, datetime(2024, 2, 29, tzinfo=timezone(timedelta(hours=-3, minutes=-30)))),
    (datetime, datetime(2024, 2, 29)),  # noqa: DTZ001 - a naive one stays naive
    (date, date(1, 1, 1)),
    (time, time(23, 59, 59)),
    (timedelta, timedelta(days=-3, microseconds=7)),
    (Decimal, Decimal("0.10")),
    (uuid.UUID, uuid.UUID(int=7)),
    (bytes, b"\x00\xff"),
    (set[str], {"a", "b", "c"}),
    (frozenset[int], frozenset([1, 2])),
    (tuple[int, str], (1, "two")),
    (tuple[int, ...], (1, 2, 3)),
    (dict[int, str], {2: "two", 1: "one"}),
    (dict[str, Point], {"b": Point(1), "a": Point(2)}),
    (Placed | Refused, Refused(3, "no")),
    (int, 2**80),
    (float, -0.1),
    (float, 1e300),
    (str, "Zwölf \x00 \U0001f40d"),
    (bool, False),
    (type(None), None),
    (int | None, None),
    (Literal["a", 1], 1),
    (Annotated[int, msgspec.Meta(ge=0)], 5),
    (list[list[int]], [[], [1]]),
]


@pytest.mark.parametrize(("kind", "value"), VALUES, ids=[f"{n}" for n in range(len(VALUES))])
async def test_values_round_trip_everywhere(kind: Any, value: Any) -> None:
    """6.11 msgspec structs, dataclasses, attrs, enums, datetime, Decimal, UUID, bytes, set, tuple, pydantic round-trip.

    As an argument, a result, state, an event, a recorded value, an answer, a carry, and the run's own result.
    """
    seen: list[Any] = []

    async def echo(argument: Any) -> Any:
        return argument

    class Question(Yield[kind], frozen=True):
        pass

    state, reader, event = State("s", kind), Reader("r", kind), EventAccumulator("e", kind)

    async def everything(argument: Any) -> Effectful[Any]:
        carried = yield mark_loop("loop", kind, carry=argument)
        result = yield call(argument)
        yield state.put(argument)
        stands = yield state.get()
        read = yield reader.ask()
        yield event.emit(argument)
        answer = yield Question()
        seen.append([carried, result, stands, read, answer])
        yield Return(argument)

    echo.__annotations__ = {"argument": kind, "return": kind}
    everything.__annotations__ = {"argument": kind, "return": Effectful[kind]}
    call, comp = port(echo), computation(everything)
    handlers = [call.default(), state.handler(value), reader.handler(value), event.handler()]

    log = suspended(await start(comp(value), *handlers)).log
    for _ in range(2):
        outcome = completed(await resume(comp(value), stored(log), *handlers, answer=value))
        assert seen[-1] == [value] * 5
        assert [type(one) for one in seen[-1]] == [type(value)] * 5
        assert outcome.value == value
        assert outcome.state(state) == value
        assert outcome.output(event) == [value]


class Loose(Effect[list[int]], frozen=True):
    pass


class Ask(Yield[list[int]], frozen=True):
    pass


async def test_the_first_run_sees_what_a_replay_sees() -> None:
    """6.11 External and recorded results, answers and carries are `decode(encode(v), T)` on the first run too."""
    seen: list[Any] = []
    loose: Any = (1, 2)
    ints = Reader("ints", list[int])

    @computation
    async def takes() -> Effectful[list[int]]:
        seen.append((yield mark_loop("loop", list[int], carry=loose)))
        seen.append((yield Loose()))
        seen.append((yield ints.ask()))
        seen.append((yield Ask()))
        yield Comment()
        yield Return(loose)

    handlers = [Loose.handled_by(lambda _: loose), ints.handler(loose)]
    log = suspended(await start(takes(), *handlers)).log
    log = suspended(await resume(takes(), log, *handlers, answer=loose)).log
    outcome = completed(await resume(takes(), stored(log), *handlers, answer="on"))

    assert seen == [[1, 2]] * (3 + 4 + 4)
    assert outcome.value == [1, 2]


class Animal(msgspec.Struct, frozen=True):
    name: str


class Dog(Animal, frozen=True):
    tricks: list[str] = []


class Keep(Effect[Any], frozen=True):
    animal: Animal


class Measure(Effect[float], frozen=True):
    value: float = 0.0
    text: str = ""
    anything: Any = None


no_number: Any = "text"


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("effect", "problem"),
    [
        (Measure(float("nan")), "JSON has no nan - at `$.value`"),
        (Measure(anything=[1, {"a": float("inf")}]), "JSON has no inf - at `$.anything[1].a`"),
        (Measure(text="\ud800"), "surrogates not allowed"),
        (Measure(anything=object()), "objects of type object are not supported"),
        (Measure(anything={1: lambda: 1}), "objects of type function are not supported"),
        (Measure(value=no_number), "Expected `float`, got `str`"),
        (Measure(anything=deep(100_000)), "recursion"),
        (Keep(Dog("Rex", ["sit"])), "`$.animal.tricks` would be lost"),
    ],
    ids=["nan", "inside", "surrogate", "object", "function", "type", "deep", "subclass"],
)
async def test_an_argument_that_would_not_come_back_is_refused_before_the_call(
    effect: Effect[Any], problem: str
) -> None:
    """6.11 What would not come back is refused **at that effect**, with the path.

    NaN, lone surrogates, subclasses that would lose fields, the unencodable.
    """
    calls: list[Effect[Any]] = []

    def called(effect: Effect[Any]) -> float:
        calls.append(effect)
        return 0.0

    @computation
    async def asks() -> Effectful[None]:
        yield Charge(1)
        with contextlib.suppress(Exception):  # a body that swallows all errors
            yield effect
        yield Charge(2)
        yield Return(None)

    world = World()
    with pytest.raises(UnencodableError) as caught:
        await start(asks(), *world.handlers, Measure.handled_by(called), Keep.handled_by(called))

    assert problem in caught.value.problem
    assert f"{__file__}:" in caught.value.line
    assert calls == []
    assert world.calls == ["charge 1"]
    assert ids(left(caught.value)) == ["0/1"]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (float("nan"), "JSON has no nan - at `$`"),
        ("text", "Expected `float`, got `str`"),
        (object(), "objects of type object are not supported"),
        (None, "Expected `float`, got `null`"),
    ],
    ids=["nan", "text", "object", "none"],
)
async def test_a_result_that_would_not_come_back_settles_its_call(value: Any, problem: str) -> None:
    """6.11 The result of a call already made settles its entry as `discarded`; `ResultError` is raised at that line."""
    calls: list[Any] = []
    seen: list[str] = []

    def measure(effect: Measure) -> float:
        calls.append(effect)
        result: float = value
        return result

    async def measure_slowly(effect: Measure) -> float:
        return measure(effect)

    @computation
    async def asks() -> Effectful[None]:
        try:
            yield Measure()
        except ResultError as error:
            seen.append(error.problem)
        yield Approval()
        yield Return(None)

    for handler in (Measure.handled_by(measure), Measure.handled_by(measure_slowly)):
        seen.clear()
        calls.clear()
        log = suspended(await start(asks(), handler)).log
        completed(await resume(asks(), stored(log), handler, answer="yes"))
        assert seen == [problem] * 2
        assert len(calls) == 1
        assert [entry.state for entry in log.entries] == ["discarded", "started"]


async def test_a_state_that_would_not_come_back_is_refused_at_that_effect() -> None:
    """6.11 State is refused where it is put or modified, and by the mark that would keep it."""
    number = State("number", float)

    @computation
    async def puts(*, modify: bool) -> Effectful[None]:
        yield number.modify(lambda _: float("nan")) if modify else number.put(float("nan"))
        yield Return(None)

    for modify in (False, True):
        with pytest.raises(UnencodableError, match="JSON has no nan"):
            await start(puts(modify=modify), number.handler(0.0))
    with pytest.raises(DeclarationError, match="JSON has no nan"):
        number.handler(float("nan"))


async def test_a_result_of_the_run_that_would_not_come_back_is_refused() -> None:
    """6.11 The run's own result is refused like any value.

    The log keeps what was performed, and `resume` goes on after a fix.
    """

    @computation(name="returns")
    async def wrong() -> Effectful[float]:
        yield Charge(1)
        yield Return(float("nan"))

    @computation(name="returns")
    async def right() -> Effectful[float]:
        yield Charge(1)
        yield Return(0.5)

    world = World()
    with pytest.raises(UnencodableError, match="the result of returns") as caught:
        await start(wrong(), *world.handlers)
    assert completed(await resume(right(), stored(left(caught.value)), *world.handlers)).value == 0.5
    assert world.calls == ["charge 1"]


async def test_an_argument_of_the_run_that_would_not_come_back_is_refused() -> None:
    """6.11 Arguments of the run are refused before anything is performed."""

    @computation
    async def takes(price: float, animal: Animal | None = None) -> Effectful[None]:
        yield Charge(1)
        yield Return(None)

    world = World()
    for comp in (takes(float("nan")), takes(no_number), takes(1.0, Dog("Rex", ["sit"]))):
        with pytest.raises(UnencodableError, match=r"argument '(price|animal)' of"):
            await start(comp, *world.handlers)
    assert world.calls == []


class First(msgspec.Struct, frozen=True):
    a: int


class Second(msgspec.Struct, frozen=True):
    b: int


def test_an_ambiguous_union_is_refused_where_it_is_declared() -> None:
    """6.11 Every declared type is compiled where it is declared; an ambiguous union is refused there, with the fix."""
    with pytest.raises(DeclarationError, match="tag=True"):
        State("ambiguous", First | Second)
    with pytest.raises(DeclarationError, match="tag=True"):
        Reader("ambiguous", First | Second)
    with pytest.raises(DeclarationError, match="tag=True"):
        EventAccumulator("ambiguous", First | Second)
    with pytest.raises(DeclarationError, match="tag=True"):

        class Ambiguous(Yield[First | Second], frozen=True):  # pyright: ignore[reportUnusedClass]
            pass

    with pytest.raises(DeclarationError, match="tag=True"):

        @port
        async def ambiguous(a: int) -> First | Second:
            return First(a)

    with pytest.raises(DeclarationError, match="tag=True"):

        @computation
        async def returns() -> Effectful[First | Second]:
            yield Return(First(1))

    with pytest.raises(DeclarationError, match="tag=True"):
        mark_loop("ambiguous", First | Second, carry=First(1))


def test_a_type_that_cannot_be_read_back_is_refused_where_it_is_declared() -> None:
    """6.6, 6.11 A declared type that contains an exception, or a class that JSON cannot give back, is refused."""

    class Opaque:
        pass

    for kind in (ValueError, list[KeyError], dict[str, ValueError | None]):
        with pytest.raises(DeclarationError, match="is an exception"):
            State("bad", kind)
    with pytest.raises(DeclarationError, match="cannot be read back"):
        State("bad", Opaque)


async def test_a_logged_value_that_todays_types_cannot_read_is_an_error_never_none() -> None:
    """6.11 The undecodable is an error, never None; the log stays as it was."""

    @computation
    async def charges() -> Effectful[str]:
        try:
            receipt = yield Charge(1)
        except Exception:  # noqa: BLE001 - a body that swallows all errors
            receipt = "none"
        yield Approval()
        yield Charge(2)
        yield Return(receipt)

    world = World()
    log = suspended(await start(charges(), *world.handlers)).log
    broken = Log.from_json(log.to_json().replace(b'"receipt 1"', b"17"))
    with pytest.raises(UndecodableError, match="Expected `str`, got `int`") as caught:
        await resume(charges(), broken, *world.handlers, answer="yes")

    assert caught.value.entry == "0/1"
    assert left(caught.value).to_json() == broken.to_json()
    assert world.calls == ["charge 1"]


async def test_a_log_never_causes_an_import_and_knows_no_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    """6.11 No pickle; a log never causes an import."""

    @computation
    async def charges() -> Effectful[str]:
        try:
            yield Charge(1)
        except Exception as error:  # noqa: BLE001 - whatever it is
            yield Return(type(error).__name__)

    def forbidden(*_: object, **__: object) -> Any:
        raise AssertionError("pickle was called")

    for name in ("dumps", "loads", "dump", "load"):
        monkeypatch.setattr(pickle, name, forbidden)
    world = World(LookupError("x"))
    text = completed(await start(charges(), *world.handlers)).log.to_json()
    text = text.replace(b'"kind":"builtin"', b'"kind":"other"').replace(b"builtins:LookupError", b"wave:Error")
    text = text.replace(b'"result":"LookupError"', b'"result":"EffectError"')
    sys.modules.pop("wave", None)
    outcome = completed(await resume(charges(), stored(Log.from_json(text)), *world.handlers))

    assert outcome.value == "EffectError"
    assert "wave" not in sys.modules


class WithMore(msgspec.Struct, frozen=True):
    name: str
    size: int = 3


class Pack(Effect[str], frozen=True):
    __sig__ = "pack"
    what: WithMore
    extra: str = "none"


class PackBefore(Effect[str], frozen=True):
    __sig__ = "pack"
    what: Animal


async def test_a_field_that_was_added_with_a_default_still_matches() -> None:
    """6.4 Bytes that differ only because a field with a default was added still match, and another default does not."""

    @computation(name="packs")
    async def before(what: Animal) -> Effectful[str]:
        packed = yield PackBefore(what)
        yield Approval()
        yield Return(packed)

    @computation(name="packs")
    async def after(what: WithMore, note: str = "none") -> Effectful[str]:
        packed = yield Pack(what)
        yield Approval()
        yield Return(packed)

    log = suspended(await start(before(Animal("x")), PackBefore.always("old"))).log
    outcome = completed(await resume(after(WithMore("x")), stored(log), Pack.always("new"), answer="yes"))

    assert outcome.value == "old"
    log.header.arguments = msgspec.Raw(b'{"what":{"name":"x","size":4}}')
    with pytest.raises(DivergenceError, match="other data"):
        await resume(after(WithMore("x", 4)), stored(log), Pack.always("new"), answer="yes")


class Mix(Effect[frozenset[Point]], frozen=True):
    points: frozenset[Point]


palette = State("values.palette", set[Point])


@computation
async def mixes(points: frozenset[Point]) -> Effectful[int]:
    yield palette.put(set(points))
    kept = yield palette.get()
    mixed = yield Mix(frozenset(kept))
    yield Return(len(mixed))


async def test_sets_whose_members_have_no_order_match_by_value() -> None:
    """6.4, 6.11 A set of structs has no order of its own: as argument, state, field and answer it matches by value."""
    points = [Point(number) for number in range(40)]
    there, back = frozenset(points), frozenset(reversed(points))
    assert there == back
    assert list(there) != list(back)

    scope = [palette.handler(set()), Mix.handled_by(lambda effect: effect.points)]
    log = completed(await start(mixes(there), *scope)).log

    assert completed(await replay(mixes(back), Log.from_json(log.to_json()), *scope)).value == 40


class Bucket(pydantic.BaseModel):
    numbers: set[int]


class Fill(Effect[int], frozen=True):
    bucket: Bucket


async def test_a_set_of_a_model_matches_by_value() -> None:
    """6.4 What pydantic writes of a set has the order of the moment: it is compared decoded."""
    shrunken = set(range(100))
    shrunken -= set(range(100)) - {1, 32}
    there, back = Bucket.model_construct(numbers={1, 32}), Bucket.model_construct(numbers=shrunken)
    assert list(there.numbers) != list(back.numbers)
    buckets = [there]

    @computation
    async def fills() -> Effectful[int]:
        yield Return((yield Fill(buckets[-1])))

    handler = Fill.handled_by(lambda effect: len(effect.bucket.numbers))
    log = completed(await start(fills(), handler)).log
    buckets.append(back)
    assert completed(await replay(fills(), stored(log), handler)).value == 2


@computation
async def gives_a_point() -> Effectful[Point]:
    yield Return(Point(1, 2))


async def test_a_result_of_no_declared_type_is_the_object_itself() -> None:
    """6.11 Of a bracket the result's type is not known: the caller gets what it gave, on the first run as on replay."""
    comp = bracket(Fresh.uuid(), lambda _: gives_a_point(), lambda _: Fresh.uuid())
    outcome = completed(await start(comp))
    assert outcome.value == Point(1, 2)
    assert completed(await replay(comp, stored(outcome.log))).value == Point(1, 2)
