"""docs/timeline.svg: the picture is what two real stretches of a run did."""

import runpy

from .pages import ROOT


def test_the_stored_picture_is_that_of_a_real_run() -> None:
    """`python docs/make_timeline.py` would change nothing."""
    script = runpy.run_path(str(ROOT / "docs" / "make_timeline.py"))

    assert script["PICTURE"].read_text(encoding="utf-8") == script["document"]()


def test_the_picture_shows_the_workflow_of_the_readme() -> None:
    """What is drawn in the lane of the log stands in README.md, entry by entry."""
    script = runpy.run_path(str(ROOT / "docs" / "make_timeline.py"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    story = script["anyio"].run(script["tell"])

    rows = [f"{step.entry}    {step.state}  {type(step.effect).__name__}" for step in story.second]
    assert len(rows) == 3
    assert [row for row in rows if row not in readme] == []
