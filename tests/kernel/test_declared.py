"""6.11: declared types, compiled where they are declared, and what they admit."""

import enum
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NewType, Self
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest
from msgspec import Meta, Struct
from typing_extensions import TypedDict

from skuld_async import DeclarationError, Effectful, State, computation, mark_loop
from skuld_async._declared import Declared, Misfit, decode_plain, encode, encode_canonical


class Point(Struct, frozen=True):
    x: int
    y: float = 0


class Point3(Point, frozen=True):
    z: int = 0


class Circle(Struct, frozen=True, tag=True):
    r: int


class Square(Struct, frozen=True, tag=True):
    a: int


@dataclass
class Order:
    id: int
    lines: list[str] = field(default_factory=list[str])


@dataclass
class RushOrder(Order):
    fee: int = 1


@attrs.frozen
class Address:
    street: str


@attrs.frozen
class LongAddress(Address):
    country: str = "FR"


class User(pydantic.BaseModel):
    name: str
    joined: datetime


class StrictUser(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    name: str = pydantic.Field(alias="userName")
    joined: datetime
    tags: tuple[str, ...] = ()


class Admin(User):
    level: int = 1


class Movie(TypedDict):
    title: str


class Pair(NamedTuple):
    a: int
    b: str


class Colour(enum.Enum):
    RED = "red"


class Opaque:
    pass


class HoldsOpaque(Struct):
    items: list[Opaque]


class HoldsError(Struct):
    deep: dict[str, HoldsOpaque | None]
    error: ValueError | None = None


@dataclass
class DataError(Exception):
    code: int


class Tree(Struct):
    children: "list[Tree]" = []


UserId = NewType("UserId", int)
WHEN = datetime(2024, 2, 29, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (int, 2**70),
        (float, 1.5),
        (bool, True),
        (str, "é\x00\U0001f600"),
        (bytes, b"\x00\xff"),
        (type(None), None),
        (int | None, None),
        (Decimal, Decimal("1.10")),
        (UUID, UUID(int=7)),
        (datetime, WHEN),
        (timedelta, timedelta(days=3, microseconds=1)),
        (Colour, Colour.RED),
        (Literal["a", "b"], "b"),
        (list[int], [1, 2]),
        (tuple[int, str], (1, "a")),
        (set[str], {"a", "b", "c"}),
        (frozenset[Point], frozenset({Point(1), Point(2)})),
        (dict[str, Point], {"b": Point(1), "a": Point(2)}),
        (dict[int, str], {2: "b", 1: "a"}),
        (Point, Point(1, 2.5)),
        (Circle | Square, Square(2)),
        (Order, Order(1, ["a"])),
        (Address, Address("High Street")),
        (User, User(name="Ann", joined=WHEN)),
        (StrictUser, StrictUser(userName="Ann", joined=WHEN, tags=("a",))),
        (list[User | None], [None, User(name="Ann", joined=WHEN)]),
        (Movie, {"title": "M"}),
        (Pair, Pair(1, "a")),
        (Annotated[int, Meta(ge=3)], 3),
        (UserId, UserId(3)),
        (Tree, Tree([Tree(), Tree([Tree()])])),
        (Any, {"a": [1, None]}),
        (object, [1, "a"]),
    ],
    ids=lambda part: str(part)[:40],
)
def test_values_come_back_as_they_were(kind: Any, value: Any) -> None:
    """6.11 What a declared type admits reads back as an equal value of the same type, in the same order."""
    declared: Declared[Any] = Declared(kind, "here")
    data, back = declared.admit(value)

    assert back == value
    assert type(back) is type(value)
    assert declared.decode(data) == value
    if isinstance(value, dict):
        assert list(back) == list(value)  # pyright: ignore[reportUnknownArgumentType]


