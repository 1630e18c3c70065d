"""Wall time and peak memory of `xstilts score` on a full-size random submission to XTREME.

All nine tasks in all languages, with the registry's row counts and texts of realistic lengths. Tags
are drawn by chance, which makes more spans than real ones have.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from xstilts.evaluation import tree
from xstilts.evaluation.benchmark import Task, tasks_of
from xstilts.registry import load_registry

RUNS = 3
RIGHT = 0.8
TOKENS = {"panx": 8, "udpos": 17}  # mean sentence length
CONTEXT_WORDS, QUESTIONS_PER_CONTEXT = 120, 4
DICE = random.Random(1)


def guesses(gold: list[str], values: list[str]) -> Iterator[str]:
    """The gold values, but for some a value by chance."""
    chance = DICE.choices(values, k=len(gold))
    return (
        one if DICE.random() < RIGHT else other for one, other in zip(gold, chance, strict=True)
    )


def lines(values: list[str], kinds: list[str]) -> tuple[str, str]:
    """Gold and prediction file of one value a line."""
    return "\n".join(values) + "\n", "\n".join(guesses(values, kinds)) + "\n"


def tags(task: Task, rows: int) -> tuple[str, str]:
    """Sentences of one to twice the mean number of tags."""
    gold, found = [], []
    for _ in range(rows):
        sentence = DICE.choices(task.labels, k=DICE.randint(1, 2 * TOKENS[task.name] - 1))
        gold += [*sentence, ""]
        found += [*guesses(sentence, list(task.labels)), ""]
    return "\n".join(gold), "\n".join(found)


def answers(rows: int) -> tuple[str, str]:
    """Questions with up to three gold answers; a wrong prediction is the answer and two words."""
    words = [f"word{DICE.randrange(5000)}" for _ in range(CONTEXT_WORDS)]
    paragraphs, found = [], {}
    for first in range(0, rows, QUESTIONS_PER_CONTEXT):
        context = DICE.sample(words, k=len(words))
        questions = []
        for row in range(first, min(rows, first + QUESTIONS_PER_CONTEXT)):
            start = DICE.randrange(CONTEXT_WORDS - 5)
            text = " ".join(context[start : start + 3])
            gold = [{"text": text, "answer_start": 0}] * DICE.randint(1, 3)
            questions.append({"id": f"{row:040x}", "question": "Who is it?", "answers": gold})
            right = DICE.random() < RIGHT
            found[f"{row:040x}"] = text if right else " ".join(context[start : start + 5])
        paragraphs.append({"context": " ".join(context), "qas": questions})
    return json.dumps({"data": [{"title": "", "paragraphs": paragraphs}]}), json.dumps(found)


def files(task: Task, rows: int) -> tuple[str, str]:
    """Gold and prediction file of a language."""
    if task.kind is tree.TAGS:
        return tags(task, rows)
    if task.kind is tree.ANSWERS:
        return answers(rows)
    if task.kind is tree.PAIRS:
        english = [f"en-{number:09}" for number in range(10 * rows)]
        targets = DICE.sample(english, k=rows)
        pairs = list(zip(targets, guesses(targets, english), strict=True))
        gold, found = (
            "".join(f"xx-{row:09}\t{pair[side]}\n" for row, pair in enumerate(pairs))
            for side in (0, 1)
        )
        return gold, found
    numbers = [str(number) for number in range(rows)]
    kinds = numbers if task.kind is tree.NUMBERS else list(task.labels)
    return lines(DICE.choices(kinds, k=rows), kinds)


def write(folder: Path) -> Counter[str]:
    """A whole submission with its labels; the number of rows by task."""
    registry, rows = load_registry(), Counter[str]()
    for task in tasks_of("xtreme"):
        data = registry.datasets[registry.targets[task.name].dataset]
        for language in task.languages:
            count = data.known_rows(language)["test"]
            rows[task.name] += count
            for side, text in zip(("labels", "predictions"), files(task, count), strict=True):
                path = task.file(folder / side, language)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    return rows


def main() -> None:
    """Print the rows, the bytes, and each run's seconds and MiB."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = write(folder)
        size = sum(path.stat().st_size for path in folder.rglob("test-*")) / 2**20
        print(", ".join(f"{task} {count}" for task, count in rows.items()), f"rows; {size:.0f} MiB")
        command = [sys.executable, "-m", "xstilts.cli", "score", "--out", str(folder / "out.json")]
        for side in ("predictions", "labels"):
            command += [f"--{side}", str(folder / side)]
        for _ in range(RUNS):
            start = time.perf_counter()
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            if status:
                raise SystemExit("xstilts score failed")
            seconds = time.perf_counter() - start
            print(f"{seconds:6.2f} s {usage.ru_maxrss / 1024:7.0f} MiB")


if __name__ == "__main__":
    main()
