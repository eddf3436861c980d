"""Another process holds the lock of the SQLite file for seconds, longer than a lease, and than the store's patience."""

import subprocess
import sys
from pathlib import Path

import anyio

from .load import Load
from .places import OnSQLite
from .processes import Crew
from .site import Row, Site

HOLD = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute("BEGIN EXCLUSIVE")
time.sleep(float(sys.argv[2]))
connection.execute("ROLLBACK")
"""


async def sqlite_locked(site: Site) -> Row:
    """Runs arrive, and nobody calls again what was acknowledged."""
    runs, times = (300, 20) if site.full else (60, 3)
    chance = site.chance("sqlite-locked")
    place = site.place("sqlite", timeout=1.0)
    assert isinstance(place, OnSQLite)
    count = 0

    async def disturb(_crew: Crew, over: anyio.Event) -> None:
        nonlocal count
        while count < times and not over.is_set():
            await anyio.sleep(chance.uniform(0.5, 2))
            count += 1
            await hold(Path(place.path), chance.uniform(2, 5))

    load = Load(site.new_folder(), place, 2, runs=runs, rate=5, limit=240 + runs, delay=0.1)
    row = await load.under(disturb, may_repeat=False)
    return row._replace(kills=f"{count} locks")


async def hold(file: Path, seconds: float) -> None:
    """Keep the file locked, from a process of its own."""
    command = [sys.executable, "-c", HOLD, str(file), str(seconds)]
    await anyio.run_process(command, stdout=subprocess.DEVNULL)
