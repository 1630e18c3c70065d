"""The methods of a study as text and tables, made from the specs of its artifacts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from xstilts.analysis.numbers import counted, listed, whole
from xstilts.artifacts.manifest import check_file
from xstilts.report import asked
from xstilts.report.lineage import Artifact, Lineage
from xstilts.report.material import Material, one
from xstilts.report.view import Cell, Column, Table

_LABELS = {
    "pretrain": "pretraining",
    "intermediate": "intermediate training",
    "finetune": "fine-tuning",
}
#: Hyper-parameters that a table shows, by their keys in a spec.
_SETTINGS = {
    "learning_rate": "Learning rate",
    "batch_size": "Batch",
    "warmup": "Warm-up",
    "weight_decay": "Weight decay",
    "adam_beta2": "Adam β₂",
    "adam_epsilon": "Adam ε",
    "max_grad_norm": "Clip norm",
    "dropout": "Head dropout",
    "precision": "Precision",
    "select": "Weights kept",
    "evaluate_every": "Evaluated every",
    "restarts": "Restarts",
}


class Methods:
    """Text and tables of the methods page.

    Args:
        material: The study.
        lineage: Its artifacts.
    """

    def __init__(self, material: Material, lineage: Lineage) -> None:
        self.material, self.lineage = material, lineage
        self.tasks: Mapping[str, Any] = material.spec.get("tasks", {})
        self.datasets: Mapping[str, Any] = material.spec.get("datasets", {})

    def task_title(self, name: str) -> str:
        """A task's title."""
        return str(self.tasks.get(name, {}).get("title") or name)

    # ---- text

    def sections(self) -> list[tuple[str, list[str]]]:
        """Headings and their paragraphs."""
        found = [
            ("Models", self._models()),
            ("Intermediate training", self._recipes()),
            ("Fine-tuning and evaluation", self._evaluation()),
            ("Decoders", asked.paragraphs(self.material, self.lineage)),
            ("Seeds and uncertainty", self._seeds()),
        ]
        found += [(answer.title, [" ".join(answer.methods)]) for answer in self._with_methods()]
        kept = [(title, [text for text in texts if text]) for title, texts in found]
        return [(title, texts) for title, texts in kept if texts]

    def _with_methods(self) -> list[Any]:
        return [answer for answer in self.material.answers if answer.methods]

    def _models(self) -> list[str]:
        return [self._model(name, row) for name, row in self.material.models.items()]

    def _model(self, name: str, row: Mapping[str, Any]) -> str:
        title, base = self.material.model_title(name), f"models/{name}/base"
        size = counted(row["layers"], "block") if row.get("layers") else ""
        if row.get("parameters"):
            size += f", {row['parameters'] / 1e6:.1f} million parameters"
        text = f"{title} ({size}) is a pretrained {row.get('kind', 'encoder')}."
        item = self.lineage.artifacts.get(base)
        if item is None or not item.spec:
            return text
        if item.stage == "pretrain":
            return self._pretrained(title, size, item)
        hub = item.spec.get("model", {}).get("hub")
        revision = (item.spec.get("lock") or {}).get("revision")
        return f"{text} Its weights are {hub}, revision {revision or 'not recorded'}."

    def _pretrained(self, title: str, size: str, item: Artifact) -> str:
        mlm, languages = item.spec["mlm"], len(item.spec["inputs"]["tokens"])
        scratch = item.spec["model"].get("scratch") or {}
        vocabulary = f", {whole(scratch['vocab_size'])} sub-words" if scratch else ""
        hidden = f", hidden size {scratch['hidden']}" if scratch else ""
        if mlm["mask"] is None:
            what, how = "causal language modelling", "every next sub-word is predicted"
        else:
            what = "masked language modelling"
            how = f"{100 * mlm['mask']:.0f} % of the sub-words are masked"
        return (
            f"{title} ({size}{hidden}{vocabulary}) was pretrained from scratch in this study, by "
            f"{what} on raw text in {counted(languages, 'language')}: {how}, and languages are "
            f"drawn by their size to the power of {mlm['exponent']:g}."
        )

    def _recipes(self) -> list[str]:
        material = self.material
        trained = [name for name, row in material.recipes.items() if row.get("tasks")]
        tasks = dict.fromkeys(t for name in trained for t in material.recipes[name]["tasks"])
        texts = []
        if tasks:
            texts.append(
                f"Before fine-tuning, a model is trained on "
                f"{counted(len(tasks), 'intermediate task')}: "
                f"{listed([self.task_title(task) for task in tasks])}. "
                f"The study has {counted(len(material.recipes), 'recipe')}; a recipe says which of "
                "them are trained, alone or mixed. The heads of the intermediate tasks are not "
                "used again unless the fine-tuning task has the same head."
            )
        if "none" in material.recipes:
            texts.append("The recipe none goes from the model straight to the target.")
        mixed = [name for name in trained if len(material.recipes[name]["tasks"]) > 1]
        if mixed:
            texts.append(
                "Mixed recipes draw the task of each optimiser step with a weight of "
                "min(size, cap) to the power given below."
            )
        return [" ".join(texts)]

    def _evaluation(self) -> list[str]:
        material = self.material
        tuned = [row["title"] for row in material.targets.values() if row.get("train")]
        plain = [row["title"] for row in material.targets.values() if not row.get("train")]
        source = material.language_name(material.source)
        texts = []
        decoders = asked.decoders(material)
        if tuned and len(decoders) < len(material.models):
            who = "encoders are" if decoders else "the model is"
            texts.append(
                f"For {listed(tuned)}, {who} fine-tuned on data in {source} and tested in "
                "every language without any training in it (zero-shot)."
            )
        if plain:
            texts.append(
                f"For {listed(plain)}, nothing is fine-tuned: the "
                f"{'model' if decoders else 'encoder'} is used as the recipe leaves it."
            )
        texts.append(
            "A target's score is the mean over its languages, the source language included as in "
            "XTREME; zero-shot scores leave it out. Question answering counts the mean of F1 and "
            "exact match."
        )
        return [" ".join(texts), self._choices()]

    def _choices(self) -> str:
        """Settings of the evaluation, as the specs of the predictions hold them."""
        found: dict[str, set[str]] = {}
        for item in self.lineage.of("evaluate"):
            if item.spec.get("format") == "prompted":
                continue  # told of decoders
            decode = item.spec.get("decode") or {}
            shown = ", ".join(f"{key.replace('_', ' ')} {decode[key]}" for key in sorted(decode))
            found.setdefault(str(item.spec.get("target")), set()).add(shown)
        targets: dict[str, list[str]] = {}
        for name in self.material.targets:
            if shown := "; ".join(sorted(filter(None, found.get(name, ())))):
                targets.setdefault(shown, []).append(self.material.target_title(name))
        return " ".join(f"{listed(names)}: {shown}." for shown, names in targets.items())

    def _seeds(self) -> list[str]:
        seeds = [str(seed) for seed in self.material.seeds]
        noun = "seed" if len(seeds) == 1 else "seeds"
        samples = self.material.spec["bootstrap"]["samples"]
        return [
            f"Intermediate training and fine-tuning were run with {noun} {listed(seeds)}, which "
            "decide heads, order of the data and dropout. Scores are means over languages, then "
            "over seeds. Intervals of a language's score are 95 % percentile intervals of "
            f"{whole(samples)} bootstrap samples "
            "of its test examples, the same examples for all systems; they do not hold the "
            "spread over seeds."
        ]

    # ---- tables

    def tables(self) -> list[Table]:
        """Tables of the methods, without those that would be empty."""
        found = [
            self._recipe_table(),
            self._target_table(),
            self._training_table(),
            self._encoding_table(),
            self._data_table(),
        ]
        return [table for table in found if table.rows]

    def _recipe_table(self) -> Table:
        drawn = self._drawn()
        rows = []
        for name, row in self.material.recipes.items():
            tasks = [self.task_title(task) for task in row.get("tasks", ())]
            power, cap, counts = drawn.get(name, ("", "", ""))
            rows.append(
                [
                    Cell(name, code=True),
                    Cell(", ".join(tasks) or "–"),
                    Cell(counts or "–"),
                    Cell("yes" if row.get("mlm") else "no"),
                    Cell(", ".join(row.get("translate") or ()) or "–"),
                    Cell(power if len(tasks) > 1 else "–"),
                    Cell(cap if len(tasks) > 1 else "–"),
                ]
            )
        titles = (
            *("Recipe", "Tasks", "Training examples", "Multilingual MLM", "Translated by"),
            *("Sampling power", "Cap"),
        )
        found = Table("Recipes", [Column(title) for title in titles], rows, id="recipes")
        return _without(found, {"–", "no"})

    def _drawn(self) -> dict[str, tuple[str, str, str]]:
        """Sampling of each recipe, and how many examples its tasks have."""
        found: dict[str, tuple[str, str, str]] = {}
        for item in self.lineage.of("intermediate"):
            recipe = item.out.split("/")[2]
            if recipe in found or "training.json" not in item.files:
                continue
            path = check_file(Path(item.out), "training.json")
            account = json.loads(path.read_text(encoding="utf-8"))
            counts = ", ".join(whole(task["units"]) for task in account["tasks"])
            sampling = item.spec["sampling"]
            cap = "none" if sampling["cap"] is None else whole(sampling["cap"])
            found[recipe] = (f"{sampling['exponent']:g}", cap, counts)
        return found

    def _target_table(self) -> Table:
        rows = [
            [
                Cell(row["title"], href=f"targets/{name}.html"),
                Cell(row["group"]),
                Cell(", then ".join(self.task_title(task) for task in row.get("train", ())) or "–"),
                Cell(row["metric"].replace("_", " ")),
                Cell(whole(len(row["languages"])), len(row["languages"])),
            ]
            for name, row in self.material.targets.items()
        ]
        columns = [
            *map(Column, ("Target", "Group", "Fine-tuned on", "Metric")),
            Column("Languages", True),
        ]
        return Table("Targets", columns, rows, id="targets")

    def _training_table(self) -> Table:
        found: dict[tuple[str, ...], list[Artifact]] = {}
        for item in self.lineage.of("pretrain", "intermediate", "finetune"):
            settings = item.spec["settings"]
            tasks = ", ".join(self.task_title(task["name"]) for task in item.spec.get("tasks", ()))
            model = item.out.split("/")[1]
            if item.spec.get("mlm"):
                text = "MLM" if item.spec["mlm"]["mask"] is not None else "raw text"
                tasks = f"{tasks} + {text}" if tasks else text
            key = (model, item.stage, tasks, json.dumps(settings, sort_keys=True))
            found.setdefault(key, []).append(item)
        order = {stage: place for place, stage in enumerate(_LABELS)}
        models = list(self.material.models)
        keys = sorted(found, key=lambda key: (models.index(key[0]), order[key[1]], key[2:]))
        columns = [
            *map(Column, ("Tasks", "Model", "Stage")),
            *(Column(title, True) for title in ("Steps", "Epochs")),
            *(
                Column(title, key not in ("precision", "select"))
                for key, title in _SETTINGS.items()
            ),
            Column("Adapters"),
        ]
        rows = [self._training_row(key, found[key]) for key in keys]
        if all(row[-1].text == "–" for row in rows):
            columns, rows = columns[:-1], [row[:-1] for row in rows]
        table = Table("Hyper-parameters", columns, rows, id="hyper-parameters")
        return _with_common(table, 5)

    def _training_row(self, key: tuple[str, ...], items: list[Artifact]) -> list[Cell]:
        model, stage, tasks, text = key
        settings = json.loads(text)
        trainings = self.material.trainings
        steps = sorted({trainings[item.out]["steps"] for item in items if item.out in trainings})
        shown = "–".join(dict.fromkeys(whole(n) for n in (*steps[:1], *steps[-1:])))
        if settings["warmup_steps"] is not None:
            settings["warmup"] = f"{whole(settings['warmup_steps'])} steps"
        else:
            settings["warmup"] = f"{100 * settings['warmup']:g} %"
        epochs = "–" if settings["max_steps"] else f"{settings['epochs']:g}"
        return [
            Cell(tasks),
            Cell(self.material.model_title(model)),
            Cell(_LABELS[stage]),
            Cell(shown or "–", steps[0] if steps else None),
            Cell(epochs),
            *(_setting(settings[name]) for name in _SETTINGS),
            Cell(asked.lora_text(settings["lora"]) if settings.get("lora") else "–"),
        ]

    def _encoding_table(self) -> Table:
        found: dict[tuple[str, str], dict[str, list[Any]]] = {}
        for item in self.lineage.of("tokens", "prompts"):
            encoding, (model, dataset) = item.spec["encoding"], item.out.split("/")[2:4]
            entry = found.setdefault((dataset, model), {})
            for key, value in encoding.items():
                if value not in entry.setdefault(key, []):
                    entry[key].append(value)
            kind = "prompted" if item.stage == "prompts" else item.spec["format"]
            entry.setdefault("format", []).append(kind)
        keys = {
            "max_length": "Sub-words",
            "max_query_length": "of the question",
            "doc_stride": "Stride of windows",
        }
        rows = [
            [
                self._dataset_cell(dataset),
                Cell(self.material.model_title(model)),
                *(
                    Cell(", ".join(map(str, entry[key])), entry[key][0])
                    if key == "max_length" or entry["format"][0] == "question_answering"
                    else Cell("–")
                    for key in keys
                ),
            ]
            for (dataset, model), entry in sorted(found.items())
        ]
        columns = [Column("Data set"), Column("Model"), *(Column(t, True) for t in keys.values())]
        return Table("Longest inputs", columns, rows, id="lengths")

    def _dataset_cell(self, name: str) -> Cell:
        row, page = self.datasets.get(name, {}), f"lineage/data/{name}.html"
        href = page if page in self.lineage.pages else ""
        return Cell(str(row.get("title") or name), href=href)

    def _data_table(self) -> Table:
        counts, sources = self._counts(), self._sources()
        rows = []
        for name in sorted(counts.keys() | sources.keys()):
            row, splits = self.datasets.get(name, {}), counts.get(name, {})
            source, revision = sources.get(name, ("–", "–"))
            rows.append(
                [
                    self._dataset_cell(name),
                    Cell(source),
                    Cell(revision),
                    Cell(str(row.get("licence") or "–")),
                    Cell(whole(len({code for codes in splits.values() for code in codes}))),
                    *(
                        Cell(whole(total) if total else "–", total)
                        for split in ("train", "dev", "test")
                        for total in [sum(splits.get(split, {}).values())]
                    ),
                ]
            )
        columns = [
            *map(Column, ("Data set", "Source", "Revision", "Licence")),
            *(Column(t, True) for t in ("Languages", "Train", "Dev", "Test")),
        ]
        about = "Rows are summed over languages. The page of a data set lists its files."
        return Table("Data", columns, rows, id="data", about=about)

    def _counts(self) -> dict[str, dict[str, dict[str, int]]]:
        """Rows of each data set, by split and language."""
        found: dict[str, dict[str, dict[str, int]]] = {}
        for row in self.rows_of_data():
            splits = found.setdefault(row["dataset"], {})
            splits.setdefault(row["split"], {})[row["language"]] = int(row["rows"])
        return found

    def rows_of_data(self) -> list[dict[str, str]]:
        """Rows of `datasets.csv`; none where the report does not know it."""
        import csv

        if "check" not in self.material.spec["inputs"]:
            return []
        path = check_file(Path(one(self.material.spec["inputs"]["check"])), "datasets.csv")
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def _sources(self) -> dict[str, tuple[str, str]]:
        """Where each data set comes from, and of which revision."""
        found: dict[str, list[tuple[str, str]]] = {}
        for item in self.lineage.of("fetch"):
            revision = str((item.spec.get("lock") or {}).get("revision") or "")
            pair = (_source(item.spec["source"]), revision)
            found.setdefault(item.spec["dataset"], []).append(pair)
        return {
            name: (_unique(source for source, _ in pairs), _unique(text for _, text in pairs))
            for name, pairs in found.items()
        }


