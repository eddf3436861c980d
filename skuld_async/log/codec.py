"""Codecs: an effect class's way into the log and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_type_hints

import msgspec
from msgspec import Raw

from skuld_async._declared import (
    Declared,
    Misfit,
    decode_plain,
    encode_canonical,
    encode_flat,
    encode_value,
    first_difference,
    refuse_not_a_number,
)
from skuld_async._effect import Kind, label_of
from skuld_async._errors import DeclarationError

from .entry import NO_DATA, NULL

if TYPE_CHECKING:
    from skuld_async._effect import Effect

_EXACT = {int, str, bool, bytes}
encode_exact = msgspec.json.Encoder().encode


class Codec:
    """Encodes and compares the effects of one class."""

    __slots__ = ("_fields", "answer", "constant", "exact", "kind", "label", "names", "opaque", "raises", "sig")

    encode = staticmethod(encode_flat)
    encode_exact = staticmethod(encode_exact)

    def __init__(self, kind: type[Effect[Any]]) -> None:
        self.kind = kind
        self.label = label_of(kind)
        self.sig = kind.__sig__
        self.names = frozenset((kind.__sig__, *kind.__aliases__))
        self.raises = kind.__raises__
        self.answer: Declared[Any] = kind.__answer__
        self.opaque = kind.__opaque__
        self.constant = NO_DATA if self.opaque or not kind.__struct_fields__ else None
        self._fields: Declared[Any] | None = None
        self.exact: tuple[tuple[str, Any], ...] = ()
        """Name and type of each field, where all are of types that need no check; else empty."""
        if self.constant is None:
            hints = get_type_hints(kind)
            fields = [(name, hints.get(name)) for name in kind.__struct_fields__]
            if all(declared in _EXACT for _, declared in fields):
                self.exact = tuple(fields)

    @property
    def fields(self) -> Declared[Any]:
        """The effect class itself, as a declared type."""
        if self._fields is None:
            try:
                self._fields = Declared(self.kind, self.label)
            except DeclarationError as error:
                raise Misfit(error.problem) from None
        return self._fields

    def data(self, effect: Effect[Any]) -> Raw:
        """The canonical JSON of the fields; raises `Misfit` for what would not come back."""
        if self.constant is not None:
            return self.constant
        try:
            data = encode_canonical(effect)
        except (ValueError, TypeError, RecursionError) as error:
            raise Misfit(str(error)) from None
        for name, declared in self.exact:
            if type(getattr(effect, name)) is not declared:
                break
        else:
            if self.exact:
                return Raw(data)
        refuse_not_a_number(effect, data)
        back = self.fields.decode(data)
        again = encode_canonical(back)
        if again != data and back != effect:
            lost = first_difference(decode_plain(data), decode_plain(again))
            if lost is not None:
                problem = f"`{lost}` would be lost: the value holds more than its field declares"
                raise Misfit(problem)
        return Raw(data)

    def same(self, logged: Raw, requested: Raw) -> bool:
        """Whether both are the same request: other bytes may be an older version of the same fields, or an edit."""
        if logged == requested:
            return True
        if self.constant is not None:
            return False
        try:
            old = self.fields.decode(logged)
            return encode_canonical(old) == bytes(requested) or bool(old == self.fields.decode(requested))
        except Misfit:
            return False

    def decode(self, data: Raw) -> Effect[Any]:
        """The effect again; raises `Misfit`."""
        effect: Effect[Any] = self.fields.decode(data)
        return effect

    def value(self, value: Any) -> Raw:
        """The JSON of a local effect's value; raises `Misfit`."""
        if value is None:
            return NULL
        answer = self.answer
        if type(value) is answer.exact:
            return Raw(encode_exact(value))
        # What `put` took in was admitted there; what a function of the body made was not.
        return Raw(answer.encode(value) if self.opaque or self.kind.__kind__ is not Kind.LOCAL else encode_value(value))


def codec_of(kind: type[Effect[Any]]) -> Codec:
    """The codec of an effect class, made once and kept on the class."""
    codec: Codec | None = kind.__dict__.get("__codec__")
    if codec is None:
        codec = Codec(kind)
        kind.__codec__ = codec
    return codec
