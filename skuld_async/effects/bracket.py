"""bracket: a resource that is released whatever happens, by effects that the log holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import TypeVar

from skuld_async._computation import Computation, Wrapped
from skuld_async._hop import hop

if TYPE_CHECKING:
    from collections.abc import Callable

    from skuld_async._effect import Effect
    from skuld_async._frames import Frame

R = TypeVar("R")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Bracket(Wrapped[T_co], frozen=True, eq=False):
    """What `bracket` makes."""

    acquire: Computation[Any] | Effect[Any]
    use: Callable[[Any], Computation[T_co]]
    release: Callable[[Any], Computation[Any] | Effect[Any]]

    @property
    def name(self) -> str:
        """What messages call it."""
        return "bracket"

    async def enter(self, frame: Frame) -> T_co:
        """Acquire, use, release."""
        # Shielded: a run cancel that comes now takes effect in the use, so that what is being acquired is released.
        frame.shielded = True
        resource = await hop(self.acquire)
        release = self.release(resource)
        try:
            use = self.use(resource)
        except Exception:
            await hop(release)
            raise
        frame.shielded = False
        value: T_co = await hop(use.ensure(release))
        return value


def bracket(
    acquire: Computation[R] | Effect[R],
    use: Callable[[R], Computation[T]],
    release: Callable[[R], Computation[Any] | Effect[Any]],
) -> Computation[T]:
    """Acquire, use, release; released at return, error and cancellation, never at a suspension.

        room = yield bracket(Rooms.reserve(day), lambda room: meeting(room), lambda room: Rooms.cancel(room))

    Args:
        acquire: Gives the resource.
        use: Makes the computation that works with it.
        release: Makes the cleanup; under a cancellation it is shielded, with a grace time.
    """
    return Bracket(acquire, use, release)
