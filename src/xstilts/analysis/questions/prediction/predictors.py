"""What recipes promise before fine-tuning, read from the artifacts of the transferability stage."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from xstilts.analysis.bootstrap import Floats
from xstilts.analysis.study import BASELINE, Target
from xstilts.artifacts.manifest import check_file, read_manifest

Row = dict[str, Any]


@dataclass(frozen=True)
class Predictor:
    """A way to rank recipes.

    Attributes:
        name: Its column.
        title: Its name for people.
        needs: What has to be trained before it is known.
    """

    name: str
    title: str
    needs: str


LOGME = Predictor("logme", "LogME", "the intermediate training, but no fine-tuning")
SIMILARITY = Predictor("similarity", "Data similarity", "no training")
SIZE = Predictor("size", "Data size", "no training")
PREDICTORS = (LOGME, SIMILARITY, SIZE)


class Predictions:
    """What is predicted of each recipe of a study.

    Args:
        folders: Artifacts, ``transferability/<model>/seed-<n>/<recipe>``.

    Raises:
        InputError: If a file is missing or not the one that was published.
    """

    def __init__(self, folders: Iterable[str]) -> None:
        self._logme: dict[tuple[str, str, str], list[float]] = {}
        self._why: dict[tuple[str, str], str] = {}
        self._tasks: dict[tuple[str, str], list[Row]] = {}
        self._vectors: dict[tuple[str, str], Floats] = {}
        for name in sorted(folders):
            self._read(Path(name))

    def _read(self, folder: Path) -> None:
        model, recipe = folder.parts[-3], folder.parts[-1]
        content = json.loads(check_file(folder, "transferability.json").read_text("utf-8"))
        for task, entry in content["targets"].items():
            if entry["logme"] is None:
                self._why[model, task] = entry["why"]
            else:
                self._logme.setdefault((model, recipe, task), []).append(entry["logme"])
        if content["tasks"]:
            self._tasks[model, recipe] = content["tasks"]
        if "embeddings.safetensors" in read_manifest(folder).files:
            self._read_vectors(folder, model)

    def _read_vectors(self, folder: Path, model: str) -> None:
        from safetensors.numpy import load_file

        for name, vector in load_file(check_file(folder, "embeddings.safetensors")).items():
            self._vectors[model, name] = vector.astype(np.float64)

    def value(self, predictor: Predictor, model: str, recipe: str, target: Target) -> float | None:
        """What a predictor says of a recipe for a target; high is good. None where it is silent."""
        if predictor is LOGME:
            return self._log_evidence(model, recipe, target)
        if predictor is SIMILARITY:
            return self._similarity(model, recipe, target)
        tasks = self._tasks.get((model, recipe))
        return float(sum(task["examples"] for task in tasks)) if tasks else None

    def _log_evidence(self, model: str, recipe: str, target: Target) -> float | None:
        """Mean LogME over seeds."""
        found = self._logme.get((model, recipe, target.train[-1])) if target.train else None
        return fmean(found) if found else None

    def _similarity(self, model: str, recipe: str, target: Target) -> float | None:
        """Cosine of the target's mean embedding and the recipe's, its tasks weighted as sampled."""
        tasks = self._tasks.get((model, recipe))
        if not tasks or not target.train:
            return None
        own = self._vectors.get((model, f"target/{target.train[-1]}"))
        parts = [self._vectors.get((model, f"task/{task['name']}")) for task in tasks]
        if own is None or any(part is None for part in parts):
            return None
        weighted = [
            task["share"] * part
            for task, part in zip(tasks, parts, strict=True)
            if part is not None
        ]
        mean = np.sum(weighted, axis=0)
        length = float(np.linalg.norm(own) * np.linalg.norm(mean))
        return float(own @ mean) / length if length > 0 else None

    def why(self, predictor: Predictor, model: str, target: Target) -> str:
        """Why a predictor says nothing of a target."""
        if predictor is SIZE:
            return "no recipe has tasks"
        if not target.train:
            return "it has no training data"
        if predictor is LOGME:
            usual = "its score does not come from the labels of its training data"
            return self._why.get((model, target.train[-1]), usual)
        if (model, f"target/{target.train[-1]}") not in self._vectors:
            return f"its training data were not embedded; the study needs the recipe {BASELINE!r}"
        return "no recipe has tasks"
