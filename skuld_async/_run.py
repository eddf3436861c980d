"""`run`: the outermost scope, no log; a value or an exception."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import anyio
from typing_extensions import TypeVar

from ._chain import Chain
from ._computation import check_computation
from ._context import current_strand
from ._frames import strip
from ._misuse import OutsideStrandError
from ._pump import drive
from ._scopes import open_scope
from ._signals import Fault
from ._strand import CurrentCall, Strand

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._computation import Computation
    from ._effect import Interceptor, Observation
    from ._errors import DeploymentError
    from ._handler import Handler

T = TypeVar("T")


async def run(
    comp: Computation[T],
    /,
    *handlers: Handler,
    seed: str | None = None,
    intercept: Sequence[Interceptor] = (),
    observe: Sequence[Callable[[Observation], None]] = (),
) -> T:
    """Run *comp* to its end, in this task, without a log.

    Args:
        comp: A computation: what calling a ``@computation`` function gives.
        handlers: The outermost scope.
        seed: Text that the derived effects (Fresh, Random) are derived from; random if None.
        intercept: Called around each handler, the first outermost.
        observe: Called once for each settled request.

    Returns:
        What the computation returns.

    Raises:
        DeploymentError: No handler, or a misuse; whatever the body itself raises comes out as it is.

    Gotchas:
        Nothing is encoded, so a value that a log would refuse passes here. Test with `start`, or with
        `testing.always_cold`, what will run under a log.
    """
    check_computation(comp, "run")
    chain = Chain(intercept, observe)
    strand = Strand(new_id(), new_id() if seed is None else seed)
    strand.crew.root = strand
    async with open_scope(None, handlers, "", chain.bind) as scope:
        strand.crew.group = group = anyio.create_task_group()
        await group.__aenter__()
        token = current_strand.set(strand)
        try:
            value: T = await drive(strand, comp, scope)
        except BaseException as error:
            # The group has no tasks left: it is there to be cancelled, and would wrap what it sees.
            seen = error if isinstance(error, anyio.get_cancelled_exc_class()) else None
            await group.__aexit__(None if seen is None else type(seen), seen, None)
            if fault_that_stopped(strand) is None:
                strip(error)
                raise
        else:
            await group.__aexit__(None, None, None)
        finally:
            current_strand.reset(token)
        fault = fault_that_stopped(strand)
        if fault is not None:
            raise fault_of(fault)
        return value  # pyright: ignore[reportPossiblyUnboundVariable, reportReturnType] - it is bound unless a Fault stopped the strand


def fault_that_stopped(strand: Strand) -> Fault | None:
    """The fault that stopped *strand*, the root of a run: its own, or the first one of another strand."""
    return strand.sticky if isinstance(strand.sticky, Fault) else strand.crew.fault


def fault_of(signal: Fault) -> DeploymentError:
    """The error that *signal* carries, with the traceback of the request at which it was raised."""
    return signal.error.with_traceback(strip(signal).__traceback__)


def new_id() -> str:
    """A random id of 128 bits, in hexadecimal digits."""
    return os.urandom(16).hex()


def current_call() -> CurrentCall:
    """Inside a handler or a port's implementation: key, attempt and deadline of the call being served.

    Returns:
        The call; its ``key`` is the idempotency key to send to the receiver.

    Raises:
        OutsideStrandError: No computation is running here.
    """
    strand = current_strand.get()
    if strand is None:
        raise OutsideStrandError("current_call()", inside=False)
    call: Any = strand.call()
    assert isinstance(call, CurrentCall)
    return call
