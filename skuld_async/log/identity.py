"""Which computation a log is of: name, version, canonical arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Raw

from skuld_async._computation import Around, Call, Computation
from skuld_async._declared import Declared, Misfit, decode_plain, describe, differences, encode_canonical
from skuld_async._effect import Effect
from skuld_async._errors import DivergenceError, UnencodableError

from .entry import NO_DATA

if TYPE_CHECKING:
    from .log import Log


def root_call(comp: Computation[Any]) -> Call | None:
    """The call inside `handle`, `ensure` or `transact`; None for a bracket."""
    while isinstance(comp, Around):
        comp = comp.inner
    return comp if isinstance(comp, Call) else None


def declared_result(comp: Computation[Any]) -> Declared[Any]:
    """The declared type of the result."""
    call = root_call(comp)
    return Declared(Any, comp.name) if call is None else call.definition._result


def misfit_of_result(value: Any, declared: Declared[Any], error: Misfit) -> str:
    """Why *value* cannot be the result."""
    if isinstance(value, Effect | Computation):
        return "it is a request that nobody has made; write `x = yield request`, then `yield Return(x)`"
    kinds = f"it is of type {describe(type(value))}, where {describe(declared.type)} is declared"
    return f"{error} ({kinds})"


def version_of(comp: Computation[Any]) -> str | None:
    """The version that the computation declares."""
    call = root_call(comp)
    return None if call is None else call.definition.version


def canonical_arguments(comp: Computation[Any]) -> Raw:
    """The arguments by name, as canonical JSON; raises `UnencodableError`."""
    call = root_call(comp)
    if call is None:
        return NO_DATA
    return Raw(call.definition._parameters.encode(call.args, call.kwargs))


def identify(log: Log, comp: Computation[Any]) -> None:
    """Write into an empty *log* what it is the log of; raises `UnencodableError`."""
    log.header.computation = comp.name
    log.header.version = version_of(comp)
    try:
        log.header.arguments = canonical_arguments(comp)
    except UnencodableError as error:
        error.log = log
        raise


def check_identity(log: Log, comp: Computation[Any]) -> None:
    """Raise `DivergenceError` where *log* is of another computation, or of other arguments."""
    header = log.header
    call = root_call(comp)
    if not header.computation:
        raise DivergenceError("this log is empty: it is of no run", way_out="begin a run with start(comp, *handlers)")
    if header.computation != comp.name:
        raise DivergenceError(
            f"this is the log of {header.computation}, not of {comp.name}",
            expected=header.computation,
            received=comp.name,
            cause="the wrong log, or the function was moved or renamed",
            way_out="resume with the log's own computation; @computation(name=...) keeps a name in logs",
        )
    arguments = canonical_arguments(comp)
    if header.arguments == arguments or (call is not None and is_same_call(call, header.arguments, arguments)):
        return
    version = version_of(comp)
    changed = (
        f"; the log was written by version {header.version}, this is {version}" if header.version != version else ""
    )
    raise DivergenceError(
        f"run {header.run} of {comp.name} was started with other arguments",
        expected=bytes(header.arguments).decode(errors="replace"),
        received=bytes(arguments).decode(errors="replace"),
        differences=list(differences(_plain(header.arguments), _plain(arguments))),
        cause=f"the wrong log, or other arguments than the run was started with{changed}",
        way_out="call it with the arguments that the log holds: resume(comp.from_json(log.header.arguments), log, ...)",
    )


def is_same_call(call: Call, logged: Raw, today: Raw) -> bool:
    """Whether the logged arguments, read with today's types and defaults, are today's."""
    read = call.definition._parameters.read
    try:
        again, now = read(logged).arguments, read(today).arguments
    except Misfit:
        return False
    return encode_canonical(again) == bytes(today) or bool(again == now)


def _plain(raw: Raw) -> Any:
    try:
        return decode_plain(raw)
    except ValueError:
        return None