def test_an_int_is_a_float() -> None:
    """6.11 Where a float is declared an int is admitted, and arrives as a float."""
    _, back = Declared[Any](list[float], "here").admit([1, 2.5])
    assert back == [1.0, 2.5]
    assert [type(one) for one in back] == [float, float]
    assert Declared[Any](list[float], "here").encode([1, 2.5]) == b"[1,2.5]"


def test_the_order_of_a_set_is_no_loss() -> None:
    """6.11 A set that reads back in another order has lost nothing."""
    shrunken = set(range(100))
    shrunken -= set(range(100)) - {1, 32}
    assert list(shrunken) != list(set(list(shrunken)))  # noqa: C414 - the order is what is tested
    _, back = Declared[Any](set[int], "here").admit(shrunken)
    assert back == {1, 32}
    assert Declared[Any](set[int], "here").encode(shrunken) in (b"[1,32]", b"[32,1]")


@pytest.mark.parametrize(
    ("kind", "value", "path"),
    [
        (float, math.nan, r"nan - at `\$`"),
        (list[float], [0.0, math.inf], r"inf - at `\$\[1\]`"),
        (set[float], {math.nan}, "nan"),
        (Any, {"a": {"b": -math.inf}}, r"-inf - at `\$\.a\.b`"),
        (Point, Point(1, math.nan), r"nan - at `\$\.y`"),
        (float | None, math.nan, "nan"),
    ],
    ids=["float", "list", "set", "any", "struct", "optional"],
)
def test_what_is_no_number_is_refused(kind: Any, value: Any, path: str) -> None:
    """6.11 NaN and infinities are refused with their path: JSON would hold null."""
    with pytest.raises(Misfit, match=path):
        Declared[Any](kind, "here").admit(value)


def test_lone_surrogates_are_refused() -> None:
    """6.11 A lone surrogate is no text that could be written."""
    for kind, value in ((str, "\ud800"), (list[str], ["\udfff"]), (Movie, {"title": "\ud83d"})):
        with pytest.raises(Misfit, match="surrogates not allowed"):
            Declared[Any](kind, "here").admit(value)


@pytest.mark.parametrize(
    ("kind", "value", "lost"),
    [
        (Point, Point3(1, 2, 3), r"`\$\.z` would be lost: Point declares no such field"),
        (list[Point], [Point(1), Point3(2)], r"`\$\[1\]\.z` would be lost"),
        (Order, RushOrder(1), r"`\$\.fee` would be lost: Order declares no such field"),
        (Address, LongAddress("a"), r"`\$\.country` would be lost"),
        (User, Admin(name="Ann", joined=WHEN), r"`\$\.level` would be lost"),
        (Movie, {"title": "M", "year": 1931}, r"`\$\.year` would be lost"),
    ],
    ids=["struct", "in a list", "dataclass", "attrs", "pydantic", "typed dict"],
)
def test_subclasses_that_would_lose_fields_are_refused(kind: Any, value: Any, lost: str) -> None:
    """6.11 A subclass, or anything else that would lose fields, is refused with the path of the first one."""
    with pytest.raises(Misfit, match=lost):
        Declared[Any](kind, "here").admit(value)


def test_a_subclass_that_loses_nothing_is_admitted() -> None:
    """6.11 A subclass without fields of its own arrives as what was declared."""

    class Same(Point, frozen=True):
        pass

    _, back = Declared[Any](Point, "here").admit(Same(1))
    assert type(back) is Point


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (int, "1", "Expected `int`, got `str`"),
        (int, 1.5, "Expected `int`, got `float`"),
        (int, True, "Expected `int`, got `bool`"),
        (list[Point], [{"x": "a"}], r"Expected `int`, got `str` - at `\$\[0\]\.x`"),
        (Literal["a"], "b", "Invalid enum value 'b'"),
        (Annotated[int, Meta(ge=3)], 2, "Expected `int` >= 3"),
        (Any, Opaque(), "objects of type Opaque are not supported"),
        (Any, [lambda: 1], "objects of type function are not supported"),
    ],
    ids=["str for int", "float for int", "bool for int", "path", "literal", "constraint", "opaque", "function"],
)
def test_other_values_are_refused_with_their_path(kind: Any, value: Any, message: str) -> None:
    """6.11 What does not fit the declared type, or cannot be encoded, is refused with the path."""
    with pytest.raises(Misfit, match=message):
        Declared[Any](kind, "here").admit(value)


