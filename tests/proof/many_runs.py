"""Many runs on three workers, which are killed and stopped at random all the while.

Every run ends once, with the right result. What was acknowledged is never done again; a worker that goes on after its
lease ran out is at most in its last call, and writes nothing.
"""

import random

import anyio

from .load import Load
from .places import Kind
from .processes import Crew
from .site import Row, Site

LEASE = 1.5


async def many_runs(site: Site, kind: Kind) -> Row:
    """On one kind of store."""
    runs, rate = (2000, 5) if site.full else (150, 8)
    if kind == "sqlite":
        runs //= 2
    chance = site.chance(f"many-runs-{kind}")
    load = Load(
        site.new_folder(),
        site.place(kind),
        3,
        runs=runs,
        rate=rate,
        limit=120 + 3 * runs / rate,
        delay=0.15,
        lease=LEASE,
    )

    async def disturb(crew: Crew, over: anyio.Event) -> None:
        async with anyio.create_task_group() as group:
            for number in range(len(crew)):
                group.start_soon(_disturb, crew, number, random.Random(chance.random()), over)

    return await load.under(disturb)


async def _disturb(crew: Crew, number: int, chance: random.Random, over: anyio.Event) -> None:
    """Kill a worker, or stop it for longer than its lease, again and again."""
    while not over.is_set():
        with anyio.move_on_after(chance.uniform(0.3, 3)):
            await over.wait()
            return
        if chance.random() < 0.6:
            await crew.kill(number)
        else:
            await crew.pause(number, chance.uniform(0.2, 2.5) * LEASE)
