"""The disk is full: no file of a worker may grow, or no page may be added to the database; then there is room again."""

import resource

import anyio

from .load import Load
from .processes import Crew
from .site import Row, Site


async def disk_full(site: Site) -> Row:
    """Runs stand still, arrive once there is room, and nobody calls again what was acknowledged."""
    runs, times = (300, 20) if site.full else (60, 4)
    chance = site.chance("disk-full")
    folder = site.new_folder()
    ceiling = folder / "full"
    count = 0

    async def disturb(crew: Crew, over: anyio.Event) -> None:
        nonlocal count
        while count < times and not over.is_set():
            await anyio.sleep(chance.uniform(0.5, 2))
            count += 1
            if count % 2:
                limit_files(crew, 0)
            else:
                ceiling.touch()
            await anyio.sleep(chance.uniform(1, 3))
            limit_files(crew, resource.RLIM_INFINITY)
            ceiling.unlink(missing_ok=True)

    load = Load(folder, site.place("sqlite"), 2, ceiling=ceiling, runs=runs, rate=5, limit=240 + runs, delay=0.1)
    row = await load.under(disturb, may_repeat=False)
    return row._replace(kills=f"{count} times full")


def limit_files(crew: Crew, size: int) -> None:
    """Let no file of these workers be written behind *size* bytes."""
    for pid in crew.pids:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
