"""Writes docs/timeline.svg: `python docs/make_timeline.py`. What it draws is what two real stretches of a run did."""

import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import anyio

from skuld_async import Effect, Effectful, Log, Observation, Return, Suspended, Yield, computation, port, resume, start

PICTURE = Path(__file__).with_name("timeline.svg")

# The workflow of README.md, under the names that it has there.


class Approve(Yield[Literal["yes", "no"]], frozen=True):
    __sig__ = "purchase:Approve"
    item: str
    price: int


@port(sig="purchase:quote")
async def quote(item: str) -> int:
    return 1299 if item == "laptop" else 0


@port(sig="purchase:order")
async def order(item: str) -> str:
    return "order B-1" if item == "laptop" else "nothing"


@computation(name="purchase:purchase")
async def purchase(item: str) -> Effectful[str]:
    price = yield quote(item)
    answer = yield Approve(item, price)
    if answer == "yes":
        result = yield order(item)
        yield Return(result)
    else:
        yield Return("nothing bought")


@dataclass
class Step:
    """One request, and its entry as the log had it then."""

    effect: Effect[Any]
    how: Literal["live", "replayed", "waits", "answered"]
    answer: Any
    entry: str
    state: str


@dataclass
class Story:
    first: list[Step]
    kept: int
    """Bytes of the log between the two processes."""
    second: list[Step]
    result: str


async def tell() -> Story:
    """Run the workflow in two stretches, with nothing between them but bytes."""
    handlers = [quote.default(), order.default()]
    seen: list[Observation] = []
    outcome = await start(purchase("laptop"), *handlers, id="req-42", observe=[seen.append])
    kept = outcome.log.to_json()
    assert isinstance(outcome, Suspended)
    assert outcome.wait is not None
    first = [*steps(seen, outcome.log), Step(outcome.question, "waits", None, outcome.wait.id, "started")]
    seen.clear()
    outcome = await resume(purchase("laptop"), Log.from_json(kept), *handlers, answer="yes", observe=[seen.append])
    return Story(first, len(kept), steps(seen, outcome.log), outcome.value)


def steps(seen: list[Observation], log: Log) -> list[Step]:
    states = {entry.id: entry.state for entry in log.entries}
    return [Step(one.request.effect, how(one), one.answer, one.request.id, states[one.request.id]) for one in seen]


def how(one: Observation) -> Literal["live", "replayed", "answered"]:
    if one.replayed:
        return "replayed"
    return "answered" if isinstance(one.request.effect, Yield) else "live"


# The drawing: three lanes, time runs downwards.

WIDTH, ROW, BOX = 800, 60, 46
LANES = {"first": 26, "log": 294, "second": 562}
LANE, PAD = 212, 12
INK, FAINT, LINE, PAPER, CARD = "#1f2328", "#59636e", "#d1d9e0", "#ffffff", "#f6f8fa"
FILL = {"live": "#ddf4ff", "replayed": "#eff1f3", "waits": "#fff8c5", "answered": "#dafbe1"}
EDGE = {"live": "#0969da", "replayed": "#818b98", "waits": "#9a6700", "answered": "#1a7f37"}
MEANS = {
    "live": "performed",
    "waits": "asked: the run stops here",
    "replayed": "answered from the log, nothing is called",
    "answered": "the answer is decoded, then kept",
}


