"""Stage translate: the training rows of a prepared data set with their texts in another language.

Labels and ids are carried over, and no row is dropped: a text whose translation is empty keeps its
source, which is counted. Every finished batch is kept under `state/`, so that a stage that was
stopped goes on where it was, and another data set finds the sentences that it shares.
"""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from xstilts.artifacts.manifest import check_file, read_manifest
from xstilts.artifacts.publish import publishing
from xstilts.artifacts.spec import canonical, sha256_text
from xstilts.data.tables import read_rows
from xstilts.data.translation_cache import Translation, TranslationCache
from xstilts.data.translator import Translator, batches
from xstilts.errors import InputError
from xstilts.progress import Progress
from xstilts.runtime import EXIT_MORE_TIME, runtime
from xstilts.training.deadline import Deadline

SPLITS = ("train", "dev")
#: Share of empty translations above which the translator is taken to be broken or the wrong one.
MOST_EMPTY = 0.05


@dataclass
class Done:
    """Translations of all texts of a data set.

    Attributes:
        parts: What each text was translated in.
        known: Translation of each part.
        from_cache: Parts that earlier runs had translated.
    """

    parts: dict[str, list[str]]
    known: dict[str, Translation]
    from_cache: int

    def text(self, source: str) -> str:
        """Translation of a text; its source where that is empty."""
        found = (self.known[part].text for part in self.parts.get(source, ()))
        return " ".join(filter(None, found)) or source

    def count(self, source: str, notes: Counter[str]) -> None:
        """Count what became of a text, each time that it stands in a row."""
        parts = self.parts.get(source, ())
        found = [self.known[part] for part in parts]
        notes["texts"] += 1
        notes["empty texts"] += not parts
        notes["texts translated in parts"] += len(parts) > 1
        notes["translations cut at the length limit"] += any(item.is_cut for item in found)
        if parts:
            is_empty = not any(item.text for item in found)
            notes["empty translations, source kept"] += is_empty
            notes["translations equal to their source"] += (
                not is_empty and self.text(source) == source
            )


def run(spec: Mapping[str, Any], out: Path) -> None:
    """Translate the training rows of a data set.

    Args:
        spec: ``fields`` (columns with texts or lists of texts), ``translator`` (see
            :class:`Translator`), ``settings`` (the study's section `translation`),
            ``inputs.prepared`` and ``inputs.translator``.
        out: The artifact's folder, like that of stage `prepare`: ``train.parquet``, ``dev.parquet``
            where the data set has one, and ``report.json``.

    Raises:
        InputError: If an input is damaged, the translator cannot be used, or too many of its
            translations are empty.
        SystemExit: With status 75 after SIGTERM, or as the time limit comes near; what is done is
            kept.
    """
    prepared = Path(spec["inputs"]["prepared"])
    report = json.loads(check_file(prepared, "report.json").read_text(encoding="utf-8"))
    there = read_manifest(prepared).files
    tables = {
        split: read_rows(prepared, f"{split}.parquet")
        for split in SPLITS
        if f"{split}.parquet" in there
    }
    texts = {text for table in tables.values() for text in _texts(table, spec["fields"])}
    done = _translate(spec, out, sorted(text for text in texts if text.strip()))
    _check_empty(spec, done)
    with publishing(out, spec) as draft:
        splits = {}
        for split, table in tables.items():
            splits[split] = _report(table, spec["fields"], done)
            pq.write_table(
                _replaced(table, spec["fields"], done).combine_chunks(),
                draft.folder / f"{split}.parquet",
                compression="zstd",
                row_group_size=1 << 16,
            )
        content = {"format": report["format"], "labels": report["labels"], "splits": splits}
        text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        (draft.folder / "report.json").write_text(text, encoding="utf-8")
        draft.record.add(splits=splits, sentences=len(done.known), from_cache=done.from_cache)


# ---- translating


@dataclass
class _Stop:
    """Set by SIGTERM, looked at before every batch."""

    asked: bool = field(default=False)

    def ask(self, *_: Any) -> None:
        self.asked = True


