"""A worker kills itself at each append of a run, and where an answer has come that is not yet kept; another takes over.

Each effect whose outcome was committed happens once; each other one at most once more, under its key.
"""

from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import msgspec

from .desk import Desk, desk_at
from .places import Kind
from .processes import Crew, child, counter
from .service import Service
from .site import Row, Site
from .worker import Backend, Config, Kill

LANES = 4
STEPS = 20


class Lane:
    """A place with a worker that takes over; in it one run after the other is killed."""

    def __init__(self, folder: Path, config: Config, desk: Desk, service: Service) -> None:
        self.problems: list[str] = []
        self.runs = self.kills = 0
        self._folder = folder
        self._config = config
        self._desk = desk
        self._service = service

    async def die(self, number: int, kill: Kill | None) -> None:
        """Start a run in a worker that dies so, and see the run arrive."""
        self.runs += 1
        run = f"run-{number}"
        config = msgspec.structs.replace(self._config, kill=kill, start=(run, number))
        with (self._folder / f"{run}.txt").open("ab") as errors:
            async with child(["worker", msgspec.json.encode(config).decode()], errors) as worker:
                code = await worker.process.wait()
        what = "" if kill is None else f"{run}, killed {kill.at} {kill.number}: "
        self.kills += code == -9
        if code not in (0, -9):
            said = (self._folder / f"{run}.txt").read_text(encoding="utf-8")[-2000:]
            self.problems.append(f"{what}the worker ended with {code}: {said}")
            return
        with anyio.move_on_after(60):
            await self._desk.has_ended(run)
        self.problems += [what + one for one in await self._desk.problems(run)]
        lines = await self._service.of(run)
        if len(lines) != STEPS - (not any(line.step == "once" for line in lines)):
            self.problems.append(f"{what}{len(lines)} effects have happened: {[line.step for line in lines]}")
        again = [line.step for line in lines if len(line.tokens) > 1]
        if len(again) > 1 and not all(step.startswith("side-") for step in again):  # branches are under way together
            self.problems.append(f"{what}more was called again than was under way: {again}")
        self.problems += [
            f"{what}{line} happened too often" for line in lines if len(line.tokens) > (1 if line.kept == 1 else 2)
        ]


async def kill_at_append(site: Site, kind: Kind) -> Row:
    """Every append of the journey, on one kind of store."""
    folder = site.new_folder()
    async with counter(folder, 0.002) as socket, Service(socket) as service, AsyncExitStack() as stack:
        lanes: list[Lane] = []
        for number in range(LANES):
            place = site.place(kind)
            backend: Backend = "trio" if kind == "sqlite" and number % 2 else "asyncio"
            config = Config(place=place, service=socket, backend=backend)
            await stack.enter_async_context(Crew(folder, [config]))
            lanes.append(Lane(folder, config, await stack.enter_async_context(desk_at(place)), service))
        await lanes[0].die(0, None)
        appends = (await service.tally()).appends
        kills = [Kill(at, number) for at in ("before", "after") for number in range(1, appends + 1)]
        kills += [Kill("answer", number) for number in range(1, STEPS + 1)]
        queue = list(enumerate(kills, 1))

        async def work(lane: Lane) -> None:
            while queue:
                await lane.die(*queue.pop(0))

        async with anyio.create_task_group() as group:
            for lane in lanes:
                group.start_soon(work, lane)
        tally = await service.tally()
    problems = [problem for lane in lanes for problem in lane.problems] + tally.wrong
    killed = sum(lane.kills for lane in lanes)
    if killed < len(kills) - 2:  # appends of branches may share one
        problems.append(f"only {killed} of {len(kills)} workers were killed")
    if tally.repeated < STEPS:
        problems.append(f"only {tally.repeated} calls were repeated: the kills were not where they should be")
    note = f"{appends} appends a run, killed before and behind each; behind {STEPS} answers; "
    note += f"{tally.most} calls of an effect at most"
    return Row(len(kills) + 1, f"{killed}", tally.repeated, problems, note)
