"""Declared types: compiled once, where they are declared; the only way of a value into a log and back.

A value is admitted when ``decode(encode(value))`` loses nothing. What JSON would change silently (NaN, the fields of a
subclass) is refused with its path. Dictionaries keep their order, because a body may iterate over them.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, get_args, get_origin

import msgspec
from typing_extensions import TypeForm, TypeVar

from ._errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

Plain: TypeAlias = "dict[str, Plain] | list[Plain] | tuple[Plain, ...] | str | float | bool | None"
"""What JSON decodes to, and what values are turned into on the way there."""

_EXACT: frozenset[Any] = frozenset({int, str, bool, bytes, type(None)})
"""Types whose instances come back as they are, so that neither decoding nor a comparison is needed."""


def _enc_hook(value: object) -> Any:
    # Pydantic models are recognised by what they offer, so that pydantic itself is never imported here.
    if hasattr(type(value), "__pydantic_validator__"):
        model: Any = value
        return model.model_dump(mode="json", round_trip=True, by_alias=True)
    message = f"objects of type {type(value).__qualname__} are not supported"
    raise TypeError(message)


def _dec_hook(kind: Any, value: Any) -> Any:
    if hasattr(kind, "__pydantic_validator__"):
        return kind.model_validate_json(encode(value))
    if kind is object:
        return value
    message = f"objects of type {kind.__qualname__} are not supported"
    raise TypeError(message)


def _schema_hook(kind: Any) -> dict[str, Any]:
    if hasattr(kind, "__pydantic_validator__"):
        schema: dict[str, Any] = kind.model_json_schema()
        return schema
    raise NotImplementedError


encode = msgspec.json.Encoder(enc_hook=_enc_hook).encode
encode_flat = msgspec.json.Encoder(enc_hook=_enc_hook, order="deterministic").encode
decode_plain = msgspec.json.Decoder().decode


def encode_canonical(value: Any) -> bytes:
    """The JSON of *value*, keys and sets in order; those that have none stay as they come, and are compared decoded."""
    try:
        return encode_flat(value)
    except TypeError:
        return encode(value)


class Misfit(ValueError):
    """A value does not fit; the text says where (``$.path``) and why."""


class Declared(Generic[T]):
    """A type that values are encoded from and decoded to."""

    __slots__ = ("_decode", "exact", "nullable", "type")

    def __init__(self, kind: Any, place: str) -> None:
        self.type: Any = kind
        self.exact: Any = kind if kind in _EXACT else None
        _refuse_unreadable(kind, place)
        try:
            self._decode = msgspec.json.Decoder(kind, dec_hook=_dec_hook).decode
        except TypeError as error:
            problem = f"JSON cannot tell the members of {describe(kind)} apart ({error})"
            way_out = "make the members tagged: class Member(Struct, frozen=True, tag=True)"
            raise DeclarationError(place, problem, way_out) from None
        self.nullable: bool = _accepts_none(self._decode)

    def decode(self, data: Any) -> T:
        """Read *data*, JSON bytes; raises `Misfit`."""
        try:
            value: T = self._decode(data)
        except (ValueError, TypeError, RecursionError) as error:
            raise Misfit(str(error)) from None
        return value

    def admit(self, value: Any) -> tuple[bytes, T]:
        """The JSON of *value* and what it reads back as; raises `Misfit` if anything would be lost."""
        data = encode_value(value)
        if type(value) is self.exact:
            return data, value
        back = self.decode(data)
        again = encode(back)
        if again != data and sorted(again) != sorted(data):  # a set may come back in another order
            lost = first_difference(decode_plain(data), decode_plain(again))
            if lost is not None:
                problem = (
                    f"`{lost}` would be lost: {describe(type(value))} holds more than {describe(self.type)} declares"
                )
                raise Misfit(problem)
        return data, back

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of the type."""
        return msgspec.json.schema(self.type, schema_hook=_schema_hook)


def declare(kind: TypeForm[T], place: str) -> Declared[T]:
    """Compile *kind*, declared at *place*, once; raises `DeclarationError`."""
    form: Any = kind
    try:
        return _declare(form, place)
    except TypeError as error:
        if isinstance(error, DeclarationError):
            raise
        return Declared(kind, place)  # a type that cannot be hashed, and so cannot be remembered


