"""The full grid of the paper, counted by hand."""

from collections import Counter
from pathlib import Path

import pytest

from xstilts.plan import ANALYSIS, REPORT, TABLES, Plan
from xstilts.session import Session

RECIPES = 31  # none; 9 tasks and all of them mixed; MLM alone and beside those 10; 9 translations
SEEDS = 3
TRAINED, UNTRAINED = 8, 2


@pytest.fixture(scope="module")
def plan(repository: Path) -> Plan:
    return Session.of_file(repository / "studies" / "paper.yaml", repository).plan


def test_every_cell_is_planned_once(plan: Plan) -> None:
    stages = Counter(job.stage for job in plan.jobs.values())
    cells = RECIPES * SEEDS
    assert stages["intermediate"] == cells - SEEDS  # `none` has none
    # xnli, pawsx, udpos, panx, squad, tydiqa, siqa and copa after it
    assert stages["finetune"] == cells * 8
    # nothing random happens between the model and retrieval without intermediate training
    spared = UNTRAINED * (SEEDS - 1)
    assert stages["evaluate"] == stages["score"] == cells * (TRAINED + UNTRAINED) - spared
    assert stages["testset"] == TRAINED + UNTRAINED
    assert stages["fetch_model"] == stages["check"] == stages["aggregate"] == 1


def test_a_translation_serves_all_seeds(plan: Plan) -> None:
    wanted = {(data, code) for data in ("qqp", "hellaswag") for code in ("de", "ru", "sw")}
    assert {job.out for job in plan.of("translate")} == {
        f"data/translated/{data}/opus-mt-en-{code}" for data, code in wanted
    }
    assert len(plan.of("fetch_translator")) == 3
    for data, code in wanted:
        cell = f"checkpoints/xlm-roberta-large/{data}_{code}/seed-2/intermediate"
        (task,) = plan.jobs[cell].spec["tasks"]
        (tokens,) = task["tokens"]
        assert tokens == f"data/tokens/xlm-roberta-large/{data}/opus-mt-en-{code}"
        translated = plan.jobs[plan.jobs[tokens].spec["inputs"]["prepared"]]
        assert translated.spec["inputs"] == {
            "prepared": f"data/prepared/{data}/en",
            "translator": f"translators/opus-mt-en-{code}",
        }


def test_xquad_and_mlqa_share_one_checkpoint(plan: Plan) -> None:
    cell = "xlm-roberta-large/mnli/seed-2"
    used = {
        plan.jobs[f"predictions/{cell}/{target}"].spec["inputs"]["checkpoint"]
        for target in ("xquad", "mlqa")
    }
    assert used == {f"checkpoints/{cell}/squad"}


def test_xcopa_goes_through_siqa_and_keeps_its_head(plan: Plan) -> None:
    cell = "checkpoints/xlm-roberta-large/none/seed-1"
    copa = plan.jobs[f"{cell}/siqa-then-copa"]
    assert copa.spec["inputs"]["model"] == f"{cell}/siqa"
    assert copa.spec["heads"] == {"copa": "siqa"}
    assert plan.jobs[f"{cell}/siqa"].spec["heads"] == {}


def test_anli_plus_is_five_data_sets_with_one_head(plan: Plan) -> None:
    spec = plan.jobs["checkpoints/xlm-roberta-large/anli_plus/seed-1/intermediate"].spec
    (task,) = spec["tasks"]
    names = [path.split("/")[3] for path in task["tokens"]]
    assert names == ["snli", "mnli", "anli_r1", "anli_r2", "anli_r3"]


def test_words_with_white_space_get_the_label_of_xtreme(plan: Plan) -> None:
    tokens = [job for job in plan.jobs.values() if job.stage == "tokens"]
    odd = {job.spec["dataset"]: job.spec.get("odd_words") for job in tokens}
    assert {name: label for name, label in odd.items() if label} == {"panx": "O", "udpos": "X"}


def test_another_seed_changes_no_other_spec(repository: Path, plan: Plan) -> None:
    from xstilts.config import read_study

    study = read_study(repository / "studies" / "paper.yaml").model_dump(mode="json")
    more = Session.of_config({**study, "seeds": [1, 2, 3, 4]}, "x", repository, main=False).plan
    kept = {
        out: job.text for out, job in plan.jobs.items() if out not in (TABLES, ANALYSIS, REPORT)
    }
    assert kept == {out: more.jobs[out].text for out in kept}
    assert all("seed-4" in out for out in set(more.jobs) - set(plan.jobs))
