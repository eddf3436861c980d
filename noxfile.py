"""The project's checks. ``nox -l`` lists them; ``nox -s tests`` is the first one to run.

The supported Pythons are those of the classifiers in pyproject.toml. Every suite runs on the built wheel.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"  # others may keep a wheel of yesterday's sources in their cache
nox.options.error_on_external_run = True
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["tests", "lint", "types"]

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)
CURRENT = f"{sys.version_info.major}.{sys.version_info.minor}"


def find_python(version: str) -> str | None:
    """An interpreter of this version that runs, or None.

    A `pythonX.Y` on PATH is not enough: pyenv puts a shim there for every version it has, and those of the versions
    that are not active only print an error. Their interpreters stand in pyenv's own folder.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    on_path = shutil.which(f"python{version}")
    candidates = [on_path] if on_path else []
    candidates += [str(python) for python in sorted(pyenv.glob(f"{version}.*/bin/python{version}"), reverse=True)]
    tell = "import sys; print('%d.%d' % sys.version_info[:2])"
    for candidate in candidates:
        told = subprocess.run([candidate, "-c", tell], capture_output=True, text=True, check=False)
        if told.stdout.strip() == version:
            return candidate
    return None


def install(session: nox.Session, *groups: str) -> None:
    """Install the project as its users get it, and the tools of these dependency groups."""
    session.install(".", *nox.project.dependency_groups(PROJECT, *groups))


def report(session: nox.Session) -> str:
    """Where this session's test results go; .ci/run counts in them what was skipped."""
    return f"--junit-xml=.reports/{session.name}.xml"


@nox.session
def demo(session: nox.Session) -> None:
    """Run the approval workflow from its first process to its last."""
    install(session, "demo")
    session.run("python", "docs/examples/approval/run_all.py", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests on the current Python, and measure what they cover."""
    install(session, "tests", "demo")
    session.run("coverage", "erase")
    # -P: not the folder we stand in, but the installed wheel.
    session.run("python", "-P", "-m", "coverage", "run", "-m", "pytest", report(session), *session.posargs)
    session.run("coverage", "combine", "--quiet")
    if not session.posargs:  # a part of the tests covers a part of the code
        session.run("coverage", "report")


def tests_on(version: str) -> None:
    """Add the session that runs the tests on this Python, without tracing."""
    interpreter = find_python(version)

    @nox.session(name=f"tests-{version}", python=interpreter, venv_backend=None if interpreter else "none")
    def on_this_python(session: nox.Session) -> None:
        if interpreter is None:
            session.skip(f"NOT TESTED on Python {version}: it is not installed here")
        install(session, "tests", "demo")
        session.run("pytest", report(session), *session.posargs)

    on_this_python.__doc__ = f"Run the tests on Python {version}."


for _version in PYTHONS:
    tests_on(_version)


@nox.session(name="tests-all", venv_backend="none")
def tests_all(session: nox.Session) -> None:
    """Run the tests on every supported Python that is installed, then the mutants.

    Random concurrent programs are three times as many as in the other sessions, and each is cut three times as often,
    unless RANDOM_PROGRAMS says how many times. With `-- --others` the current Python is left out, and the programs are
    as many as elsewhere; all further arguments go to pytest.
    """
    others = "--others" in session.posargs
    if not others:
        os.environ.setdefault("RANDOM_PROGRAMS", "3")
    posargs = [argument for argument in session.posargs if argument != "--others"]
    for version in PYTHONS:
        if not (others and version == CURRENT):
            session.notify(f"tests-{version}", posargs)
    session.notify("mutants", [])


@nox.session
def mutants(session: nox.Session) -> None:
    """Break each promise of the library by one line, and see that its test notices."""
    install(session, "tests", "demo")
    session.run("python", "tests/mutants/run.py", *session.posargs)


@nox.session
def proof(session: nox.Session) -> None:
    """Kill, stop and cheat real workers, and count every effect elsewhere; `-- --full` takes up to an hour."""
    install(session, "tests")
    session.run("python", "tests/proof/run.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format and the direction of imports."""
    session.install(*nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports", "--no-logo", "--no-cache")


@nox.session
def types(session: nox.Session) -> None:
    """Check types with mypy and pyright, both strict, for each Python; then as users do, on the installed package."""
    install(session, "types")
    for version in PYTHONS:
        session.run("mypy", "--python-version", version)
        session.run("pyright", "--pythonversion", version)
    session.run("python", "tests/typing/check.py")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation site into build/site; every warning is an error."""
    session.install(*nox.project.dependency_groups(PROJECT, "docs"))
    session.env["NO_MKDOCS_2_WARNING"] = "1"  # an announcement, no warning about these pages
    session.run("mkdocs", "build", "--config-file", "docs/site/mkdocs.yml", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure; `-- --smoke` only shows that the scripts run, `-- --json` is for machines."""
    install(session, "bench")
    session.run("python", "benchmarks/run.py", *session.posargs)