@functools.lru_cache(maxsize=4096)
def _declare(kind: Any, place: str) -> Declared[Any]:
    return Declared(kind, place)


def encode_value(value: Any) -> bytes:
    """The JSON of *value*, keys in their own order; raises `Misfit`."""
    try:
        data = encode(value)
    except (ValueError, TypeError, RecursionError, NotImplementedError) as error:
        raise Misfit(str(error)) from None
    refuse_not_a_number(value, data)
    return data


def refuse_not_a_number(value: Any, data: bytes) -> None:
    """Raise `Misfit` for a NaN or an infinity in *value*, which its JSON *data* would hold as null."""
    if b"null" in data:
        for path, number in _floats(msgspec.to_builtins(value, enc_hook=_enc_hook), "$"):
            if not math.isfinite(number):
                problem = f"JSON has no {number} - at `{path}`"
                raise Misfit(problem)


def _floats(value: Plain, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, float):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _floats(item, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _floats(item, f"{path}[{index}]")


def differences(old: Plain, new: Plain, path: str = "$") -> Iterator[str]:
    """Paths at which two plain JSON values differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            if key not in new:
                yield f"{path}.{key}: {_short(old[key])} -> missing"
            elif key not in old:
                yield f"{path}.{key}: missing -> {_short(new[key])}"
            else:
                yield from differences(old[key], new[key], f"{path}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from differences(left, right, f"{path}[{index}]")
    elif old != new:
        yield f"{path}: {_short(old)} -> {_short(new)}"


def first_difference(old: Plain, new: Plain) -> str | None:
    """The path of the first difference, or None."""
    found = next(differences(old, new), None)
    return None if found is None else found.split(": ", 1)[0]


def _short(value: Any, limit: int = 80) -> str:
    text = encode(value).decode()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def describe(kind: Any) -> str:
    """The type as a user would write it."""
    name = getattr(kind, "__qualname__", None) if isinstance(kind, type) and not get_args(kind) else None
    return name or str(kind).replace("typing.", "")


def _accepts_none(decode: Any) -> bool:
    try:
        decode(b"null")
    except (ValueError, TypeError):
        return False
    return True


def _refuse_unreadable(kind: Any, place: str) -> None:
    """Refuse types that msgspec compiles but could never decode, however deep they stand in *kind*."""
    seen: set[int] = set()
    for written in (kind, *_arguments(kind)):
        try:
            info = msgspec.inspect.type_info(written)
        except (TypeError, NameError):
            continue  # no type at all, or not complete yet, or ambiguous: compiling it says so better
        for part in _classes(info, seen):
            if isinstance(part, type) and issubclass(part, BaseException):
                way_out = "errors are raised, not returned: declare them with raises=(...) or return a struct"
                problem = f"{describe(part)} is an exception, which cannot be read back from a log"
                raise DeclarationError(place, problem, way_out)
            if _is_opaque(part):
                way_out = "use a msgspec struct, a dataclass, an attrs or a pydantic class"
                raise DeclarationError(place, f"{describe(part)} cannot be read back from JSON", way_out)


def _arguments(kind: Any) -> Iterator[Any]:
    """What stands in the brackets of a type, and in the brackets in them."""
    for argument in get_args(kind):
        if isinstance(argument, type) or get_origin(argument) is not None:
            yield argument
            yield from _arguments(argument)


_TUPLE: type[Any] = tuple
"""Named, because a type checker would take what is in it for unknown."""


def _classes(info: msgspec.inspect.Type, seen: set[int]) -> Iterator[Any]:
    """The classes in a type, those of its fields and theirs included."""
    if id(info) in seen:
        return
    seen.add(id(info))
    cls: Any = getattr(info, "cls", None)
    if cls is not None:
        yield cls
    for name in info.__struct_fields__:
        held: Any = getattr(info, name)
        members: tuple[Any, ...] = held if isinstance(held, _TUPLE) else (held,)
        for one in members:
            part: Any = one.type if isinstance(one, msgspec.inspect.Field) else one
            if isinstance(part, msgspec.inspect.Type):
                yield from _classes(part, seen)


def _is_opaque(kind: Any) -> bool:
    if kind is object or hasattr(kind, "__pydantic_validator__"):
        return False
    return isinstance(msgspec.inspect.type_info(kind), msgspec.inspect.CustomType)