class Drawing:
    """Lines of SVG, from top to bottom."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def text(self, x: float, y: float, words: str, style: str = "", color: str = INK) -> None:
        self.parts.append(f'<text x="{x}" y="{y}" fill="{color}"{style and " " + style}>{html.escape(words)}</text>')

    def box(self, x: float, y: float, height: float, fill: str, edge: str, *, dashed: bool = False) -> None:
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{LANE}" height="{height}" rx="6" fill="{fill}" stroke="{edge}"'
            f"{DASHED if dashed else ''}/>"
        )

    def lane(self, lane: str, words: str, top: float, bottom: float) -> None:
        """The background of a lane, for as long as what it is about exists, with its name above."""
        x = LANES[lane]
        self.text(x + LANE / 2, top - 10, words, BOLD)
        self.parts.append(
            f'<rect x="{x - PAD}" y="{top}" width="{LANE + 2 * PAD}" height="{bottom - top}" rx="8" fill="{CARD}"'
            f' stroke="{LINE}"/>'
        )

    def arrow(self, start: float, end: float, y: float, color: str) -> None:
        tip = 7 if end > start else -7
        self.parts.append(f'<path d="M{start} {y}H{end - tip}" stroke="{color}" stroke-width="2" fill="none"/>')
        self.parts.append(f'<path d="M{end} {y}l{-tip} -5v10z" fill="{color}"/>')


def document() -> str:
    """The picture, as the file holds it."""
    story = anyio.run(tell)
    drawing = Drawing()
    top = 58
    end = top + len(story.first) * ROW + 22
    again = end + 96
    bottom = again + len(story.second) * ROW + 22

    drawing.lane("first", "process 1", top - PAD, end)
    drawing.lane("log", "the log: req-42.json", top - PAD, bottom)
    drawing.lane("second", "process 2", again - PAD, bottom)
    stretch(drawing, "first", story.first, top)
    drawing.text(LANES["first"] + LANE / 2, end - 10, "the process ends", MIDDLE, FAINT)

    middle = end + 36
    drawing.parts.append(f'<path d="M14 {middle}H786" stroke="{LINE}" stroke-width="2" stroke-dasharray="3 6"/>')
    drawing.text(LANES["first"] + LANE / 2, middle + 22, "three weeks pass", MIDDLE, FAINT)
    drawing.box(LANES["log"], middle - 18, 36, PAPER, LINE)
    drawing.text(LANES["log"] + LANE / 2, middle + 5, f"{story.kept} bytes, and no process", MIDDLE)

    stretch(drawing, "second", story.second, again)
    drawing.text(LANES["second"] + LANE / 2, bottom - 10, f"returns {story.result!r}", MIDDLE, FAINT)
    legend(drawing, bottom + 34)

    height = bottom + 76
    font = "ui-sans-serif, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        f' font-family="{font}" font-size="13" role="img" aria-label="{html.escape(spoken(story))}">'
    )
    paper = f'<rect width="{WIDTH}" height="{height}" rx="10" fill="{PAPER}" stroke="{LINE}"/>'
    return "\n".join([opening, paper, *drawing.parts, "</svg>\n"])


DASHED = ' stroke-dasharray="5 4"'
CODE = 'font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, \'DejaVu Sans Mono\', monospace" font-size="12.5"'
BOLD = 'font-weight="600" font-size="14" text-anchor="middle"'
MIDDLE = 'text-anchor="middle"'


def stretch(drawing: Drawing, lane: str, made: list[Step], top: float) -> None:
    """The requests of one process, each with its entry beside it."""
    left, log = LANES[lane], LANES["log"]
    inner, outer = (left + LANE, log) if left < log else (left, log + LANE)
    for number, step in enumerate(made):
        y = top + number * ROW
        color = EDGE[step.how]
        drawing.box(left, y, BOX, FILL[step.how], color)
        drawing.text(left + 12, y + 19, call(step.effect), CODE)
        drawing.text(left + 12, y + 37, note(step), color=FAINT if step.how == "replayed" else color)
        drawing.box(log, y, BOX, PAPER, color, dashed=step.state == "started")
        drawing.text(log + 12, y + 19, f"{step.entry}  {type(step.effect).__name__}", CODE)
        drawing.text(log + 12, y + 37, step.state, color=FAINT)
        if step.answer is not None:
            drawing.text(log + LANE - 12, y + 37, repr(step.answer), f'{CODE} text-anchor="end"')
        ends = (outer, inner) if step.how == "replayed" else (inner, outer)
        drawing.arrow(*ends, y + BOX / 2, color)


def call(effect: Effect[Any]) -> str:
    values = ", ".join(repr(getattr(effect, name)) for name in effect.__struct_fields__)
    return f"{type(effect).__name__}({values})"


def note(step: Step) -> str:
    return {
        "live": "called",
        "waits": "asks, and stops",
        "replayed": "not called again",
        "answered": f"answered: {step.answer!r}",
    }[step.how]


def legend(drawing: Drawing, y: float) -> None:
    for number, (kind, words) in enumerate(MEANS.items()):
        x, line = 26 + number % 2 * 330, y + number // 2 * 24
        drawing.parts.append(
            f'<rect x="{x}" y="{line - 11}" width="14" height="14" rx="3" fill="{FILL[kind]}" stroke="{EDGE[kind]}"/>'
        )
        drawing.text(x + 22, line, words, color=FAINT)


def spoken(story: Story) -> str:
    """The picture in words."""
    parts = [("Process 1", story.first), ("Process 2", story.second)]
    told = [f"{name}: " + ", ".join(f"{call(step.effect)} {note(step)}" for step in made) for name, made in parts]
    return f"{told[0]}. It ends; {story.kept} bytes are kept. {told[1]}. It returns {story.result!r}."


if __name__ == "__main__":
    PICTURE.write_text(document(), encoding="utf-8")
