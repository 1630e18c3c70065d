"""Pages are written here: templates filled in, links relative, the same head and menu on all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from xstilts.analysis import numbers
from xstilts.report.assets import TEMPLATES
from xstilts.report.lineage import href_of
from xstilts.report.material import Material


class Site:
    """A site while it is written.

    Args:
        folder: Where.
        material: The study.
    """

    def __init__(self, folder: Path, material: Material) -> None:
        self.folder, self.pages = folder, 0
        self.environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.environment.filters["prose"] = prose
        self.environment.globals |= {
            "study": material,
            "menu": _menu(material),
            "n": numbers,
            "href_of": href_of,
        }

    def write(self, path: str, template: str, title: str, **content: Any) -> None:
        """Write a page.

        Args:
            path: Its file, from the root of the report.
            template: Its template.
            title: What it is called.
            content: What the template fills in.
        """
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        root = "../" * path.count("/")
        page = self.environment.get_template(template)
        text = page.render(path=path, root=root, title=title, **content)
        place.write_text(text, encoding="utf-8")
        self.pages += 1


def prose(text: str) -> Markup:
    """A sentence of an answer: back quotes make code, and a percent sign keeps to its number."""
    parts = text.replace(" %", "\N{NO-BREAK SPACE}%").split("`")
    if len(parts) % 2 == 0:
        return escape("`".join(parts))
    marked = [
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part)
        for place, part in enumerate(parts)
    ]
    return Markup("").join(marked)


def _menu(material: Material) -> list[tuple[str, str, str]]:
    """Sections of the site: title, page, and how the paths of their pages begin."""
    found = [("Overview", "index.html", "index.html")]
    if material.answers:
        found.append(("Questions", "questions.html", "questions"))
    return [
        *found,
        ("Targets", "targets.html", "targets"),
        ("Languages", "languages.html", "languages"),
        ("Explorer", "explorer.html", "explorer"),
        ("Lineage", "lineage.html", "lineage"),
        ("Methods", "methods.html", "methods"),
        *([("Prompts", "prompts.html", "prompts")] if material.spec.get("prompts") else []),
    ]
