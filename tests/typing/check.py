"""Check the types as users meet them: the installed package, no settings of ours, each checker's own default mode.

`nox -s types` runs this beside the strict checks of the whole project. api.py and north_star.py must be accepted; in
errors.py exactly the marked lines must be reported: the checkers themselves report a mark without an error.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nox

HERE = Path(__file__).parent
FILES = ["__init__.py", "api.py", "errors.py", "north_star.py"]
PYTHONS = nox.project.python_versions(nox.project.load_toml(HERE.parents[1] / "pyproject.toml"))


def passes(folder: Path, *command: str) -> bool:
    """Whether *command* succeeds in *folder*; what it says is shown."""
    print("$", *command, flush=True)
    return subprocess.run([sys.executable, "-m", *command], cwd=folder, check=False).returncode == 0


def main() -> int:
    """Run both checkers for each Python; the number of runs that failed."""
    settings = {"enableTypeIgnoreComments": False, "reportUnnecessaryTypeIgnoreComment": "error"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "examples").mkdir()
        for file in FILES:
            shutil.copy(HERE / file, folder / "examples" / file)
        (folder / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
        results: list[bool] = []
        for version in PYTHONS:
            results += [
                passes(folder, "mypy", "--python-version", version, "--warn-unused-ignores", "examples"),
                passes(folder, "pyright", "--pythonversion", version, "--pythonpath", sys.executable),
            ]
    return results.count(False)


if __name__ == "__main__":
    sys.exit(main())
