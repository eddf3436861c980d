"""Prove that runs survive: ``python tests/proof/run.py [--full] [--seed N] [scenario ...]``.

The processes of the proof are started by this file too: ``run.py worker CONFIG``, ``run.py counter SOCKET DELAY``.
"""

import runpy
import sys
from pathlib import Path

ROLES = ("worker", "counter")

if __name__ == "__main__":
    sys.path[0:1] = []  # this folder: its modules are those of a package
    sys.path.append(str(Path(__file__).parents[2]))  # behind the installed package, which is what is tested
    role = sys.argv.pop(1) if sys.argv[1:2] and sys.argv[1] in ROLES else "main"
    runpy.run_module(f"tests.proof.{role}", run_name="__main__")
