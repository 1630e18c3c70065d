"""The report of a study with a decoder: its prompts, its methods, and its adapters' lineage."""

import re
import shutil
from pathlib import Path

import pytest

import small_results
from small_results import WRITER, make_results
from xstilts.config import load_study
from xstilts.data.lock import Lock
from xstilts.plan import make_plan
from xstilts.registry import load_registry
from xstilts.report.asked import lora_text
from xstilts.report.build import run
from xstilts.report.facts import facts
from xstilts.report.lineage import Lineage, page_of
from xstilts.report.material import Material

REPORT = Path("report")
FACTS = {"nli": {"title": "Inference <asked>", "source": "Someone 2022"}}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The results of a study with an encoder and a decoder, and the spec of its report."""
    folder = tmp_path_factory.mktemp("made") / "small"
    folder.mkdir()
    encoder = small_results.MODELS["big-encoder"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(small_results, "MODELS", {"big-encoder": encoder, "writer": WRITER})
        spec = make_results() | {"prompts": FACTS}
        run(spec, REPORT)
    return folder, spec


@pytest.fixture
def spec(made, monkeypatch):
    folder, spec = made
    monkeypatch.chdir(folder)
    return spec


def page(name):
    return (REPORT / name).read_text(encoding="utf-8")


def text_of(name):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page(name)))


# ---- the page of prompts


def test_every_prompt_is_shown_with_its_version_templates_and_words(spec):
    text = text_of("prompts.html")
    assert "Inference &lt;asked&gt; nli" in text
    assert "Version 3" in text
    assert "Wording Someone 2022" in text
    assert "Before the answer {{ text_a }}" in text
    assert "Answer yes {{ words.yes }}, {{ text_b }}" in text
    assert "Without the question (PMI) the beginning of a text" in text
    row = re.search(
        r"<tr>\s*<th[^>]*>([^<]*)</th>\s*<td>No</td>\s*<td>Yes</td>", page("prompts.html"), re.S
    )
    assert row[1] == "English, German, Swahili, Chinese"


def test_two_rendered_rows_and_the_shots_stand_there_escaped(spec):
    content = page("prompts.html")
    assert "A &lt;b&gt;" in content
    assert "<b>" not in content
    assert "Shot &lt;one&gt; Yes, two" in content
    assert "1 example stands before every question" in content
    for code in ("en", "de", "sw", "zh"):
        assert f"Row <code>{code}-1</code>, test" in content
    german = content.partition("Row <code>de-1</code>, test")[2]
    answers = re.findall(
        r"<li>(<strong>right</strong>|other) <pre class=\"text\">(.*?)</pre>", german
    )
    assert answers[:2] == [("other", " Yes, b"), ("<strong>right</strong>", " No, b")]
    # What was trained on has its right answer alone.
    assert "Row <code>en-2</code>, train" in content


def test_prompts_lead_to_their_artifacts(spec):
    out = "data/questions/writer/xnli/sw"
    assert f'href="{page_of(out)}#{out}"' in page("prompts.html")
    assert f'id="{out}"' in page(page_of(out))
    assert page_of("data/prompts/writer/mnli/en") == "lineage/models/writer.html"


def test_the_menu_has_it_on_every_page(spec):
    for path in REPORT.rglob("*.html"):
        assert 'prompts.html">Prompts</a>' in path.read_text().replace('" aria-current="page', "")


def test_rows_that_are_gone_are_said_to_be(made, tmp_path, monkeypatch):
    folder, spec = made
    shutil.copytree(folder, tmp_path / "small")
    monkeypatch.chdir(tmp_path / "small")
    shutil.rmtree("data/questions/writer")
    shutil.rmtree("data/prompts/writer")
    run(spec, REPORT)
    assert "No prompt is left among the results" in page("prompts.html")
    assert "prompts.html" in page("index.html")


def test_a_study_of_encoders_has_no_such_page_and_no_such_facts(spec):
    out = Path("other")
    run({key: value for key, value in spec.items() if key != "prompts"}, out)
    found = (out / "prompts.html").exists()
    menu = "prompts.html" in (out / "index.html").read_text()
    shutil.rmtree(out)
    assert not found
    assert not menu


@pytest.mark.parametrize("model", ["xlm-roberta-base", "qwen3-0.6b-base"])
def test_facts_are_of_the_prompts_that_are_used(model):
    content = {"study": "s", "models": [model], "recipes": ["none", "mnli"], "targets": ["xnli"]}
    registry = load_registry()
    plan = make_plan(load_study({**content, "languages": ["en"]}, "s"), registry, Lock(), "s")
    found = facts(registry, (job.spec for job in plan.jobs.values()))
    if model == "xlm-roberta-base":
        assert "prompts" not in found
    else:
        row = registry.prompts["nli"]
        assert found["prompts"] == {"nli": {"title": row.title, "source": row.source}}


# ---- methods


def test_methods_say_how_decoders_were_asked_and_trained(spec):
    text = text_of("methods.html")
    assert "Writer (2 blocks, 2.0 million parameters) is a pretrained decoder." in text
    assert "Writer are asked" not in text
    assert (
        "Writer is asked in words. For XNLI, the answer is the choice of the highest "
        "log-likelihood, by the sum less that of the same words without the question (PMI)"
    ) in text
    assert "What the other rules (sum, token and byte) choose is reported beside it." in text
    assert "Decoders are not fine-tuned on the targets&#39; own data." in text
    assert "Before a question 1 example stands, the same for all questions of a data set." in text
    assert "A prompt&#39;s own words are in English everywhere." in text
    assert "encoders are fine-tuned on data in English" in text
    assert "train low-rank adapters (LoRA, Hu et al. 2022) instead of all weights: rank 8" in text
    assert "main pmi" not in text
    assert lora_text(small_results.LORA) in text


def test_words_of_the_tested_language_are_told(spec):
    material = Material(spec)
    lineage = Lineage(spec["inputs"]["scores"])
    for item in lineage.of("prompts"):
        if item.out.endswith("/sw"):
            item.spec["prompt"]["words"]["yes"] = "Ndiyo"
    from xstilts.report.asked import paragraphs

    assert "words are in the language that is tested" in " ".join(paragraphs(material, lineage))


# ---- lineage


def test_a_chain_goes_through_merged_weights_to_the_adapter_and_the_base(spec):
    lineage = Lineage(spec["inputs"]["scores"])
    chain = list(lineage.chain("scores/writer/mnli/seed-2/xnli"))
    assert [item.stage for item in chain] == [
        *("score", "evaluate", "merge", "intermediate", "fetch_model")
    ]
    assert [item.title for item in chain[2:4]] == [
        *("Checkpoint with its adapter merged", "Intermediate adapter")
    ]
    content = page("lineage/cells/writer/mnli.html")
    assert 'id="merged/writer/mnli/seed-2/intermediate"' in content
    assert 'id="checkpoints/writer/mnli/seed-2/intermediate"' in content


def test_one_seed_of_none_is_no_missing_score(spec):
    warnings = " ".join(Material(spec).warnings())
    assert "writer / none / xnli" not in warnings
    tuned = {**spec["models"]["writer"], "tuned": True}
    models = {**spec["models"], "writer": tuned}
    # It has scores on no other target: those are missing first.
    lacking = Material({**spec, "models": models, "targets": spec["targets"][:1]}).warnings()
    assert "writer / none / xnli / seed 2" in " ".join(lacking)
