"""Parameters: the arguments of a computation by name, as a log holds them."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import msgspec

from ._declared import Declared, Misfit, encode_canonical
from ._errors import UnencodableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Parameters:
    """What a function takes; ``*args`` and ``**kwargs`` are each one parameter."""

    def __init__(self, function: Callable[..., Any], hints: Mapping[str, Any], place: str) -> None:
        self.signature = inspect.signature(function)
        self.place = place
        self._declared = {
            name: Declared[Any](_kind(parameter, hints.get(name, Any)), f"argument {name!r} of {place}")
            for name, parameter in self.signature.parameters.items()
        }

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The canonical JSON of a call's arguments, defaults included; raises `UnencodableError`."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            try:
                self._declared[name].encode(value)
                bound.arguments[name] = msgspec.Raw(encode_canonical(value))
            except Misfit as error:
                raise UnencodableError(f"argument {name!r} of {self.place}", str(error)) from None
        return encode_canonical(bound.arguments)

    def read(self, data: bytes | msgspec.Raw) -> inspect.BoundArguments:
        """The arguments that *data* holds, with today's defaults for what was added since; raises `Misfit`."""
        try:
            logged = _decode(data)
        except (ValueError, RecursionError) as error:
            raise Misfit(str(error)) from None
        bound = inspect.BoundArguments(self.signature, OrderedDict())
        for name, raw in logged.items():
            if name not in self._declared:
                raise Misfit(f"there is no parameter `{name}`")
            try:
                bound.arguments[name] = self._declared[name].decode(raw)
            except Misfit as error:
                raise Misfit(f"`{name}`: {error}") from None
        bound.apply_defaults()
        missing = self._declared.keys() - bound.arguments.keys()
        if missing:
            raise Misfit(f"there is no value for `{min(missing)}`")
        return bound


_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _kind(parameter: inspect.Parameter, hint: Any) -> Any:
    """The type of all that *parameter* takes."""
    if parameter.kind is parameter.VAR_POSITIONAL:
        return tuple[hint, ...]
    return dict[str, hint] if parameter.kind is parameter.VAR_KEYWORD else hint
