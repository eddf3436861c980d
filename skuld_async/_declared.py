"""Declared types: compiled once, where they are declared; the only way of a value into a log and back.

A value is admitted when ``decode(encode(value))`` loses nothing. What JSON would change silently (NaN, the fields of a
subclass) is refused with its path. Dictionaries keep their order, because a body may iterate over them.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
from typing import TYPE_CHECKING, Any, ForwardRef, Generic, Literal, TypeAlias, get_args, get_origin

import msgspec
from typing_extensions import TypeForm, TypeVar

from ._errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")

Plain: TypeAlias = "dict[str, Plain] | list[Plain] | tuple[Plain, ...] | str | float | bool | None"
"""What JSON decodes to, and what values are turned into on the way there."""

_EXACT: frozenset[Any] = frozenset({int, str, bool, bytes, type(None)})
"""Types whose instances come back as they are, so that neither decoding nor a comparison is needed."""


_READABLE = "use a msgspec struct, a dataclass, an attrs or a pydantic class"


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
    """The JSON of *value*, keys and sets in order, whatever they hold; raises `Misfit` for keys that it would lose.

    Only what a pydantic model makes of its own sets stays as it comes, and is compared decoded.
    """
    try:
        return encode_flat(value)
    except TypeError:  # members that cannot be compared, keys that are no text
        return encode_flat(_sortable(value))


# Named, because a type checker would take what is in them for unknown.
_SETS: tuple[type[Any], ...] = (set, frozenset)
_LISTS: tuple[type[Any], ...] = (list, tuple)
_DICT: type[Any] = dict
_SCALARS: frozenset[type[Any]] = frozenset({int, str, float, bool, bytes, type(None)})


def _sortable(value: Any) -> Any:
    """*value* with text for keys, and with the list of its members' JSON, sorted, in the place of each set."""
    if type(value) in _SCALARS:
        return value
    if isinstance(value, _SETS):
        return [msgspec.Raw(member) for member in sorted(map(encode_canonical, value))]
    if isinstance(value, _LISTS):
        return [_sortable(item) for item in value]
    if isinstance(value, _DICT):
        keys = decode_plain(encode(dict.fromkeys(value)))  # as JSON writes them
        if len(keys) < len(value):
            problem = f"JSON cannot tell the keys of {value!r:.80} apart"
            raise Misfit(problem)
        return {key: _sortable(item) for key, item in zip(keys, value.values(), strict=True)}
    names = _field_names(type(value))
    if not names:
        return value
    twin = copy.copy(value)
    change = msgspec.structs.force_setattr if isinstance(value, msgspec.Struct) else object.__setattr__
    for name in names:
        change(twin, name, _sortable(getattr(value, name)))
    return twin


def _field_names(kind: Any) -> Iterable[str]:
    """Names of the fields of a struct, a dataclass or an attrs class; none of another type."""
    if issubclass(kind, msgspec.Struct):
        names: Iterable[str] = kind.__struct_fields__
        return names
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else getattr(kind, "__attrs_attrs__", ())
    return [field.name for field in fields]


class Misfit(ValueError):
    """A value does not fit; the text says where (``$.path``) and why."""


