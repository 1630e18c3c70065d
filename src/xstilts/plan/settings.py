"""Settings of trainings and lengths of texts: the preset's < the study's < their own."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from xstilts.config import Encoding
from xstilts.errors import InputError
from xstilts.plan.names import Names
from xstilts.registry.rows import DatasetRow, ModelRow
from xstilts.training.settings import Training
from xstilts.validation import parse

#: Most sub-words of a prompt with its answer, where neither study nor model has fewer.
PROMPT_LENGTH = 1024


class Settings(Names):
    """What a study, with its preset, sets for a model and a task."""

    def _training(
        self, model: ModelRow, stage: str, tasks: Iterable[str], own: dict[str, Any]
    ) -> Training:
        """Settings of one training: the preset's < the study's < its own."""
        names = list(tasks)
        chosen = (stage, model.name, names[0] if len(names) == 1 else None)
        above = self.study.training.merged(*chosen) | own
        below: dict[str, Any] = {}
        if self.preset and stage != "pretraining":
            below = self.preset.training.merged(*chosen)
        # Steps win over a share or epochs, but not the preset's over the study's.
        for key, steps in (("warmup", "warmup_steps"), ("epochs", "max_steps")):
            if key in above:
                below.pop(steps, None)
        settings = parse(Training, below | above, f"{self.where}: training")
        return self._with_adapters(model, stage, settings, own)

    def _with_adapters(
        self, model: ModelRow, stage: str, settings: Training, own: dict[str, Any]
    ) -> Training:
        """Adapters are of pretrained decoders; the study's default may name them for these."""
        pretraining = stage == "pretraining"
        if settings.lora is None or (model.kind == "decoder" and not pretraining):
            return settings
        if pretraining and "lora" not in own:
            return settings.model_copy(update={"lora": None})
        raise InputError(
            f"{self.where}: {'pretraining.' if pretraining else ''}training",
            "adapters of random weights learn nothing"
            if pretraining
            else f"lora is for decoders, and {model.name!r} is an encoder",
            hint="Leave lora out there"
            if pretraining
            else "Set lora under training.models of each decoder, or to null under that of "
            f"{model.name}",
        )

    def _prompt_length(self, model: ModelRow) -> int:
        """Most sub-words of a prompt with its answer."""
        own = self.study.encoding.datasets.get("prompted", {})
        where = f"{self.where}: encoding.datasets.prompted"
        wanted = parse(Encoding, {"max_length": PROMPT_LENGTH} | own, where).max_length
        if own and wanted > model.max_length:
            expected = f"at most {model.max_length}"
            problem = f"max_length is longer than the positions of {model.name}"
            raise InputError(where, problem, expected=expected, found=str(wanted))
        return min(wanted, model.max_length)

    def _encoding(self, model: ModelRow, row: DatasetRow) -> Encoding:
        above = self.study.encoding.merged(row.format, row.name)
        below = self.preset.encoding.merged(row.format, row.name) if self.preset else {}
        if above.get("max_length", math.inf) < below.get("max_length", 0):
            # The preset's windows are those of its own length: with these, none may be left out.
            below = {key: min(value, above["max_length"] // 2) for key, value in below.items()}
        merged: dict[str, Any] = {"max_length": min(128, model.max_length)} | below | above
        for key, usual in (("max_query_length", 64), ("doc_stride", 128)):
            merged.setdefault(key, min(usual, merged["max_length"] // 2))
        encoding = parse(Encoding, merged, f"{self.where}: encoding")
        if encoding.max_length > model.max_length:
            raise InputError(
                f"{self.where}: encoding",
                f"max_length of {row.name} is longer than the positions of {model.name}",
                expected=f"at most {model.max_length}",
                found=str(encoding.max_length),
                hint=self._preset_hint("max_length"),
            )
        if (
            row.format == "question_answering"
            and encoding.max_query_length > encoding.max_length - 8
        ):
            raise InputError(
                f"{self.where}: encoding",
                f"max_query_length leaves no room for the context of {row.name}",
                expected=f"at most {encoding.max_length - 8}",
                found=str(encoding.max_query_length),
            )
        return encoding

    def _preset_hint(self, key: str) -> str | None:
        """What to do about a setting that may be the preset's."""
        if self.preset is None:
            return None
        return f"The study's own {key} under encoding wins over that of preset {self.preset.name!r}"
