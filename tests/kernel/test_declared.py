"""6.11: declared types, compiled where they are declared, and what they admit."""

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NewType
from uuid import UUID

import attrs
import pydantic
import pytest
from msgspec import Meta, Struct
from typing_extensions import TypedDict

from skuld_async import DeclarationError, Effectful, computation
from skuld_async._declared import Declared, Misfit


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


def test_the_order_of_a_set_is_no_loss() -> None:
    """6.11 A set that reads back in another order has lost nothing."""
    shrunken = set(range(100))
    shrunken -= set(range(100)) - {1, 32}
    assert list(shrunken) != list(set(list(shrunken)))  # noqa: C414 - the order is what is tested
    _, back = Declared[Any](set[int], "here").admit(shrunken)
    assert back == {1, 32}


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
        (Point, Point3(1, 2, 3), r"`\$\.z` would be lost: Point3 holds more than Point declares"),
        (list[Point], [Point(1), Point3(2)], r"`\$\[1\]\.z` would be lost"),
        (Order, RushOrder(1), r"`\$\.fee` would be lost: RushOrder holds more than Order declares"),
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
    assert forward.result.type is Further


def test_the_schema_of_a_declared_type() -> None:
    """7.1 A declared type has a JSON Schema, pydantic models included."""
    assert Declared[Any](int, "here").schema() == {"type": "integer"}
    assert "userName" in str(Declared[Any](StrictUser, "here").schema())
    assert Declared[Any](int | None, "here").nullable
    assert not Declared[Any](int, "here").nullable
