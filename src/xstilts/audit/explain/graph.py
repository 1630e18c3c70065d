"""A small graph of what something was made from: Graphviz's DOT, or an SVG drawn here.

Data of one data set are one box, whatever their number of languages.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xstilts.audit.ancestry import Ancestry
from xstilts.audit.explain.facts import title_of
from xstilts.report.lineage import STAGES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Stages from left to right: data first, scores last.
_STAGES = (
    *("fetch_translator", "fetch", "prepare", "translate", "tokenizer", "tokens", "prompts"),
    *("fetch_model", "pretrain", "intermediate", "finetune", "merge", "sweep", "testset"),
    *("evaluate", "score"),
)
_LAYERS = [STAGES[stage] for stage in _STAGES]
_BOX = (2.1, 0.62)
_GAP = (0.5, 0.18)
_LETTERS = 26
_HELD = 5


@dataclass(frozen=True)
class Box:
    """Artifacts that stand together.

    Attributes:
        name: Their folder, or the folder above them.
        title: What they are.
        lines: What is written in the box.
        is_wrong: Whether something is wrong with one of them.
    """

    name: str
    title: str
    lines: tuple[str, ...]
    is_wrong: bool


def boxes_of(ancestry: Ancestry) -> tuple[list[Box], list[tuple[str, str]]]:
    """The boxes of a graph, and its arrows from what is used to what was made from it.

    An arrow is left out where others lead the same way through another box.
    """
    members: dict[str, list[str]] = {}
    names: dict[str, str] = {}
    for out in sorted(ancestry.artifacts):
        is_data = out.startswith("data/") and ancestry.artifacts[out].manifest is not None
        names[out] = out.rpartition("/")[0] if is_data else out
        members.setdefault(names[out], []).append(out)
    boxes = [_box(ancestry, name, outs) for name, outs in sorted(members.items())]
    arrows = {
        (names[link.out], names[out]) for out, links in ancestry.links.items() for link in links
    }
    return boxes, _direct({arrow for arrow in arrows if arrow[0] != arrow[1]})


def _direct(arrows: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """Arrows that no other way implies."""
    after: dict[str, set[str]] = {}
    for source, target in arrows:
        after.setdefault(source, set()).add(target)

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        waiting = [*after.get(start, ())]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += after.get(name, ())
        return found

    beyond = {name: reached(name) for name in after}
    return sorted(
        (source, target)
        for source, target in arrows
        if not any(
            # In a circle each box is beyond the other: there all arrows stay.
            target in beyond.get(other, ()) and other not in beyond.get(target, ())
            for other in after[source] - {target}
        )
    )


def _box(ancestry: Ancestry, name: str, outs: list[str]) -> Box:
    first = ancestry.artifacts[outs[0]]
    if len(outs) == 1:
        last = f"sha256 {first.sha256[:12]}" if first.sha256 else "missing"
        name_shown = outs[0]
    else:
        codes = [out.rpartition("/")[2] for out in outs]
        held = ", ".join(codes[:_HELD]) + (" …" if len(codes) > _HELD else "")
        name_shown, last = name, f"{len(outs)}: {held}"
    wrong = any(ancestry.problems[out] for out in outs)
    return Box(name, title_of(first), (*_folded(name_shown), last), wrong)


def _folded(path: str) -> list[str]:
    """A path in lines that fit a box, broken at its slashes."""
    lines = [""]
    for part in path.split("/"):
        piece = f"{part}/"
        if lines[-1] and len(lines[-1]) + len(piece) > _LETTERS:
            lines.append("")
        lines[-1] += piece
    return [*lines[:-1], lines[-1].removesuffix("/")]


def write_graph(ancestry: Ancestry, path: Path) -> None:
    """Write the graph; the file's ending says as what (`.dot`, `.svg`)."""
    if path.suffix == ".dot":
        path.write_text(dot(ancestry), encoding="utf-8")
    else:
        _draw(ancestry, path)


def dot(ancestry: Ancestry) -> str:
    """The graph as DOT; the same artifacts give the same text."""
    boxes, arrows = boxes_of(ancestry)
    lines = ["digraph xstilts {", '  rankdir="LR"', '  node [shape="box" fontsize="10"]']
    for box in boxes:
        label = _quoted("\n".join([box.title, *box.lines]))
        colour = ' color="#D55E00"' if box.is_wrong else ""
        lines.append(f"  {_quoted(box.name)} [label={label}{colour}]")
    for title in dict.fromkeys(box.title for box in boxes):
        same = " ".join(_quoted(box.name) for box in boxes if box.title == title)
        lines.append(f'  {{ rank="same" {same} }}')
    lines += [f"  {_quoted(source)} -> {_quoted(target)}" for source, target in arrows]
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


# ---- SVG


def _draw(ancestry: Ancestry, path: Path) -> None:
    """Draw boxes in columns, one for each kind."""
    from xstilts.analysis.figures import save

    boxes, arrows = boxes_of(ancestry)
    columns = _columns(boxes)
    rows = max(len(column) for _, column in columns)
    size = (len(columns) * (_BOX[0] + _GAP[0]) + 0.3, (rows + 1) * (_BOX[1] + _GAP[1]) + 0.3)

    def draw(figure: Figure) -> None:
        figure.set_layout_engine("none")  # places are set here
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, size[0]), ylim=(size[1], 0))
        axes.axis("off")
        places = _place(axes, columns, rows)
        for source, target in arrows:
            _arrow(axes, places[source], places[target])

    save(draw, size, path)


def _columns(boxes: Iterable[Box]) -> list[tuple[str, list[Box]]]:
    found: dict[str, list[Box]] = {}
    for box in boxes:
        found.setdefault(box.title, []).append(box)
    last = len(_LAYERS)
    return sorted(
        found.items(),
        key=lambda item: (_LAYERS.index(item[0]) if item[0] in _LAYERS else last, item[0]),
    )


def _place(
    axes: Axes, columns: list[tuple[str, list[Box]]], rows: int
) -> dict[str, tuple[float, float]]:
    """Draw the boxes; the left upper corner of each."""
    from matplotlib.patches import Rectangle

    places = {}
    for number, (title, boxes) in enumerate(columns):
        left = 0.2 + number * (_BOX[0] + _GAP[0])
        axes.text(left, 0.45, title, fontsize=10, weight="bold", va="bottom")
        above = (rows - len(boxes)) / 2
        for row, box in enumerate(boxes):
            top = 0.2 + (1 + above + row - 0.4) * (_BOX[1] + _GAP[1])
            places[box.name] = (left, top)
            edge = "#D55E00" if box.is_wrong else "0.35"
            axes.add_patch(
                Rectangle((left, top), *_BOX, facecolor="white", edgecolor=edge, zorder=2)
            )
            text = "\n".join(box.lines)
            middle = top + _BOX[1] / 2
            axes.text(left + 0.08, middle, text, fontsize=7, va="center", zorder=3)
    return places


def _arrow(axes: Axes, source: tuple[float, float], target: tuple[float, float]) -> None:
    middle = _BOX[1] / 2
    start, end = (source[0] + _BOX[0], source[1] + middle), (target[0], target[1] + middle)
    axes.annotate(
        "",
        xy=end,
        xytext=start,
        arrowprops={
            "arrowstyle": "-|>",
            "color": "0.6",
            "linewidth": 0.7,
            "shrinkA": 0,
            "shrinkB": 0,
        },
        zorder=1,
    )
