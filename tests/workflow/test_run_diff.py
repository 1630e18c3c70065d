"""`xstilts audit diff` of two finished studies: what was changed is named as the cause."""

import json

import pytest
from copies import Copy

KEY = "training.tasks.toy_qa.learning_rate"


@pytest.mark.slow
def test_a_changed_setting_is_the_root_cause(finished: Copy, copy: Copy) -> None:
    file = copy.folder / "found.json"
    places = (str(finished.results), str(copy.results))
    command = ("xstilts", "audit", "diff", *places, "--json", str(file))
    assert "The same: all" in copy.run(*command)

    with copy.study() as study:
        study["training"]["tasks"]["toy_qa"]["learning_rate"] = 0.5
    made = copy.made()
    said = copy.run(*command, fails=True)
    found = json.loads(file.read_text())

    (cause,) = found["causes"]
    assert cause["reasons"] == ["settings.learning_rate: 0.0005 -> 0.5"]
    assert cause["begins"] == [
        f"checkpoints/matrix-xlmr/{recipe}/seed-1/toy_qa" for recipe in ("none", "pairs")
    ]
    assert cause["further"] == []
    assert {*cause["begins"], *found["following"]} <= made
    assert found["only_in_first"] == found["only_in_second"] == []
    assert [entry["key"] for entry in found["study"]] == [KEY]

    assert {row["target"] for row in found["moved"]} == {"toy_qa"}
    assert any(row["difference"] for row in found["moved"])
    assert said.index("settings.learning_rate") < said.index("Artifacts by stage")
    assert f"{KEY}: (absent) -> 0.5" in said
