"""The load: many runs on one place, started one after the other, while something is done to workers and stores."""

from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import anyio

from .desk import Desk, desk_at
from .places import AnyPlace
from .processes import Crew, counter
from .service import Service
from .site import Row
from .worker import Config

Trouble = Callable[[Crew, anyio.Event], Coroutine[Any, Any, None]]
"""What is done meanwhile, until the event is set; it leaves everything in order."""

AT_ONCE = 10
"""Logs that are looked at side by side."""


class Load:
    """Runs, and the workers that move them.

    Args:
        folder: An empty one.
        place: Where the runs are kept.
        workers: One configuration for each; the counter's socket is filled in.
        runs: How many.
        rate: How many are started in a second.
        limit: Seconds after which it has failed.
        delay: Seconds that an answer of the counter takes at most.
        clocks: For each worker the file of its clock, or None.
        ceiling: While this file is there, the database cannot grow.
        lease: Of the workers, in seconds.
        idle: Seconds that a run which waits stays in memory.
    """

    def __init__(
        self,
        folder: Path,
        place: AnyPlace,
        workers: int,
        *,
        runs: int,
        rate: float,
        limit: float,
        delay: float = 0.02,
        clocks: Sequence[Path | None] = (),
        ceiling: Path | None = None,
        lease: float = 1.5,
        idle: float = 10.0,
    ) -> None:
        self._folder = folder
        self._place = place
        self._clocks = clocks or [None] * workers
        self._runs = runs
        self._rate = rate
        self._limit = limit
        self._delay = delay
        self._ceiling = ceiling
        self._lease = lease
        self._idle = idle

    async def under(self, trouble: Trouble, *, may_repeat: bool = True) -> Row:
        """Let the runs arrive under *trouble*.

        Args:
            trouble: What is done to them.
            may_repeat: Whether calls may be repeated by that.
        """
        problems: list[str] = []
        async with counter(self._folder, self._delay) as socket, Service(socket) as service:
            configs = [
                Config(
                    place=self._place,
                    service=socket,
                    concurrency=100,
                    lease=self._lease,
                    idle=self._idle,
                    clock=None if clock is None else str(clock),
                    limit=None if self._ceiling is None else str(self._ceiling),
                )
                for clock in self._clocks
            ]
            async with Crew(self._folder, configs) as crew, desk_at(self._place) as desk:
                over = anyio.Event()
                async with anyio.create_task_group() as group:
                    group.start_soon(trouble, crew, over)
                    with anyio.move_on_after(self._limit) as scope:
                        await self._start(desk)
                        await desk.all_have_ended()
                    over.set()
                if scope.cancelled_caught:
                    problems.append(f"after {self._limit:g} seconds {await desk.count('running')} were running")
                    problems.append(f"and suspended: {await desk.count('suspended')}")
                problems += crew.dead()
                kills, pauses = crew.kills, crew.pauses
                await self._look_at_all(desk, problems)
            tally = await service.tally()
        problems += tally.wrong
        if tally.repeated and not may_repeat:
            problems.append(f"{tally.repeated} calls were repeated, with no reason")
        told = f"{kills}+{pauses}p" if pauses else f"{kills}"
        note = f"{tally.calls} calls, {tally.appends} appends seen, {tally.late} late calls of fenced workers, "
        note += f"{tally.most} calls of an effect at most"
        return Row(self._runs, told, tally.repeated, problems, note)

    async def _start(self, desk: Desk) -> None:
        async with anyio.create_task_group() as group:
            for number in range(self._runs):
                group.start_soon(desk.start, number)
                await anyio.sleep(1 / self._rate)

    async def _look_at_all(self, desk: Desk, problems: list[str]) -> None:
        room = anyio.CapacityLimiter(AT_ONCE)

        async def look(number: int) -> None:
            async with room:
                problems.extend(await desk.problems(f"run-{number}"))

        async with anyio.create_task_group() as group:
            for number in range(self._runs):
                group.start_soon(look, number)
