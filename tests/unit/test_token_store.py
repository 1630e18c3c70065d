"""Token stores: read, cut into padded batches, joined; and the stages that count them."""

import csv
import json
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from tiny import CLS, MASK, PAD, SEP, meta_of, store_of, write_tokens
from xstilts.artifacts.publish import publishing
from xstilts.data import check, testset
from xstilts.data.token_store import TokenStore, concatenate, has_split, read_meta, read_store
from xstilts.errors import InputError


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def flat(*rows: list[int], **more) -> TokenStore:
    offsets = np.cumsum([0, *map(len, rows)])
    arrays = {"input_ids": np.array([*chain(*rows)], np.int32), "offsets": offsets, **more}
    return TokenStore(arrays, meta_of("sequence_classification"))


def test_padding_by_hand():
    store = flat([0, 5, 2], [0, 6, 7, 8, 2], [0, 2])
    batch = store.padded(np.array([2, 0]))
    assert {name: array.tolist() for name, array in batch.items()} == {
        "input_ids": [[0, 2, PAD], [0, 5, 2]],
        "attention_mask": [[1, 1, 0], [1, 1, 1]],
    }
    assert store.lengths.tolist() == [3, 5, 2]
    assert store.padded(np.array([1]))["input_ids"].tolist() == [[0, 6, 7, 8, 2]]


def test_segments_are_passed_on():
    store = flat([0, 5, 2], [0, 2], type_ids=np.array([0, 0, 1, 1, 1], np.uint8))
    assert store.padded(np.array([0, 1]))["token_type_ids"].tolist() == [[0, 0, 1], [1, 1, 0]]


def test_gather_fills_what_is_not_there():
    store = flat([0, 5, 2], [0, 2], labels=np.array([-100, 1, -100, 7, 8]))
    assert store.gather("labels", np.array([1, 0]), -9).tolist() == [[7, 8, -9], [-100, 1, -100]]


def test_a_tokens_artifact_is_read_and_checked():
    folder = Path(write_tokens("tokens/a", "token_classification"))
    store = read_store(folder, "dev")
    assert store.sequences == 10
    assert store.meta == meta_of("token_classification")
    assert store.meta.special_ids == (CLS, PAD, SEP, MASK)
    assert (store.arrays["input_ids"][store.arrays["offsets"][:-1]] == CLS).all()
    with pytest.raises(InputError, match=r"lists no file 'validation\.safetensors'"):
        read_store(folder, "validation")


def test_labels_name_outputs_only_where_a_head_has_one_for_each():
    assert read_meta(Path(write_tokens("tokens/a", "multiple_choice"))).labels is None
    assert read_meta(Path(write_tokens("tokens/b", "question_answering"))).labels is None


@pytest.mark.parametrize("name", ["meta.json", "train.safetensors"])
def test_changed_bytes_are_seen(name):
    path = Path(write_tokens("tokens/a", "token_classification"), name)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: has other bytes"):
        read_store(path.parent, "train")


def test_a_lost_split_is_no_missing_split():
    folder = Path(write_tokens("tokens/a", "token_classification"))
    (folder / "dev.safetensors").unlink()
    assert has_split(folder, "dev")
    assert not has_split(folder, "validation")
    with pytest.raises(InputError, match="the file is missing"):
        read_store(folder, "dev")


@pytest.mark.parametrize(
    "name",
    ["sequence_classification", "multiple_choice", "question_answering", "token_classification"],
)
def test_joined_stores_give_the_same_batches(name):
    from xstilts.formats.head import trained_format

    parts = [store_of(name, 6, seed) for seed in (1, 2, 3)]
    joined, format_ = concatenate(parts), trained_format(name)
    units = [len(format_.unit_lengths(part)) for part in parts]
    assert format_.unit_lengths(joined).tolist() == [
        length for part in parts for length in format_.unit_lengths(part)
    ]
    for number, part in enumerate(parts):
        ids = np.arange(units[number])
        alone = format_.collate(part, ids, np.random.default_rng(0))
        together = format_.collate(joined, ids + sum(units[:number]), np.random.default_rng(0))
        assert alone.keys() == together.keys()
        for key in alone:
            np.testing.assert_array_equal(alone[key], together[key])
    if "example" in joined.arrays:
        counts = [len(np.unique(part.arrays["example"])) for part in parts]
        assert np.unique(joined.arrays["example"]).tolist() == list(range(sum(counts)))


def test_data_sets_of_one_task_must_agree_on_labels():
    one, two = store_of("sequence_classification"), store_of("sequence_classification")
    other = TokenStore(two.arrays, meta_of("token_classification"))
    with pytest.raises(InputError, match=r"expected yes, no, perhaps; found O, B-PER, I-PER"):
        concatenate([one, other])


def test_testset_counts_the_test_splits():
    splits = {"test.source": 3, "test.target": 4, "dev.source": 2}
    inputs = {"tokens": [write_tokens("tokens/a", "masked_lm", splits=splits)]}
    spec = {"stage": "testset", "target": "bucc", "languages": ["de"], "inputs": inputs}
    testset.run(spec, Path("testset"))
    assert json.loads(Path("testset/languages.json").read_text()) == {
        "de": {"test.source": {"examples": 3}, "test.target": {"examples": 4}}
    }


def test_testset_without_a_test_split():
    inputs = {"tokens": [write_tokens("tokens/a", "masked_lm", splits={"train": 3, "dev": 1})]}
    spec = {"stage": "testset", "target": "xnli", "languages": ["de"], "inputs": inputs}
    with pytest.raises(InputError, match=r"evaluate 'xnli' on in 'de'; found train, dev"):
        testset.run(spec, Path("testset"))
    assert not Path("testset").exists()


def report(folder: str, expected: int | None) -> str:
    counts = {"rows_in": 9, "rows": 7, "expected": expected}
    counts |= {"dropped": {"no label": 2}, "notes": {"b": 1, "a": 3}}
    with publishing(Path(folder), {"stage": "prepare"}) as draft:
        text = json.dumps({"splits": {"train": counts}})
        (draft.folder / "report.json").write_text(text)
    return folder


def test_check_writes_every_split_and_says_which_differ(capsys):
    data = [
        report("data/prepared/mnli/en", 9),
        report("data/prepared/qqp/en", None),
        report("data/prepared/xnli/de", 8),
        write_tokens("data/tokens/m/mnli/en", "masked_lm"),
    ]
    inputs = {"data": data[2:], "held": data[:2]}
    check.run({"stage": "check", "inputs": inputs}, Path("data/check"))
    with Path("data/check/datasets.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["dataset"] + row["language"] + row["expected"] for row in rows] == [
        "mnlien9",
        "qqpen",
        "xnlide8",
    ]
    assert rows[0] == {
        "dataset": "mnli",
        "language": "en",
        "split": "train",
        "expected": "9",
        "rows_in": "9",
        "rows": "7",
        "dropped": "no label: 2",
        "notes": "a: 3; b: 1",
    }
    assert "3 splits, 21 rows; 1 splits differ" in capsys.readouterr().err


def test_check_sees_a_lost_report():
    folder = report("data/prepared/mnli/en", 9)
    Path(folder, "report.json").unlink()
    with pytest.raises(InputError, match="the file is missing"):
        check.run({"stage": "check", "inputs": {"data": [folder], "held": []}}, Path("data/check"))
