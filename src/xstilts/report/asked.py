"""How decoders were asked and trained, in words, from the specs of what was made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from xstilts.analysis.numbers import counted, listed, whole
from xstilts.report.lineage import Artifact, Lineage
from xstilts.report.material import Material

#: How a choice's likelihood is made comparable, by `prompting.main`.
RULES = {
    "sum": "the sum over its sub-words",
    "token": "the mean over its sub-words",
    "byte": "the sum divided by its bytes in UTF-8",
    "pmi": "the sum less that of the same words without the question (PMI)",
}


def paragraphs(material: Material, lineage: Lineage) -> list[str]:
    """How decoders were asked, with which examples and words, and how adapters were trained."""
    models = decoders(material)
    if not models:
        return []
    found = [
        _asked(material, lineage, models),
        _tuned(lineage, models),
        _rendered(material, lineage),
        _adapters(lineage),
    ]
    return [text for text in found if text]


def decoders(material: Material) -> list[str]:
    """Names of the study's decoders."""
    return [name for name, row in material.models.items() if row.get("kind") == "decoder"]


def prompted(lineage: Lineage) -> list[Artifact]:
    """Predictions of decoders that were asked in words."""
    return [item for item in lineage.of("evaluate") if item.spec.get("format") == "prompted"]


def _asked(material: Material, lineage: Lineage, models: Iterable[str]) -> str:
    chosen: dict[str, list[str]] = {}
    written: dict[int, list[str]] = {}
    for item in prompted(lineage):
        decode, title = item.spec["decode"], material.target_title(item.spec["target"])
        written_in = decode["kind"] == "answer"
        titles = (
            written.setdefault(decode["max_new_tokens"], [])
            if written_in
            else chosen.setdefault(decode["main"], [])
        )
        if title not in titles:
            titles.append(title)
    if not chosen and not written:
        return ""
    titles = [material.model_title(name) for name in models]
    texts = [f"{listed(titles)} {'is' if len(titles) == 1 else 'are'} asked in words."]
    for main, titles in chosen.items():
        others = [name for name in RULES if name != main]
        texts.append(
            f"For {listed(titles)}, the answer is the choice of the highest log-likelihood, by "
            f"{RULES[main]}. What the other rules ({listed(others)}) choose is reported beside it."
        )
    for most, titles in written.items():
        texts.append(
            f"For {listed(titles)}, the answer is written greedily, up to the end of the text or "
            f"of the line, in at most {whole(most)} sub-words."
        )
    return " ".join(texts)


def _tuned(lineage: Lineage, models: Iterable[str]) -> str:
    """Whether decoders were fine-tuned on the targets' own data, and how."""
    names = set(models)
    own = [item for item in lineage.of("finetune") if item.out.split("/")[1] in names]
    if not own:
        return "Decoders are not fine-tuned on the targets' own data."
    ways = {task.get("format") == "prompted" for item in own for task in item.spec["tasks"]}
    by_prompt = "by prompts, with the loss on the answer alone"
    by_head = "with a head on the last sub-word's hidden state, as encoders have it on the first"
    shown = [text for way, text in ((True, by_prompt), (False, by_head)) if way in ways]
    return f"Decoders are fine-tuned on the targets' own data {listed(shown)}."


def _rendered(material: Material, lineage: Lineage) -> str:
    """Examples before the questions, and the language of the prompts' words."""
    items = [item for item in lineage.of("prompts") if item.out.startswith("data/questions/")]
    if not items:
        return ""
    numbers = sorted({(item.spec.get("shots") or {}).get("number", 0) for item in items})
    text = "No example stands before a question."
    if most := numbers[-1]:
        shots = counted(most, "example stands", "examples stand")
        text = f"Before a question {shots}, the same for all questions of a data set."
    shown = "The page Prompts shows templates, words and examples."
    return " ".join(filter(None, [text, _words(material, items), shown]))


def _words(material: Material, items: Iterable[Artifact]) -> str:
    """Whether a prompt's words change with the language that is tested."""
    by_prompt: dict[str, set[str]] = {}
    for item in items:
        prompt: Mapping[str, Any] = item.spec["prompt"]
        if prompt.get("words"):
            by_prompt.setdefault(prompt["name"], set()).add(str(sorted(prompt["words"].items())))
    if any(len(words) > 1 for words in by_prompt.values()):
        return "A prompt's own words are in the language that is tested."
    if not by_prompt:
        return ""
    return f"A prompt's own words are in {material.language_name(material.source)} everywhere."


def _adapters(lineage: Lineage) -> str:
    """Settings of adapters, and that they were merged."""
    items = [item for item in lineage.of("intermediate", "finetune") if lora_of(item)]
    if not items:
        return ""
    shown = list(dict.fromkeys(lora_text(lora_of(item)) for item in items))
    total = len(lineage.of("intermediate", "finetune"))
    return (
        f"{whole(len(items))} of {counted(total, 'training')} train low-rank adapters (LoRA, Hu et "
        f"al. 2022) instead of all weights: {'; '.join(shown)}. Adapters are merged into the "
        "weights before anything else is done with them."
    )


def lora_of(item: Artifact) -> Mapping[str, Any]:
    """Settings of a training's adapters; empty where all weights are trained."""
    return (item.spec.get("settings") or {}).get("lora") or {}


def lora_text(lora: Mapping[str, Any]) -> str:
    """Settings of adapters in words."""
    targets = lora["targets"]
    layers = "all linear layers" if targets == "all-linear" else listed(list(targets))
    dropout = f", dropout {lora['dropout']:g}" if lora["dropout"] else ""
    held = "16" if lora["base"] == "bf16" else "32"
    return (
        f"rank {lora['rank']}, alpha {lora['alpha']:g}{dropout}, on {layers}, frozen weights in "
        f"{held} bits"
    )
