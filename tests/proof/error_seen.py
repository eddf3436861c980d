"""The store has committed, and its caller sees an error; or nothing was done: at each call of each of its methods.

The whole runtime is in this process: nobody dies here, but an answer of the store was lost.
"""

from contextlib import AsyncExitStack

import anyio

from skuld_async.durable import Runtime

from .desk import Desk, insist
from .journey import handlers, journey
from .places import AnyPlace, Kind, store_at
from .processes import counter
from .service import Service
from .site import Row, Site
from .taps import At, Faults, Notary, tapped
from .worker import Walker

LANES = 8


class Lane:
    """A place in which one run after the other meets its fault."""

    def __init__(self, place: AnyPlace, service: Service) -> None:
        self.problems: list[str] = []
        self.struck = 0
        self._place = place
        self._service = service

    async def meet(self, number: int, faults: Faults) -> None:
        """See a run arrive in spite of *faults*."""
        async with AsyncExitStack() as stack:

            async def enter() -> Runtime:
                store = tapped(store_at(self._place), Notary(self._service), faults)
                return await stack.enter_async_context(
                    Runtime(store, [journey], handlers(Walker(self._service, None)), lease=3)
                )

            runtime = await insist(enter)
            desk = Desk(runtime)
            async with anyio.create_task_group() as group:
                group.start_soon(desk.answer)
                run = await insist(lambda: runtime.start(journey(number), id=f"run-{number}"))
                with anyio.move_on_after(30):
                    await insist(run.result)
                found = await insist(lambda: desk.problems(run.id))
                group.cancel_scope.cancel()
        self.struck += faults.has_struck
        self.problems += [f"{faults}: {one}" for one in found]


async def error_seen(site: Site, kind: Kind) -> Row:
    """On one kind of store. Repeated are calls of branches that were under way when another one met the error."""
    folder = site.new_folder()
    async with counter(folder, 0.002) as socket, Service(socket) as service:
        lanes = [Lane(site.place(kind), service) for _ in range(LANES)]
        await lanes[0].meet(0, unhurt := Faults("", 0, "after"))
        modes: tuple[At, ...] = ("after", "before") if site.full else ("after",)
        cases = [(method, number) for method, count in unhurt.counts.items() for number in range(1, count + 1)]
        queue = list(enumerate((Faults(*case, at) for at in modes for case in cases), 1))
        total = len(queue)

        async def work(lane: Lane) -> None:
            while queue:
                await lane.meet(*queue.pop(0))

        async with anyio.create_task_group() as group:
            for lane in lanes:
                group.start_soon(work, lane)
        tally = await service.tally()
    problems = [problem for lane in lanes for problem in lane.problems] + tally.wrong
    struck = sum(lane.struck for lane in lanes)
    if struck < total * 0.8:  # how often some methods are called is left to time
        problems.append(f"only {struck} of {total} errors were seen")
    note = ", ".join(f"{method} {count}" for method, count in sorted(unhurt.counts.items()))
    return Row(total + 1, f"{struck} errors", tally.repeated, problems, f"calls of an unhurt run: {note}")
