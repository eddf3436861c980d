"""The pytest plugin: the fixture ``always_cold``, compared over two values of PYTHONHASHSEED.

After the tests, those that used the fixture run once more in a child process with another hash seed, and the logs of
both processes must be the same: a workflow that iterates over a set of strings is found here, not after a deployment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from typing_extensions import TypeVar, Unpack

from .cold import always_cold as run_always_cold
from .cold import by_strand, shown, shown_value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skuld_async._computation import Computation
    from skuld_async._handler import Handler
    from skuld_async.log.options import Options
    from skuld_async.log.outcome import Outcome

T = TypeVar("T")

_REPORT = "SKULD_ALWAYS_COLD_REPORT"
"""Environment variable that makes this process the child: the file to write the logs to."""

_logs = pytest.StashKey[dict[str, list[Any]]]()
_differing = pytest.StashKey[list[str]]()


class AlwaysCold(Protocol):
    """The fixture ``always_cold``: `skuld_async.testing.always_cold`."""

    async def __call__(
        self,
        comp: Computation[T],
        *handlers: Handler,
        answer: Callable[[Any], Any] | None = None,
        fresh: Callable[[], Sequence[Handler]] | None = None,
        **options: Unpack[Options],
    ) -> Outcome[T]:
        """Run *comp* straight and cold, and compare."""
        ...


@pytest.fixture
def always_cold(request: pytest.FixtureRequest) -> AlwaysCold:
    """`skuld_async.testing.always_cold`, run in a second process with another PYTHONHASHSEED as well."""
    logs = request.config.stash[_logs].setdefault(request.node.nodeid, [])

    async def run(comp: Any, *handlers: Any, **options: Any) -> Any:
        outcome = await run_always_cold(comp, *handlers, **options)
        entries = [shown(entry) for entry in by_strand(outcome.log)]
        logs.append([entries, shown_value(outcome)])
        return outcome

    return run


def pytest_configure(config: pytest.Config) -> None:
    """Nothing was run yet."""
    config.stash[_logs] = {}
    config.stash[_differing] = []


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Compare with a process of another hash seed."""
    logs = json.loads(json.dumps(session.config.stash[_logs]))
    report = os.environ.get(_REPORT)
    if report is not None:
        Path(report).write_text(json.dumps(logs), encoding="utf-8")
    elif logs and session.testsfailed == 0:
        other, output = _run_child(session.config, list(logs))
        if other is None:
            message = f"always_cold: the process with another PYTHONHASHSEED did not run the tests:\n{output}"
            raise pytest.UsageError(message)
        session.config.stash[_differing] = [node for node in logs if other.get(node) != logs[node]]
        if session.config.stash[_differing]:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say what differed."""
    compared = config.stash[_logs]
    if not compared or _REPORT in os.environ:
        return
    differing = config.stash[_differing]
    for node in differing:
        terminalreporter.write_line(f"FAILED {node} - its log depends on PYTHONHASHSEED (a set of strings?)", red=True)
    terminalreporter.write_line(
        f"always_cold: {len(compared)} tests, {len(differing)} differ under another PYTHONHASHSEED"
    )


def _run_child(config: pytest.Config, nodes: list[str]) -> tuple[dict[str, Any] | None, str]:
    """The logs of a process with another hash seed, None if it wrote none; and what it printed."""
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    with tempfile.TemporaryDirectory() as folder:
        report, arguments = Path(folder, "report.json"), Path(folder, "nodes.txt")
        arguments.write_text("\n".join(nodes), encoding="utf-8")
        child = subprocess.run(  # noqa: S603 - this interpreter, with the tests that just ran
            [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", f"@{arguments}"],
            cwd=config.rootpath,
            env={**os.environ, "PYTHONHASHSEED": seed, _REPORT: str(report)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return json.loads(report.read_text(encoding="utf-8")) if report.exists() else None, child.stdout