def _without(table: Table, empty: set[str]) -> Table:
    """A table without the columns that hold nothing."""
    kept = [
        place
        for place in range(len(table.columns))
        if any(row[place].text not in empty for row in table.rows)
    ]
    return _chosen(table, kept)


def _with_common(table: Table, first: int) -> Table:
    """A table whose later columns, where all rows agree, are a sentence instead."""
    same = [
        place
        for place in range(first, len(table.columns))
        if len(table.rows) > 1 and len({row[place].text for row in table.rows}) == 1
    ]
    if not same:
        return table
    common = "; ".join(
        f"{table.columns[place].title.lower().replace('adam', 'Adam')} {table.rows[0][place].text}"
        for place in same
    )
    kept = [place for place in range(len(table.columns)) if place not in same]
    return replace(_chosen(table, kept), about=f"AdamW. The same for all: {common}.")


def _chosen(table: Table, kept: list[int]) -> Table:
    return replace(
        table,
        columns=[table.columns[place] for place in kept],
        rows=[[row[place] for place in kept] for row in table.rows],
    )


def _unique(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(filter(None, texts))) or "–"


def _source(source: Mapping[str, Any]) -> str:
    kind = source.get("kind")
    if kind == "hub":
        return f"Hugging Face Hub, {source['hub']}"
    if kind == "url":
        return _unique(sorted({url.split("/")[2] for url in source["urls"].values()}))
    if kind == "toyworld":
        return "made by this study (toy world)"
    return "files of the user"


def _setting(value: Any) -> Cell:
    if isinstance(value, float):
        return Cell(f"{value:g}".replace("e-0", "e-").replace("-", "\N{MINUS SIGN}"), value)
    return Cell("–" if value is None else str(value), value)