class Declared(Generic[T]):
    """A type that values are encoded from and decoded to."""

    __slots__ = ("_decode", "_schema", "exact", "nullable", "type")

    def __init__(self, kind: Any, place: str) -> None:
        self.type: Any = kind
        self.exact: Any = kind if kind in _EXACT else None
        self._schema = b""
        _refuse_unreadable(kind, place)
        try:
            self._decode = msgspec.json.Decoder(kind, dec_hook=_dec_hook).decode
        except TypeError as error:
            raise DeclarationError(place, *_not_compiled(kind, error)) from None
        self.nullable: bool = _accepts_none(self._decode)

    def decode(self, data: Any) -> T:
        """Read *data*, JSON bytes; raises `Misfit`."""
        try:
            value: T = self._decode(data)
        except (ValueError, TypeError, RecursionError) as error:
            raise Misfit(str(error)) from None
        return value

    def admit(self, value: Any) -> tuple[bytes, T]:
        """*value* as JSON and as what that reads back as; raises `Misfit` if anything would be lost.

        It may be spelled otherwise than it comes back: defaults left out, a date in another notation.
        """
        data = encode_value(value)
        if type(value) is self.exact:
            return data, value
        back = self.decode(data)
        again = encode(back)
        return (data if _is_same(data, again) else self._without_loss(data, again)), back

    def encode(self, value: Any) -> bytes:
        """The JSON of *value*, where the value itself is used on; raises `Misfit` unless it reads back as it is."""
        data = encode_value(value)
        if type(value) is not self.exact:
            again = encode(self.decode(data))
            if not _is_same(data, again):
                found = first_difference(decode_plain(data), decode_plain(self._without_loss(data, again)))
                if found is not None:
                    raise Misfit(f"`{found}` would come back otherwise: give a value of type {describe(self.type)}")
        return data

    def _without_loss(self, data: bytes, again: bytes) -> bytes:
        """*again*, what *data* reads back as; raises `Misfit` for a key that the type does not know."""
        old = decode_plain(data)
        for path in _missing_keys(old, decode_plain(again)):
            try:
                # Where the type knows the key, this is refused, or kept: a default that is left out is no loss.
                kept = _find(decode_plain(encode(self._decode(encode(_replaced(old, path, _PROBE))))), path)
            except (ValueError, TypeError, RecursionError):
                continue
            if not kept:
                text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
                raise Misfit(f"`${text}` would be lost: {describe(self.type)} declares no such field")
        return again

    def schema(self) -> bytes:
        """The JSON Schema of the type, made when it is first asked for: that takes longer than a step."""
        if not self._schema:
            self._schema = msgspec.json.encode(msgspec.json.schema(self.type, schema_hook=_schema_hook))
        return self._schema


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


_PROBE: Plain = [[[]]]
"""A value that hardly any type reads, and none as its default."""


def _is_same(data: bytes, again: bytes) -> bool:
    """Whether both are the same JSON, but for the order of a set."""
    return again == data or (len(again) == len(data) and sorted(again) == sorted(data))


def _missing_keys(old: Plain, new: Plain, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key, value in old.items():
            if key in new:
                yield from _missing_keys(value, new[key], (*path, key))
            else:
                yield (*path, key)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from _missing_keys(left, right, (*path, index))


def _replaced(value: Any, path: tuple[str | int, ...], by: Plain) -> Any:
    """*value* with *by* in the place of what stands at *path*."""
    if not path:
        return by
    changed = copy.copy(value)
    changed[path[0]] = _replaced(value[path[0]], path[1:], by)
    return changed


def _find(value: Any, path: tuple[str | int, ...]) -> bool:
    """Whether there is something at *path*."""
    try:
        for key in path:
            value = value[key]
    except (LookupError, TypeError):
        return False
    return True


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


def _not_compiled(kind: Any, error: TypeError) -> tuple[str, str]:
    """What is wrong with a type that msgspec refused with *error*, and what to write instead."""
    name = _name_in(kind)
    if name is not None:
        return f"{name!r} is the name of a type, not a type", f"write it without quotes: {name}"
    if "union" in str(error):
        problem = f"JSON cannot tell the members of {describe(kind)} apart ({error})"
        return problem, "make the members tagged: class Member(Struct, frozen=True, tag=True)"
    return f"{describe(kind)} cannot be read back from JSON ({error})", _READABLE


def _name_in(kind: Any) -> str | None:
    """The first name in *kind* that stands in the place of a type."""
    if isinstance(kind, ForwardRef):
        return kind.__forward_arg__
    if isinstance(kind, str):
        return kind
    parts = () if get_origin(kind) is Literal else get_args(kind)
    return next((name for name in map(_name_in, parts) if name is not None), None)


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
                raise DeclarationError(place, f"{describe(part)} cannot be read back from JSON", _READABLE)


def _arguments(kind: Any) -> Iterator[Any]:
    """What stands in the brackets of a type, and in the brackets in them."""
    for argument in get_args(kind):
        if isinstance(argument, type) or get_origin(argument) is not None:
            yield argument
            yield from _arguments(argument)


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
        members: tuple[Any, ...] = held if isinstance(held, _LISTS) else (held,)
        for one in members:
            part: Any = one.type if isinstance(one, msgspec.inspect.Field) else one
            if isinstance(part, msgspec.inspect.Type):
                yield from _classes(part, seen)


def _is_opaque(kind: Any) -> bool:
    if kind is object or hasattr(kind, "__pydantic_validator__"):
        return False
    return isinstance(msgspec.inspect.type_info(kind), msgspec.inspect.CustomType)
