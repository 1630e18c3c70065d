"""The explorer: all scores in one script file, and a page on which they can be looked at freely.

Pages that are opened from disk may not fetch files, but they may load scripts.
"""

from __future__ import annotations

import json
from typing import Any

from xstilts.analysis.numbers import STEPS
from xstilts.analysis.study import Row
from xstilts.evaluation.metrics.table import metric_named
from xstilts.report.material import Material
from xstilts.report.site import Site

#: Decimals in the script.
_DIGITS = 3


def write(site: Site, material: Material) -> None:
    """Write `explorer.html` and its data, `static/scores.js`."""
    text = json.dumps(content(material), ensure_ascii=False, separators=(",", ":"))
    # A script file ends at no tag, but U+2028 ends its line in older browsers.
    text = text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    (site.folder / "static" / "scores.js").write_text(
        f"window.XSTILTS = {text};\n", encoding="utf-8"
    )
    site.write("explorer.html", "explorer.html", "Explorer")


def content(material: Material) -> dict[str, Any]:
    """Names, and the mean over seeds of every value of every language.

    `values[model][target][metric][recipe]` is a list in the order of the target's languages; null
    where there is no score.
    """
    targets = []
    for name, row in material.targets.items():
        metric = metric_named(row["metric"], f"target {name}: metric")
        targets.append(
            {
                "name": name,
                "title": row["title"],
                "overall": metric.overall,
                "languages": list(row["languages"]),
            }
        )
    return {
        "study": material.study,
        "source": material.source,
        "seeds": len(material.seeds),
        "steps": STEPS,
        "models": [{"name": n, "title": material.model_title(n)} for n in material.models],
        "recipes": list(material.recipes),
        "targets": targets,
        "languages": [
            {"code": code, "name": row["name"]} for code, row in material.languages.items()
        ],
        "values": _values(material),
    }


def _values(material: Material) -> Row:
    sums: dict[tuple[str, ...], list[float]] = {}
    for row in material.table("scores.csv"):
        key = (row["model"], row["target"], row["metric"], row["recipe"], row["language"])
        sums.setdefault(key, []).append(float(row["value"]))
    found: Row = {}
    for (model, target, metric, recipe, language), values in sums.items():
        codes: list[str] = material.targets[target]["languages"]
        by_metric = found.setdefault(model, {}).setdefault(target, {}).setdefault(metric, {})
        line = by_metric.setdefault(recipe, [None] * len(codes))
        line[codes.index(language)] = round(sum(values) / len(values), _DIGITS) + 0.0
    return found