def test_a_value_that_contains_itself_is_refused() -> None:
    """6.11 So is a value without an end."""
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(Misfit):
        Declared[Any](Any, "here").admit(endless)


@pytest.mark.parametrize(
    "kind",
    [Point | Point3, list[Point] | list[Circle], str | bytes, Order | Address, Point | dict[str, int], User | Admin],
    ids=["structs", "lists", "text and bytes", "dataclasses", "struct and dict", "pydantic"],
)
def test_ambiguous_unions_are_refused_where_they_are_declared(kind: Any) -> None:
    """6.11 An ambiguous union is refused where it is declared, with the fix."""
    with pytest.raises(DeclarationError, match=r"^here: JSON cannot tell the members of .* apart") as caught:
        Declared(kind, "here")
    assert "class Member(Struct, frozen=True, tag=True)" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        (ValueError, "ValueError"),
        (Exception | None, "Exception"),
        (int | ValueError, "ValueError"),
        (dict[str, list[ExceptionGroup[Exception]]], "ExceptionGroup"),
        (DataError, "DataError"),
    ],
    ids=["alone", "optional", "union", "deep", "dataclass"],
)
def test_exceptions_in_declared_types_are_refused(kind: Any, named: str) -> None:
    """6.6 msgspec never decodes into an exception: a type that contains one is refused where it is declared."""
    with pytest.raises(DeclarationError, match=rf"{named}.* is an exception, which cannot be read back") as caught:
        Declared(kind, "here")
    assert "raises=(...)" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        (Opaque, "Opaque"),
        (list[Opaque], "Opaque"),
        (Opaque | int, "Opaque"),
        (complex, "complex"),
        (type, "type"),
        (Callable[[int], int], "Callable"),
        (HoldsOpaque, "Opaque"),
        (HoldsError, "Opaque"),
    ],
    ids=["class", "list", "union", "complex", "type", "callable", "field", "deep field"],
)
def test_opaque_classes_are_refused(kind: Any, named: str) -> None:
    """6.11 So is a class that could be written but never read back, however deep it stands."""
    with pytest.raises(DeclarationError, match=rf"here: {named} cannot be read back from JSON") as caught:
        Declared(kind, "here")
    assert "use a msgspec struct" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("int", "int"), (list["Point"], "Point"), (dict[str, tuple["Point", ...]], "Point")],
    ids=["alone", "list", "deep"],
)
def test_the_name_of_a_type_is_no_type(kind: Any, name: str) -> None:
    """6.11 A type that was written in quotes is refused where it is declared, with the fix."""
    declare: Sequence[Callable[[], Any]] = [
        lambda: Declared[Any](kind, "here"),
        lambda: State("here", kind),
        lambda: mark_loop("here", kind, carry=1),
    ]
    for one in declare:
        with pytest.raises(DeclarationError, match=f"{name!r} is the name of a type, not a type") as caught:
            one()
        assert f"write it without quotes: {name}" in str(caught.value)


def test_a_type_that_json_has_not_is_no_ambiguous_union() -> None:
    """6.11 What msgspec does not read is refused with what to use instead."""
    with pytest.raises(DeclarationError, match=r"Self cannot be read back from JSON") as caught:
        Declared(Self, "here")
    assert "use a msgspec struct" in str(caught.value)


class Shade(enum.Enum):
    RED = "red"
    BLUE = "blue"
    GREEN = "green"


class Tag(Struct, frozen=True):
    name: str
    shades: frozenset[Shade] = frozenset()


@dataclass(frozen=True)
class Box:
    tags: frozenset[Tag]
    counts: dict[int, set[Shade]]


