"""PostgreSQL is stopped and started again, and again, while runs move on two workers: orderly, and by a crash."""

import anyio
import anyio.to_thread

from .load import Load
from .processes import Crew
from .site import Row, Site


async def postgres_restart(site: Site) -> Row:
    """Runs arrive although their store is away at times; nothing is done again that it had acknowledged."""
    runs, restarts = (600, 30) if site.full else (60, 4)
    chance = site.chance("postgres-restart")
    count = 0

    async def disturb(_crew: Crew, over: anyio.Event) -> None:
        nonlocal count
        while count < restarts and not over.is_set():
            await anyio.sleep(chance.uniform(1, 3))
            count += 1
            await anyio.to_thread.run_sync(site.server.stop, "immediate" if count % 2 else "fast")
            await anyio.sleep(chance.uniform(0, 2))
            await anyio.to_thread.run_sync(site.server.start)

    load = Load(site.new_folder(), site.place("postgresql"), 2, runs=runs, rate=5, limit=240 + runs, delay=0.1)
    row = await load.under(disturb)
    return row._replace(kills=f"{count} restarts")
