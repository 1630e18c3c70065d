"""The distances stage: how far each language is from the source language, for one model.

What linguists know (URIEL), what can be seen in the registry (script, size of the pretraining
data), what the model's tokenizer makes of the test texts, and what is planted in the toy world.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from xstilts.analysis.languages import uriel
from xstilts.analysis.languages.measures import DISTANCES, MEASURES, Row, Values
from xstilts.analysis.languages.segmentation import WORDS, Segmented, count_words, segment
from xstilts.analysis.stats.estimate import tidy
from xstilts.artifacts.manifest import check_file
from xstilts.artifacts.publish import publishing
from xstilts.data.subwords import SubwordTokenizer, load_tokenizer
from xstilts.progress import Progress

TEXTS = "texts.csv"
COUNTS = ("dataset", "language", "words", "subwords")
#: Of the tokenizer's measures a language has the means over data sets.
MEANS = ("fertility", "split", "unknown", "shared_subwords")


@dataclass(frozen=True)
class Measure:
    """One way in which languages differ from the source language.

    Attributes:
        name: Its column.
        title: Its name for people.
        meaning: What a value says.
        source: Where it comes from.
        far: Which values are those of languages far from the source: `high` or `low` ones.
    """

    name: str
    title: str
    meaning: str
    source: str
    far: str = "high"


_FEATURES = "URIEL (Littell et al. 2017)"
_OWN = "The model's tokenizer, on the test texts of the study"
_OF_TEXTS = "Mean over the data sets that the language and the source language both have."
_OF_WORDS = (
    "Words are what white space separates; of languages written without it, only data that come "
    "with words of their own count."
)
KNOWN = (
    Measure(
        "syntactic",
        "Syntactic distance",
        "Cosine distance of features such as word order, gaps filled by similar languages: 0 to 1.",
        _FEATURES,
    ),
    Measure(
        "phonological",
        "Phonological distance",
        "Cosine distance of features of the sound system, gaps filled by similar languages: "
        "0 to 1.",
        _FEATURES,
    ),
    Measure(
        "inventory",
        "Distance of sound inventories",
        "Cosine distance of the sets of sounds, gaps filled by similar languages: 0 to 1.",
        _FEATURES,
    ),
    Measure(
        "genetic",
        "Genetic distance",
        "Cosine distance of membership in families and their branches: 1 without a common "
        "ancestor. Blank for isolates, of which URIEL says nothing.",
        _FEATURES,
    ),
    Measure(
        "geographic",
        "Geographic distance",
        "Great circle between the languages' places over half of the Earth's circumference: "
        "0 to 1.",
        _FEATURES,
    ),
    Measure(
        "script",
        "Other script",
        "1 where the language is written in another script than the source language, else 0.",
        "Registry (ISO 15924)",
    ),
    Measure(
        "fertility",
        "Sub-words per word",
        f"1 where no word is cut. {_OF_TEXTS} {_OF_WORDS}",
        _OWN,
    ),
    Measure(
        "split",
        "Words that are cut",
        f"Share of words cut into more than one sub-word. {_OF_TEXTS} {_OF_WORDS}",
        _OWN,
    ),
    Measure(
        "unknown",
        "Unknown sub-words",
        f"Share of sub-words that are the unknown token. {_OF_TEXTS}",
        _OWN,
    ),
    Measure(
        "shared_subwords",
        "Sub-words shared with the source language",
        "Share of the sub-words of a text that occur in the source language's texts of the same "
        f"data set. {_OF_TEXTS}",
        _OWN,
        far="low",
    ),
    Measure(
        "pretraining",
        "Size of the pretraining data",
        "Logarithm to base 10 of the size of the model's pretraining text in the language, in "
        "{unit}. Blank for languages that were not in it.",
        "{source}",
        far="low",
    ),
    Measure(
        "planted",
        "Planted distance",
        "What the toy world's languages were made to differ by: 0 (the source language) to 1.",
        "xstilts.toyworld.languages",
    ),
)


def run(spec: Mapping[str, Any], out: Path) -> None:
    """Measure how far the languages are from the source language.

    Writes `distances.csv` (a row per language, a column per measure, blank where not known),
    `measures.json` (what each measure means and where it is from; for how many languages it is
    `known`, and which are `missing`) and `texts.csv` (what the tokenizer does, by data set).

    Args:
        spec: `languages` (what the registry knows of each), `source_language`, `texts` (data set,
            format and language of each input of the role `prepared`), `max_rows` (of each that are
            read), `corpus` (language of each input of the role `tokens`), `pretraining`.
        out: Artifact folder.

    Raises:
        InputError: If an input is damaged, or lang2vec is needed and not installed.
    """
    progress = Progress("distances", out.as_posix(), len(spec["texts"]))
    with publishing(out, spec) as draft:
        texts = _text_rows(spec, progress)
        values = _values(spec, texts)
        names = [measure.name for measure in KNOWN]
        rows = [
            {"language": code} | {name: tidy(values[name][code]) for name in names}
            for code in spec["languages"]
        ]
        _write_csv(draft.folder / DISTANCES, ["language", *names], rows)
        tidied = [{**row, **{name: tidy(row[name]) for name in MEANS}} for row in texts]
        _write_csv(draft.folder / TEXTS, [*COUNTS, *MEANS], tidied)
        text = json.dumps(_measures(spec, values), ensure_ascii=False, indent=1) + "\n"
        (draft.folder / MEASURES).write_text(text, encoding="utf-8")
    progress.done(f"{len(rows)} languages")


def _values(spec: Mapping[str, Any], texts: Sequence[Row]) -> dict[str, Values]:
    """Values of all measures, by language."""
    languages: Mapping[str, Mapping[str, Any]] = spec["languages"]
    source = spec["source_language"]
    codes = {code: entry["lang2vec"] for code, entry in languages.items()}
    return {
        **uriel.distances(codes, source),
        "script": _scripts(languages, source),
        **{name: _over_datasets(texts, name, languages) for name in MEANS},
        "pretraining": _logarithms(_pretraining(spec)),
        "planted": {code: entry["planted"] for code, entry in languages.items()},
    }


# ---- what the registry knows


def _scripts(languages: Mapping[str, Mapping[str, Any]], source: str) -> Values:
    own = languages[source]["script"]
    return {code: float(entry["script"] != own) for code, entry in languages.items()}


def _pretraining(spec: Mapping[str, Any]) -> Values:
    """Size of the pretraining data by language: as published, or the sub-words of our corpora."""
    found: Values = {code: entry["pretraining"] for code, entry in spec["languages"].items()}
    for code, name in zip(spec["corpus"], spec["inputs"].get("tokens", ()), strict=True):
        if code in found:
            meta = json.loads(check_file(Path(name), "meta.json").read_text(encoding="utf-8"))
            found[code] = (found[code] or 0.0) + meta["splits"]["train"]["tokens"]
    return found


def _logarithms(sizes: Values) -> Values:
    return {code: math.log10(size) if size else None for code, size in sizes.items()}


# ---- what the tokenizer does


def _text_rows(spec: Mapping[str, Any], progress: Progress) -> list[Row]:
    """What the tokenizer does to each data set and language.

    A language's sub-words are looked for in the source language's texts of the same data set. Of
    sentence pairs with the source language that is the other side of its own pairs.
    """
    folder = Path(spec["inputs"]["tokenizer"])
    tokenizer = SubwordTokenizer.read(folder)
    vocabulary = load_tokenizer(check_file(folder, "tokenizer.json"))
    # SentencePiece's beginning of a word, or a vocabulary of bytes' blank.
    ids = (vocabulary.token_to_id(mark) for mark in ("\u2581", "\u0120"))
    boundary = next((number for number in ids if number is not None), None)

    def read(entry: Mapping[str, Any], folder: str, side: str | None) -> Segmented:
        words = count_words(Path(folder), entry["format"], side, spec["max_rows"])
        return segment(words, tokenizer, boundary)

    entries = list(zip(spec["texts"], spec["inputs"]["prepared"], strict=True))
    # The source language first: the others are compared with it.
    entries.sort(key=lambda pair: pair[0]["language"] != spec["source_language"])
    sources, rows = dict[str, Segmented](), list[Row]()
    for number, (entry, folder) in enumerate(entries, start=1):
        is_pair = entry["format"] == "sentence_retrieval"
        own = read(entry, folder, "source" if is_pair else None)
        if entry["language"] == spec["source_language"]:
            sources[entry["dataset"]] = own
        source = sources.get(entry["dataset"])
        if entry["against_source"]:
            source = read(entry, folder, "target")
        rows.append(_text_row(entry, own, source, spec["languages"][entry["language"]]["spaced"]))
        progress.step(number, f"{entry['dataset']} {entry['language']}")
    return rows


def _text_row(
    entry: Mapping[str, Any], own: Segmented, source: Segmented | None, spaced: bool
) -> Row:
    has_words = own.words > 0 and (spaced or entry["format"] == WORDS)
    share = own.shared(source) if source and source.subwords else None
    return {
        "dataset": entry["dataset"],
        "language": entry["language"],
        "words": own.words if has_words else None,
        "subwords": own.subwords,
        "fertility": _ratio(own.subwords, own.words) if has_words else None,
        "split": _ratio(own.cut, own.words) if has_words else None,
        "unknown": _ratio(own.unknown, own.subwords),
        "shared_subwords": _ratio(share, own.subwords),
    }


def _ratio(part: int | None, whole: int) -> float | None:
    return part / whole if part is not None and whole else None


def _over_datasets(rows: Iterable[Row], name: str, languages: Iterable[str]) -> Values:
    """Mean of a measure over the data sets that have texts of the source language too."""
    found: dict[str, list[float]] = {code: [] for code in languages}
    for row in rows:
        if row["shared_subwords"] is not None and row[name] is not None:
            found[row["language"]].append(row[name])
    return {code: fmean(values) if values else None for code, values in found.items()}


# ---- files


def _measures(spec: Mapping[str, Any], values: Mapping[str, Values]) -> list[Row]:
    rows = []
    for measure in KNOWN:
        row = asdict(measure)
        if measure.name == "pretraining":
            row["meaning"] = row["meaning"].format(**spec["pretraining"])
            row["source"] = row["source"].format(**spec["pretraining"])
        if measure.name in uriel.PARTS:
            file = uriel.PARTS[measure.name].file
            row["source"] += f"; lang2vec {uriel.VERSION}, {file}, sha256 {uriel.SHA256[file]}"
        missing = [code for code, value in values[measure.name].items() if value is None]
        row |= {"known": len(spec["languages"]) - len(missing), "missing": missing}
        rows.append(row)
    return rows


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
