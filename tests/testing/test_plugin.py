"""The pytest plugin, in a pytest of its own: the same tests under another PYTHONHASHSEED must leave the same logs."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

HEAD = """
import enum

import anyio
import pytest

from skuld_async import Effect, Effectful, Return, Yield, computation


class Note(Effect[str], frozen=True):
    text: str


class Ask(Yield[str], frozen=True):
    pass


@pytest.fixture
def anyio_backend():
    return "asyncio"


WORDS = {"alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"}


@computation
async def visits(words: list[str]) -> Effectful[None]:
    for word in words:
        yield Note(word)


@computation
async def longest() -> Effectful[str]:
    yield Note("one")
    yield Return("".join(WORDS))
"""
CLEAN = """

@pytest.mark.anyio
async def test_clean(always_cold):
    @computation
    async def sorts() -> Effectful[str]:
        for word in sorted(WORDS):
            yield Note(word)
        answer = yield Ask()
        yield Return(answer)

    outcome = await always_cold(sorts(), Note.handled_by(lambda effect: effect.text), answer=lambda _: "yes")
    assert outcome.value == "yes"
"""
WITHOUT_AN_ORDER = """

class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"
    GREEN = "green"
    GREY = "grey"


class Paint(Effect[frozenset[Colour]], frozen=True):
    colours: frozenset[Colour]


@pytest.mark.anyio
async def test_without_an_order(always_cold):
    @computation
    async def paints() -> Effectful[frozenset[Colour]]:
        colours = yield Paint(frozenset(Colour))
        yield Return(colours)

    await always_cold(paints(), Paint.handled_by(lambda effect: effect.colours))
"""
IN_THE_DATA = """

@pytest.mark.anyio
async def test_visits_a_set(always_cold):
    @computation
    async def unsorted() -> Effectful[None]:
        for word in WORDS:
            yield Note(word)

    await always_cold(unsorted(), Note.handled_by(lambda effect: effect.text))
"""
IN_THE_RESULT = """

@pytest.mark.anyio
async def test_returns_a_set(always_cold):
    await always_cold(longest(), Note.always(""))
"""
BY_ITS_HASH = """

@pytest.mark.anyio
@pytest.mark.parametrize("word", ["with space", "and[brackets]"])
async def test_takes_a_path_by_a_hash(always_cold, word):
    @computation
    async def chooses() -> Effectful[None]:
        yield Note(str(hash(word)))

    await always_cold(chooses(), Note.always(""))
"""
UNUSED = """

def test_without_the_fixture():
    assert WORDS


def test_that_calls_it_not(always_cold):
    assert callable(always_cold)
"""
FAILING = """

@pytest.mark.anyio
async def test_finds_the_time(always_cold):
    import time

    @computation
    async def times() -> Effectful[None]:
        yield Note("before")
        yield Note(str(time.perf_counter_ns()))
        yield Note("after")

    await always_cold(times(), Note.always(""))
"""


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.delenv("SKULD_ALWAYS_COLD_REPORT", raising=False)
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    return pytester


def run(inner: pytest.Pytester, *parts: str) -> pytest.RunResult:
    inner.makepyfile("".join((HEAD, *parts)))
    return inner.runpytest_subprocess("-p", "no:cacheprovider")


def test_a_clean_session_passes(inner: pytest.Pytester) -> None:
    """A workflow that sorts its sets leaves the same log under each hash seed, and the summary counts it."""
    result = run(inner, CLEAN)
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["always_cold: 1 tests, 0 differ under another PYTHONHASHSEED"])


def test_sets_without_an_order_are_no_difference(inner: pytest.Pytester) -> None:
    """What a set of enums holds does not depend on the hash seed, although the order in which it comes does."""
    result = run(inner, WITHOUT_AN_ORDER)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["always_cold: 1 tests, 0 differ under another PYTHONHASHSEED"])


def test_a_log_that_depends_on_the_hash_seed_fails_the_session(inner: pytest.Pytester) -> None:
    """Within one process both runs agree; the second process finds it, and the summary names each test."""
    result = run(inner, CLEAN, IN_THE_DATA, IN_THE_RESULT, BY_ITS_HASH)
    result.assert_outcomes(passed=5)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    names = [
        "visits_a_set",
        "returns_a_set",
        "takes_a_path_by_a_hash[[]with space]",
        "takes_a_path_by_a_hash[[]and[[]brackets]]",
    ]
    result.stdout.fnmatch_lines([f"FAILED *::test_{name} - its log depends on PYTHONHASHSEED*" for name in names])
    result.stdout.no_fnmatch_line("FAILED *::test_clean - *")
    result.stdout.fnmatch_lines(["always_cold: 5 tests, 4 differ under another PYTHONHASHSEED"])


def test_a_session_without_the_fixture_starts_no_second_one(inner: pytest.Pytester) -> None:
    """Where no test uses the fixture, nothing is run twice and nothing is said."""
    (Path(inner.path) / "count.txt").write_text("", encoding="utf-8")
    inner.makeconftest("with open('count.txt', 'a') as file: file.write('x')")
    result = run(inner, "\n\ndef test_plain():\n    pass\n")
    result.assert_outcomes(passed=1)
    assert (Path(inner.path) / "count.txt").read_text(encoding="utf-8") == "x"
    result.stdout.no_fnmatch_line("always_cold: *")


def test_only_its_tests_run_twice(inner: pytest.Pytester) -> None:
    """The second process runs the tests that used the fixture, and no others."""
    count = """

def test_counted():
    with open("count.txt", "a") as file:
        file.write("x")
"""
    result = run(inner, CLEAN, UNUSED, count)
    result.assert_outcomes(passed=4)
    assert result.ret == pytest.ExitCode.OK
    assert (Path(inner.path) / "count.txt").read_text(encoding="utf-8") == "x"


def test_a_session_that_failed_is_not_compared(inner: pytest.Pytester) -> None:
    """What fails already is reported as what it is."""
    result = run(inner, CLEAN, FAILING, IN_THE_DATA)
    result.assert_outcomes(passed=2, failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.no_fnmatch_line("*depends on PYTHONHASHSEED*")
    result.stdout.fnmatch_lines(["*DivergenceError: Note is requested with other data than the log holds*"])


def test_a_second_session_that_cannot_run_says_so(inner: pytest.Pytester) -> None:
    """Where the second process does not get to the tests, the message is not that their logs differ."""
    inner.makeconftest(
        "import os\nif 'SKULD_ALWAYS_COLD_REPORT' in os.environ: raise RuntimeError('this database is not there twice')"
    )
    result = run(inner, CLEAN)
    assert result.ret != pytest.ExitCode.OK
    said = f"{result.stdout}{result.stderr}"
    assert "depends on PYTHONHASHSEED" not in said
    assert "this database is not there twice" in said
