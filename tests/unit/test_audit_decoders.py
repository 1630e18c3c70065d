"""Prompts, adapters and merged weights in `xstilts audit`: explained, and with a card."""

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

import small_results
from small_results import WRITER, make_results
from xstilts.artifacts.root import Root, describe, write_root
from xstilts.audit.ancestry import Reader
from xstilts.audit.explain.facts import Describer, title_of
from xstilts.audit.explain.graph import dot
from xstilts.audit.explain.main import Explainer
from xstilts.audit.explain.text import about_lines, text_of
from xstilts.audit.export.cards import write_cards
from xstilts.audit.finished import finished
from xstilts.audit.results import Results, open_results

ADAPTER = "checkpoints/writer/mnli/seed-1/intermediate"
MERGED = "merged/writer/mnli/seed-1/intermediate"
CELL = "scores/writer/mnli/seed-1/xnli"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "results" / "small"
    folder.mkdir(parents=True)
    encoder: Any = small_results.MODELS["big-encoder"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(small_results, "MODELS", {"big-encoder": encoder, "writer": WRITER})
        make_results()
    content = {"study": "small", "seeds": [1, 2], "source_language": "en"}
    outs = list(open_results(folder).artifacts)
    write_root(folder, Root("small", content, {}, describe(folder, outs)))
    return folder


@pytest.fixture
def inside(results: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(results)
    return results


def told(results: Path, out: str) -> list[str]:
    describer = Describer(Reader(open_results(results)))
    return about_lines(describer.about(out))


def test_what_artifacts_of_decoders_stand_for(inside: Path) -> None:
    assert told(inside, "data/questions/writer/xnli/sw") == [
        "xnli/sw, encoding max_length 96",
        "prompt nli, version 3, 1 examples before a question",
    ]
    assert told(inside, "data/prompts/writer/mnli/en")[1] == "prompt nli, version 3"
    assert told(inside, MERGED) == [f"the adapter {ADAPTER} put into models/writer/base"]
    assert told(inside, ADAPTER) == ["trained on mnli, 300 steps, adapters of rank 8 alone"]
    artifacts = open_results(inside).artifacts
    titles = [title_of(artifacts[out]) for out in (MERGED, "data/prompts/writer/mnli/en")]
    assert titles == ["Checkpoint with its adapter merged", "Prompts"]


def test_a_score_is_explained_down_to_the_prompts_and_the_adapter(inside: Path) -> None:
    explained = Explainer(open_results(inside)).explain(CELL)
    text = text_of(explained)
    for part in (MERGED, ADAPTER, "data/questions/writer/xnli/en", "models/writer/base"):
        assert part in text
    drawn = dot(explained.ancestry)
    assert "Checkpoint with its adapter merged" in drawn
    assert "Prompts" in drawn


def test_the_card_of_an_adapter_names_peft_its_base_and_its_scores(
    inside: Path, tmp_path: Path
) -> None:
    study = finished(Results(inside))
    write_cards(study, tmp_path, None)
    card = ModelCard.load(tmp_path / ADAPTER / "README.md")
    assert (card.data.library_name, card.data.base_model) == ("peft", "someone/big-encoder")
    assert "lora" in (card.data.tags or [])
    assert card.data.eval_results
    rows = json.loads((inside / CELL / "scores.json").read_text())["rows"]
    assert [row.metric_value for row in card.data.eval_results] == [row["value"] for row in rows]
    assert "An adapter of the study `small`" in card.text
    assert "`PeftModel.from_pretrained` puts the adapter, `adapter_model.safetensors`" in card.text
    assert "`models/writer/base`" in card.text
    assert "`sha256sum adapter_model.safetensors` checks" in card.text
    other = ModelCard.load(tmp_path / "checkpoints/big-encoder/mnli/seed-1/mnli/README.md")
    assert other.data.library_name == "transformers"
    assert not (tmp_path / MERGED).exists()
