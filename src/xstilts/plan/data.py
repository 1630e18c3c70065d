"""Jobs of data: fetched, prepared, translated, and turned into sub-words or prompts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from xstilts.artifacts.fingerprint import fingerprint
from xstilts.errors import InputError, nearest
from xstilts.plan.jobs import Job, prepared, prompts, questions, tokens
from xstilts.plan.names import TRANSLATED
from xstilts.plan.settings import Settings
from xstilts.prompting.chosen import CHOSEN, prompt_entry
from xstilts.registry.rows import (
    DatasetRow,
    ModelRow,
    PromptRow,
    TargetRow,
    ToySource,
    TranslatorRow,
)


class DataJobs(Settings):
    """Each method plans an artifact, with all it is made from, and gives its folder."""

    def _raw(self, row: DatasetRow, language: str) -> str:
        config = row.config(language)
        spec: dict[str, Any] = {
            "stage": "fetch",
            "dataset": row.name,
            "config": config,
            "source": row.source_of(language).model_dump(mode="json"),
            "layout": row.layout,
        }
        if isinstance(row.source, ToySource):
            sizes = self.study.toyworld.sizes.get(row.source.toyworld, {})
            splits = row.splits_of(language)
            missing = [split for split in splits if split not in sizes]
            if missing:
                raise InputError(
                    f"{self.where}: toyworld.sizes.{row.source.toyworld}",
                    f"the sizes of {', '.join(missing)} are missing for data set {row.name!r}",
                )
            spec["toyworld"] = {
                "kind": row.source.toyworld,
                "language": language,
                "sizes": {split: sizes[split] for split in splits},
                "seed": self.study.toyworld.seed,
            }
            spec["fingerprint"] = fingerprint("xstilts.toyworld.generate")
        else:
            # The lock's checksums decide the bytes, no code does.
            spec["lock"] = self.lock.dataset(row.name, config)
        return self._add(Job("fetch", f"data/raw/{row.name}/{config}", spec))

    def _prepared(self, row: DatasetRow, language: str) -> str:
        out = prepared(row.name, language)
        if out in self.jobs:
            return out
        if language not in row.languages:
            raise InputError(
                f"{self.where}: languages",
                f"data set {row.name!r} has no {language!r}",
                hint=nearest(language, row.languages),
            )
        spec = {
            "stage": "prepare",
            "fingerprint": fingerprint("xstilts.data.prepare"),
            "dataset": row.name,
            "language": language,
            "code": row.languages[language],
            "row": row.reading(language),
            "expected": row.known_rows(language),
            "inputs": {"raw": self._raw(row, language)},
        }
        return self._add(Job("prepare", out, spec))

    def _tokens(
        self,
        model: ModelRow,
        dataset: str,
        language: str,
        translator: TranslatorRow | None = None,
    ) -> str:
        out = tokens(model.name, dataset, translator.name if translator else language)
        if out in self.jobs:
            return out
        row = self.registry.dataset(dataset, self.where)
        if translator is None:
            texts = self._prepared(row, language)
        else:
            texts, language = self._translated(row, language, translator), translator.target
        causal = model.kind == "decoder" and row.format == "masked_lm"
        format_name = "causal_lm" if causal else row.format
        spec = {
            "stage": "tokens",
            "fingerprint": fingerprint(
                "xstilts.data.tokens", f"xstilts.formats.{format_name}.encode"
            ),
            "format": format_name,
            "dataset": dataset,
            "language": language,
            "encoding": self._encoding(model, row).model_dump(mode="json"),
            **({"odd_words": row.odd_words} if row.odd_words else {}),
            "inputs": {
                "prepared": texts,
                "tokenizer": f"models/{model.name}/tokenizer",
            },
        }
        return self._add(Job("tokens", out, spec))

    def _prompts(
        self,
        model: ModelRow,
        dataset: str,
        language: str,
        translator: TranslatorRow | None = None,
    ) -> str:
        """A data set's training rows as prompts, in words of the source language."""
        row = self.registry.dataset(dataset, self.where)
        out = prompts(model.name, dataset, translator.name if translator else language)
        if translator is None:
            texts = self._prepared(row, language)
        else:
            texts, language = self._translated(row, language, translator), translator.target
        place = f"{self.where}: prompting"
        entry = prompt_entry(
            self.registry.prompt_of(dataset, place), self.study.source_language, place
        )
        return self._prompted(model, out, row, language, texts, entry, ["train", "dev"])

    def _questions(self, model: ModelRow, target: TargetRow, language: str) -> str:
        """A target's test rows as prompts, in words that the study chooses.

        Before them stand examples of the task that encoders are fine-tuned on, if any are wanted.
        """
        row, prompting = self.registry.datasets[target.dataset], self.study.prompting
        place, source = f"{self.where}: prompting", self.study.source_language
        prompt = self.registry.prompt_of(row.name, place)
        entry = prompt_entry(prompt, language if prompting.words == "target" else source, place)
        shots: dict[str, Any] = {}
        if prompting.shots:
            shots = {"number": prompting.shots, "seed": prompting.shots_seed}
            shots["words"] = prompt_entry(prompt, source, place)["words"]
        out = questions(model.name, row.name, language)
        texts, read = self._prepared(row, language), self._shots(prompt, target) if shots else None
        room = 0 if row.format in CHOSEN else self._written(model)
        return self._prompted(model, out, row, language, texts, entry, ["test"], shots, read, room)

    def _written(self, model: ModelRow) -> int:
        """Sub-words that are kept free behind a question, for its answer."""
        most, length = self.study.prompting.max_new_tokens, self._prompt_length(model)
        if most > length // 2:
            raise InputError(
                f"{self.where}: prompting.max_new_tokens",
                f"leaves less than half of a prompt of {model.name!r} for the question",
                expected=f"at most {length // 2}",
                found=str(most),
                hint="Lower it, or raise encoding.datasets.prompted.max_length",
            )
        return most

    def _prompted(
        self,
        model: ModelRow,
        out: str,
        row: DatasetRow,
        language: str,
        texts: str,
        prompt: dict[str, Any],
        splits: list[str],
        shots: dict[str, Any] | None = None,
        shots_of: str | None = None,
        room: int = 0,
    ) -> str:
        spec = {
            "stage": "prompts",
            "fingerprint": fingerprint("xstilts.prompting.tokens"),
            "format": row.format,
            "dataset": row.name,
            "language": language,
            "splits": splits,
            "prompt": prompt,
            "encoding": {"max_length": self._prompt_length(model) - room},
            "shots": shots or None,
            "inputs": {
                "prepared": texts,
                "tokenizer": f"models/{model.name}/tokenizer",
                **({"shots": shots_of} if shots_of else {}),
            },
        }
        return self._add(Job("prompts", out, spec))

    def _shots(self, prompt: PromptRow, target: TargetRow) -> str:
        """The training rows that examples are drawn from."""
        task = self.registry.tasks[target.train[-1]]
        own = [name for name in task.datasets if name in prompt.datasets]
        if not own:
            raise InputError(
                f"{self.where}: prompting.shots",
                f"the data of task {task.name!r} are not rendered by prompt {prompt.name!r}",
                expected=f"one of {', '.join(prompt.datasets)}",
                found=", ".join(task.datasets),
                hint="Set shots: 0, or add the data set to the prompt's row",
            )
        return self._prepared(self.registry.datasets[own[0]], task.language)

    def _translated(self, row: DatasetRow, language: str, translator: TranslatorRow) -> str:
        """A data set's training rows in another language; one for all models, recipes and seeds."""
        spec = {
            "stage": "translate",
            "fingerprint": fingerprint("xstilts.data.translate"),
            "dataset": row.name,
            "translator": translator.model_dump(
                mode="json",
                include={"name", "source", "target", "prefix", "source_code", "target_code"},
            ),
            "fields": [name for name in TRANSLATED[row.format] if name in row.fields],
            "settings": self.study.translation.model_dump(mode="json"),
            "inputs": {
                "prepared": self._prepared(row, language),
                "translator": self._fetched_translator(translator),
            },
        }
        return self._add(Job("translate", f"data/translated/{row.name}/{translator.name}", spec))

    def _fetched_translator(self, row: TranslatorRow) -> str:
        described = row.model_dump(mode="json", include={"name", "hub"})
        lock = self.lock.model(row.name)
        spec = {"stage": "fetch_translator", "translator": described, "lock": lock, "inputs": {}}
        return self._add(Job("fetch_translator", f"translators/{row.name}", spec))

    def _corpus(
        self, names: Iterable[str], languages: Iterable[str], key: str
    ) -> list[tuple[str, str]]:
        """(data set, language) of raw text."""
        found, there = list[tuple[str, str]](), list[str]()
        for name in names:
            row = self.registry.dataset(name, f"{self.where}: {key}.corpus")
            if row.format != "masked_lm":
                raise InputError(
                    f"{self.where}: {key}.corpus",
                    f"{name!r} is no raw text",
                    expected="a data set of format masked_lm",
                    found=row.format,
                )
            wanted = list(row.languages) if languages == "all" else list(languages)
            there.extend(row.languages)
            found.extend((name, language) for language in wanted if language in row.languages)
        for language in () if languages == "all" else languages:
            if language not in there:
                place = f"{self.where}: {key}.languages"
                hint = nearest(language, there)
                raise InputError(place, f"no corpus has {language!r}", hint=hint)
        return found
