"""What does importing the library cost, beside the import of anyio and msgspec?

Fresh processes, in turn, with compiled bytecode. The import itself is measured, without the start of the interpreter,
which would make every ratio look better. Names are imported when they are first used (anyio does the same), so the bare
import is told beside one that uses every name.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

from harness import Figure, Sizes, figure, main

BASE = "import anyio, msgspec"
ALL = "from skuld_async import *"
CASES = {
    "import skuld_async": "import skuld_async",
    "import of every public name": ALL,
    "the same, anyio and msgspec imported before": f"{BASE}; started = time.process_time_ns(); {ALL}",
}
TARGETS = {"import skuld_async": 1.3, "import of every public name": 1.3}


def import_time(statement: str, cache: str) -> float:
    """Nanoseconds of processor time that *statement* takes in a fresh process."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    program = f"import time; started = time.process_time_ns(); {statement}; print(time.process_time_ns() - started)"
    # -P: the installed package, not one in the folder we stand in.
    told = subprocess.run(
        [sys.executable, "-P", "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    return float(told.stdout)


async def measure(sizes: Sizes) -> list[Figure]:
    times: dict[str, list[float]] = {name: [] for name in CASES}
    ratios: dict[str, list[float]] = {name: [] for name in CASES}
    with tempfile.TemporaryDirectory() as cache:
        for statement in [BASE, *CASES.values()]:
            import_time(statement, cache)  # compiles
        for _ in range(sizes.repetitions if sizes.smoke else 21):
            base = import_time(BASE, cache)
            for name, statement in CASES.items():
                times[name].append(import_time(statement, cache))
                ratios[name].append(times[name][-1] / base)
    return [figure(name, ratios[name], TARGETS.get(name), statistics.median(times[name])) for name in CASES]


if __name__ == "__main__":
    main(__file__, "What does importing the library cost?", measure)