def _translate(spec: Mapping[str, Any], out: Path, texts: list[str]) -> Done:
    """Translate texts: unique ones, in batches of one length, each kept as soon as it is done."""
    progress = Progress("translate", out.as_posix())
    translator = Translator(
        Path(spec["inputs"]["translator"]), spec["translator"], spec["settings"]
    )
    parts = translator.parts(texts)
    sentences = sorted({part for found in parts.values() for part in found})
    lengths = translator.lengths(sentences)
    cache = TranslationCache(_cache_folder(spec))
    from_cache = sum(sentence in cache.known for sentence in sentences)
    progress.total, stop, count = len(sentences), _Stop(), from_cache
    progress.resume(from_cache)
    previous = signal.signal(signal.SIGTERM, stop.ask)
    try:
        # All sentences make up the batches, so that a run that goes on has those of one that was
        # never stopped.
        deadline = Deadline(size=0)
        budget = runtime().eval_batch_tokens // spec["settings"]["num_beams"]
        for batch in batches(lengths, sentences, budget):
            missing = [place for place in batch if sentences[place] not in cache.known]
            if not missing:
                continue
            if stop.asked or deadline.due():
                print(f"{out}: what is done is kept, needs more time", file=sys.stderr)
                raise SystemExit(EXIT_MORE_TIME)
            sources = [sentences[place] for place in missing]
            found = translator.translate(sources, max(lengths[place] for place in missing))
            cache.add(dict(zip(sources, found, strict=True)))
            count += len(missing)
            progress.step(count, f"{lengths[batch[0]]} sub-words")
    finally:
        signal.signal(signal.SIGTERM, previous)
    progress.done(f"{count} sentences, {from_cache} of them known before")
    return Done(parts, {sentence: cache.known[sentence] for sentence in sentences}, from_cache)


def _cache_folder(spec: Mapping[str, Any]) -> Path:
    """Where the translations of a translator are kept: by all that decides them."""
    own = {name: spec[name] for name in ("fingerprint", "translator", "settings")}
    own["files"] = read_manifest(Path(spec["inputs"]["translator"])).files
    return runtime().state / "translations" / sha256_text(canonical(own))[:32]


def _check_empty(spec: Mapping[str, Any], done: Done) -> None:
    empty = [part for part, found in done.known.items() if not found.text]
    if len(empty) > MOST_EMPTY * len(done.known):
        raise InputError(
            f"translator {spec['translator']['name']}",
            f"{len(empty)} of {len(done.known)} translations of {spec['dataset']} are empty",
            expected=f"at most {MOST_EMPTY:.0%}",
            found=f"nothing for {empty[0][:80]!r}",
            hint="Look at its prefix and codes in the registry, and at the model",
        )


# ---- tables


def _texts(table: pa.Table, fields: list[str]) -> Iterator[str]:
    for name in fields:
        column = table[name].combine_chunks()
        column = column.flatten() if pa.types.is_list(column.type) else column
        yield from column.drop_null().to_pylist()


def _replaced(table: pa.Table, fields: list[str], done: Done) -> pa.Table:
    """The table with translated texts; nulls stay."""

    def translated(value: Any) -> Any:
        if isinstance(value, list):
            return [translated(item) for item in value]
        return None if value is None else done.text(value)

    for name in fields:
        values = [translated(value) for value in table[name].to_pylist()]
        place, kind = table.column_names.index(name), table.schema.field(name)
        table = table.set_column(place, kind, pa.array(values, kind.type))
    return table


def _report(table: pa.Table, fields: list[str], done: Done) -> dict[str, Any]:
    """What `prepare` reports of a split; all rows are expected to come along."""
    notes: Counter[str] = Counter()
    for text in _texts(table, fields):
        done.count(text, notes)
    rows = table.num_rows
    kept = {what: number for what, number in notes.items() if number}
    return {"rows_in": rows, "rows": rows, "expected": None, "dropped": {}, "notes": kept}
