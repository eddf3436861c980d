"""Errors as data: what a body sees of an error is the same on the first run and on each replay.

===========  =====================================================  ===========================================
kind         which errors                                           arrive as
===========  =====================================================  ===========================================
declared     those that the operation declares (``raises=``), and    themselves, rebuilt from their ``args``
             subclasses of these; `OutcomeUnknown`, `RetryAfter`
domain       `DomainError`                                          themselves, rebuilt from their fields
builtin      Python's own, where JSON can hold their ``args``       themselves
group        exception groups                                       a group with the same tree
result       a result that cannot be kept                           `ResultError`
other        all others, and what calling its class with what the   `EffectError`
             log holds would not give again
===========  =====================================================  ===========================================
"""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any, cast

from msgspec import UNSET, Raw

from skuld_async._declared import Misfit, decode_plain, encode_value
from skuld_async._errors import EffectError, OutcomeUnknown, ResultError
from skuld_async._retry import RetryAfter

from . import domain
from .entry import ErrorData

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skuld_async._declared import Plain


_OF_CALLS = (OutcomeUnknown, RetryAfter)
"""What the library itself says of a call, whatever that declares."""
_LONGEST = 500
"""Characters of a message that is kept of an attempt."""


def name_of(cls: type) -> str:
    """``module:qualname``."""
    return f"{cls.__module__}:{cls.__qualname__}"


def to_data(error: BaseException, raises: Sequence[type[Exception]] = ()) -> ErrorData:
    """*error* as data."""
    kind = type(error)
    name, message = name_of(kind), _text_of(error)
    is_declared = isinstance(error, tuple(raises))
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        children = [to_data(child, raises) for child in group.exceptions]
        return ErrorData("group", name, encodable(group.message), children=children)
    if isinstance(error, domain.DomainError):
        fields = _fields_of(error)
        if fields is not None:
            return ErrorData("domain", name, message, Raw(fields), declared=is_declared)
    if isinstance(error, ResultError):
        return ErrorData("result", error.effect, error.problem)
    if isinstance(error, EffectError):
        return ErrorData("other", error.type_name, error.message, _plain(error.data))
    data = _plain(list(_args_of(error)))
    is_known = is_declared or kind in _OF_CALLS
    if (is_known or kind.__module__ == "builtins") and data is not UNSET and _comes_back(error, kind):
        return ErrorData("declared" if is_known else "builtin", name, message, data, declared=is_declared)
    return ErrorData("other", name, message, data, declared=is_declared)


def summary_of(error: Exception) -> ErrorData:
    """What is kept of the *error* of an attempt behind which another one was made: its type and its message."""
    message = _text_of(error)
    return ErrorData("other", name_of(type(error)), message if len(message) <= _LONGEST else f"{message[:_LONGEST]}…")


def _fields_of(error: domain.DomainError) -> bytes | None:
    """The JSON of the error's fields, where calling its class with them gives the error again."""
    try:
        fields = domain.fields_of(error)
        domain.rebuild(type(error), fields)
    except Exception:  # the user's constructor may raise anything
        return None
    return fields


def _text_of(error: BaseException) -> str:
    try:
        return encodable(str(error))
    except Exception as failure:
        return f"its text cannot be had ({type(failure).__name__})"


def encodable(text: str) -> str:
    """*text*, with an escape for what UTF-8 cannot say."""
    return text.encode(errors="backslashreplace").decode()


def _plain(value: Any) -> Any:
    """JSON of *value* where it reads back as the same, else UNSET."""
    try:
        data = encode_value(value)
    except Misfit:
        return UNSET
    return Raw(data) if decode_plain(data) == value else UNSET


def _args_of(error: BaseException) -> tuple[Any, ...]:
    """What the error's class has to be called with; that of an OSError leaves out the file name."""
    reduced: Any = error.__reduce__() if isinstance(error, OSError) else (type(error), error.args)
    args: tuple[Any, ...] = reduced[1]
    return args


def _comes_back(error: BaseException, kind: type[Any]) -> bool:
    try:
        again = kind(*_args_of(error))
        return type(again) is kind and again.args == error.args and str(again) == str(error)
    except Exception:  # the user's constructor may raise anything
        return False


def rebuild(data: ErrorData, raises: Sequence[type[Exception]] = ()) -> Exception:
    """The error that *data* stands for; raises `Misfit` where today's classes cannot say it."""
    if data.kind == "group":
        return ExceptionGroup(data.message, [rebuild(child, raises) for child in data.children])
    if data.kind == "result":
        return ResultError(data.type, data.message)
    if data.kind == "domain":
        cls = domain.find(data.type, (domain.DomainError,))
        if cls is None:
            problem = f"no DomainError {data.type} is loaded; import its module before"
            raise Misfit(problem)
        return domain.rebuild(cls, data.data)
    if data.kind == "declared":
        known: tuple[type[Exception], ...] = (*raises, *_OF_CALLS)
        declared = domain.find(data.type, known)
        if declared is None:
            problem = f"the operation no longer declares {data.type} (raises=), or its module is not imported"
            raise Misfit(problem)
        return declared(*_args(data))
    if data.kind == "builtin":
        builtin = getattr(builtins, data.type.rpartition(":")[2], None)
        if not isinstance(builtin, type) or not issubclass(builtin, Exception):
            problem = f"{data.type} is no builtin exception"
            raise Misfit(problem)
        return builtin(*_args(data))
    return EffectError(data.type, data.message, None if data.data is UNSET else decode_plain(data.data))


def _args(data: ErrorData) -> list[Any]:
    if data.data is UNSET:
        return []
    try:
        args: Plain = decode_plain(data.data)
    except ValueError as error:
        raise Misfit(str(error)) from None
    if not isinstance(args, list):
        problem = "the arguments of an error are a list"
        raise Misfit(problem)
    return args


def as_seen(error: Exception, data: ErrorData, raises: Sequence[type[Exception]]) -> Exception:
    """What the body sees of *error* on the first run."""
    if data.kind == "result" or isinstance(error, EffectError):
        return error
    seen = rebuild(data, raises)
    if type(seen) is type(error) and data.kind != "group" and _attributes(seen) == _attributes(error):
        return error
    seen.__cause__ = error
    return seen


def _attributes(error: Exception) -> dict[str, Any]:
    """What was set on the error, but for the notes that it gathers on its way."""
    return {name: value for name, value in vars(error).items() if not name.startswith("__")}
