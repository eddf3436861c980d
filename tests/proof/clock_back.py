"""The clock of a worker is stepped back by an hour, and forth again, while runs move, sleep and are put away.

No worker is taken for dead by that, and nothing is called twice; sleeps that others look after end at their time.
"""

import anyio

from .load import Load
from .places import Kind
from .processes import Crew
from .site import Row, Site

HOUR = 3600


async def clock_back(site: Site, kind: Kind) -> Row:
    """One of two workers: the other one wakes what sleeps until a time that for the first is an hour away."""
    runs, times = (300, 20) if site.full else (40, 3)
    folder = site.new_folder()
    clock = folder / "clock"
    clock.write_text("0", encoding="utf-8")
    count = 0

    async def disturb(_crew: Crew, over: anyio.Event) -> None:
        nonlocal count
        while count < times and not over.is_set():
            for ahead in (-HOUR, 0):
                await anyio.sleep(2)
                (folder / "next").write_text(f"{ahead}", encoding="utf-8")
                (folder / "next").replace(clock)
                count += 1

    # Nothing stays in memory while it waits: the stores wake it.
    load = Load(folder, site.place(kind), 2, clocks=[clock, None], runs=runs, rate=5, limit=120 + runs, idle=0.05)
    row = await load.under(disturb, may_repeat=False)
    return row._replace(kills=f"{count} steps")
