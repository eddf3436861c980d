"""The command line of the proof: runs scenarios, and prints a table of what they have shown."""

import argparse
import logging
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import anyio

from .clock_back import clock_back
from .disk_full import disk_full
from .error_seen import error_seen
from .kill_at_append import kill_at_append
from .many_runs import many_runs
from .postgres_restart import postgres_restart
from .site import Row, Site
from .sqlite_locked import sqlite_locked

SCENARIOS: dict[str, Callable[[Site], Awaitable[Row]]] = {
    "kill-at-append-sqlite": partial(kill_at_append, kind="sqlite"),
    "kill-at-append-postgresql": partial(kill_at_append, kind="postgresql"),
    "many-runs-sqlite": partial(many_runs, kind="sqlite"),
    "many-runs-postgresql": partial(many_runs, kind="postgresql"),
    "postgres-restart": postgres_restart,
    "sqlite-locked": sqlite_locked,
    "disk-full": disk_full,
    "error-seen-sqlite": partial(error_seen, kind="sqlite"),
    "error-seen-postgresql": partial(error_seen, kind="postgresql"),
    "clock-back-sqlite": partial(clock_back, kind="sqlite"),
    "clock-back-postgresql": partial(clock_back, kind="postgresql"),
}

COLUMNS = "{:30} {:>6} {:>14} {:>9} {:>8}  {}"


async def prove(names: list[str], site: Site) -> bool:
    """Run scenarios one by one; gives whether all of them passed."""
    passed = True
    print(COLUMNS.format("scenario", "runs", "kills", "repeated", "seconds", "passed"), flush=True)
    for name in names:
        began = time.monotonic()
        row = await SCENARIOS[name](site)
        seconds = f"{time.monotonic() - began:.1f}"
        told = "no" if row.problems else "yes"
        print(COLUMNS.format(name, row.runs, row.kills, row.repeated, seconds, told), flush=True)
        print(f"    {row.note}", *row.problems[:20], sep="\n    ", flush=True)
        passed &= not row.problems
    return passed


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Prove that runs survive kills, pauses, and failing stores.")
    parser.add_argument("scenarios", nargs="*", metavar="scenario", help=f"some of: {', '.join(SCENARIOS)}")
    parser.add_argument("--full", action="store_true", help="as often as an hour allows, not only as a few minutes do")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="for the same chances")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.scenarios) - set(SCENARIOS))
    if unknown:
        parser.error(f"there is no scenario {', '.join(unknown)}")
    print(f"seed {arguments.seed}")
    with tempfile.TemporaryDirectory() as folder:
        logging.basicConfig(filename=f"{folder}/desk.txt")  # that a store is away is what was done to it
        site = Site(Path(folder), arguments.seed, full=arguments.full)
        try:
            passed = anyio.run(prove, arguments.scenarios or list(SCENARIOS), site)
        finally:
            site.close()
    print("passed" if passed else "FAILED")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
