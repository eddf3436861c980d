"""Every realistic computation of tests/corpus.py, suspended and resumed at each of its effects."""

import pytest

from skuld_async.testing.plugin import AlwaysCold
from tests.corpus import CASES, Case


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_the_corpus_is_always_cold(case: Case, always_cold: AlwaysCold) -> None:
    """6.9, 6.11, 7.5 Suspended, encoded, decoded and resumed at every effect, it comes to the same."""
    outcome = await always_cold(case.make(), answer=case.answer, fresh=case.handlers, **case.options)
    assert type(outcome).__name__ == case.ends
    assert outcome.log.header.status == case.ends.lower()