@attrs.frozen
class Crate:
    tags: frozenset[Tag]


class Twin(Struct, frozen=True):
    """All have one hash, so that a set has them in the order in which they came."""

    number: int

    def __hash__(self) -> int:
        return 0


SHADES = list(Shade)
TWINS = [Twin(number) for number in range(3)]
TAGS = [Tag(str(number), frozenset(SHADES)) for number in range(20)]


@pytest.mark.parametrize(
    ("there", "back", "members"),
    [
        (frozenset(TAGS), frozenset(reversed(TAGS)), 20),
        (frozenset(TWINS), frozenset(reversed(TWINS)), 3),
        ({1, "a", None, 2.5}, {2.5, None, "a", 1}, 4),
        ([{"k": (frozenset(TAGS),)}], [{"k": (frozenset(reversed(TAGS)),)}], 1),
        ({1: "a", 2: "b"}, {2: "b", 1: "a"}, 2),
        ({Shade.RED: 1, Shade.BLUE: 2}, {Shade.BLUE: 2, Shade.RED: 1}, 2),
        (
            Box(frozenset(TAGS), {1: {*SHADES}, 2: set()}),
            Box(frozenset(reversed(TAGS)), {2: set(), 1: {*reversed(SHADES)}}),
            2,
        ),
        (Crate(frozenset(TAGS)), Crate(frozenset(reversed(TAGS))), 1),
    ],
    ids=["structs", "one hash", "mixed", "nested", "numbers as keys", "enums as keys", "dataclass", "attrs"],
)
def test_equal_values_have_equal_bytes(there: Any, back: Any, members: int) -> None:
    """6.4 Canonical data: sets and keys that cannot be sorted have an order too, whatever the seed of the hashes."""
    assert there == back
    data = encode_canonical(there)
    assert data == encode_canonical(back)
    assert len(decode_plain(data)) == members
    assert sorted(data) == sorted(encode(there))


def test_keys_that_json_cannot_tell_apart_are_refused() -> None:
    """6.11 What JSON would lose is refused: a number and the same number as text are one key there."""
    with pytest.raises(Misfit, match=r"JSON cannot tell the keys of .* apart"):
        encode_canonical({1: "a", "1": "b"})


def test_the_canonical_order_changes_no_value() -> None:
    """6.4 What is encoded in canonical order reads back as the value, and the value itself is left alone."""
    box = Box(frozenset(TAGS), {2: set(SHADES), 1: set()})
    assert Declared[Box](Box, "here").decode(encode_canonical(box)) == box
    assert list(box.counts) == [2, 1]
    assert isinstance(box.tags, frozenset)


def test_what_a_computation_returns_is_compiled_where_it_is_declared() -> None:
    """6.11 `Effectful[T]` is compiled by the decorator."""
    with pytest.raises(DeclarationError, match=r"bad: JSON cannot tell the members of"):

        @computation
        async def bad() -> Effectful[Point | Point3]:
            yield Point  # type: ignore[misc]  # pyright: ignore[reportReturnType]

    with pytest.raises(DeclarationError, match="ValueError is an exception"):

        @computation
        async def worse() -> int | ValueError:
            return 1


@computation
async def forward() -> "Effectful[Further]":
    yield Further  # type: ignore[misc]  # pyright: ignore[reportReturnType]


class Further(Struct):
    down: int


def test_a_result_may_name_what_is_defined_further_down() -> None:
    """6.11 A forward reference is compiled at the first use."""
    assert forward._result.type is Further


def test_the_schema_of_a_declared_type() -> None:
    """7.1 A declared type has a JSON Schema, pydantic models included."""
    assert msgspec.json.decode(Declared[Any](int, "here").schema()) == {"type": "integer"}
    assert "userName" in str(Declared[Any](StrictUser, "here").schema())
    assert Declared[Any](int | None, "here").nullable
    assert not Declared[Any](int, "here").nullable
