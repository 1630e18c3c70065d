"""XTREME's file tree: what odd input means, and which input is refused, where and why."""

import json

import pytest

from xstilts.errors import InputError
from xstilts.evaluation import tree

NLI = ("entailment", "neutral", "contradiction")
NER = ("O", "B-PER", "I-PER")


def squad(*questions):
    rows = [
        {
            "id": id_,
            "question": "?",
            "answers": [{"text": text, "answer_start": 0} for text in texts],
        }
        for id_, *texts in questions
    ]
    return json.dumps({"data": [{"title": "t", "paragraphs": [{"context": "c", "qas": rows}]}]})


@pytest.fixture
def read(tmp_path):
    """Read a gold and a prediction file that are made of text or bytes."""

    def read(kind, gold, predictions, known=()):
        paths = tmp_path / "gold", tmp_path / "found"
        for path, content in zip(paths, (gold, predictions), strict=True):
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return kind.read(*paths, known)

    return read


# ---- what is read


@pytest.mark.parametrize(
    "text",
    [
        "neutral\nentailment\n",
        "neutral\nentailment",
        "neutral\r\nentailment\r\n",
        "neutral\rentailment",
    ],
)
def test_line_ends_of_all_systems(read, text):
    found = read(tree.LABELS, "neutral\nentailment\n", text, NLI)
    assert found.predictions == found.gold == ["neutral", "entailment"]
    assert found.notes == {}


def test_only_line_ends_end_lines(read):
    # str.splitlines would make more lines of these.
    odd = "neutral\u2028\x85neutral"
    found = read(tree.LABELS, "neutral\nneutral\n", f"{odd}\nneutral\n", NLI)
    assert found.predictions == [odd, "neutral"]


def test_white_space_of_any_script_is_stripped(read):
    assert read(tree.LABELS, "1\n", "\u3000\u00a01\t \n", ("0", "1")).predictions == ["1"]


def test_unknown_labels_are_kept_and_noted(read):
    found = read(tree.LABELS, "neutral\n" * 3, "Neutral\nneutral\n\n", NLI)
    assert found.predictions == ["Neutral", "neutral", ""]
    expected = (
        "predicted values, wrong as officially, that are not one of entailment, neutral, "
        "contradiction (line 1: 'Neutral')"
    )
    assert found.notes == {expected: 2}


def test_unknown_gold_labels_are_noted_and_may_be_predicted(read):
    found = read(tree.LABELS, "neutral\nother\n", "neutral\nother\n", NLI)
    assert [note.split(",")[0] for note in found.notes] == ["gold values"]


def test_tags_of_any_scheme_and_empty_sentences(read):
    text = "\nI-PER\nO\n\n\nB-PER\n"
    found = read(tree.TAGS, text, text, NER)
    assert found.predictions == found.gold == [[], ["I-PER", "O"], [], ["B-PER"]]
    assert found.notes == {}


def test_unknown_tags_are_noted_by_line(read):
    found = read(tree.TAGS, "O\n\nB-PER\nO\n", "O\n\nB-DOG\nO\n", NER)
    (note,) = found.notes
    assert "(line 3: 'B-DOG')" in note


def test_line_numbers_are_compared_as_text(read):
    found = read(tree.NUMBERS, "12\n7\n3\n", "12\n07\n[3]\n")
    assert found.predictions == ["12", "07", "[3]"]
    assert list(found.notes.values()) == [2]


def test_pairs_are_sets_without_order(read):
    found = read(tree.PAIRS, "f1\te1\nf2\te2\n", "f2\te2\nf1\te9\nf2\te2\n")
    pairs = list(zip(found.gold, found.predictions, strict=True))
    assert pairs == [({"e1"}, {"e9"}), ({"e2"}, {"e2"})]
    assert found.notes == {"repeated predicted pairs, counted once": 1}


def test_a_line_that_is_no_pair_counts_as_a_wrong_one(read):
    found = read(tree.PAIRS, "f1\te1\n", "f1\te1\n\nf3\n")
    assert found.predictions == [{"e1"}, {""}, {""}]
    assert found.gold == [{"e1"}, set(), set()]
    assert list(found.notes.values()) == [2]


def test_no_pairs_at_all_are_noted(read):
    found = read(tree.PAIRS, "f1\te1\nf2\te2\n", "")
    assert found.predictions == [set(), set()]
    assert list(found.notes.values()) == [2]


def test_answers_without_order_with_missing_stray_and_repeated_ids(read):
    gold = squad(("a", "x", "y"), ("b", "z"), ("a", "w"))
    found = read(tree.ANSWERS, gold, '{"stray": 7, "a": "x"}')
    assert found.gold == [["x", "y"], ["z"], ["w"]]
    assert found.predictions == ["x", None, "x"]
    assert found.notes == {
        "ids without prediction, scored 0 (first: 'b')": 1,
        "predicted ids without gold, not used (first: 'stray')": 1,
        "repeated gold ids, scored each time as officially": 1,
    }


def test_a_list_of_articles_will_do(read):
    articles = json.dumps(json.loads(squad(("a", "x")))["data"])
    assert read(tree.ANSWERS, articles, "{}").gold == [["x"]]


def test_choices(read):
    found = read(
        tree.CHOICES, '{"label": 0}\n{"label": 1}\n', '{"label": 0}\n{"id": 3, "label": "1"}'
    )
    assert found.gold == [0, 1]
    assert found.predictions == [0, "1"]
    assert list(found.notes.values()) == [1]


def test_rankings(read):
    found = read(tree.RANKINGS, '{"m": ["Q1"], "n": ["Q2"]}', '{"n": ["Q3", "Q2"], "z": ["Q1"]}')
    assert found.gold == [["Q1"], ["Q2"]]
    assert found.predictions == [[], ["Q3", "Q2"]]
    assert list(found.notes.values()) == [1, 1]


# ---- what is refused

ONE = squad(("a", "x"))
REFUSED = {
    "too few lines": (
        *(tree.LABELS, "neutral\n" * 3, "neutral\n" * 2),
        r"found: line 3: is missing; expected 3 lines, as in .*gold; found 2",
    ),
    "too many lines": (tree.LABELS, "neutral\n", "neutral\n" * 2, r"line 2: is one too many"),
    "a blank line at the end": (
        *(tree.LABELS, "neutral\n", "neutral\n\n"),
        r"line 2: is one too many.*more are blank",
    ),
    "empty predictions": (tree.LABELS, "neutral\n", "", r"found: line 1: is missing"),
    "empty gold": (tree.LABELS, "", "", r"gold: is empty"),
    "no label is one": (
        *(tree.LABELS, "neutral\n" * 2, "0\n2\n"),
        r"found: line 1: neither this .* expected one of entailment, .*found '0'",
    ),
    "gold of another task": (tree.LABELS, "1\n", "neutral\n", r"gold: line 1: neither this"),
    "byte-order mark": (
        *(tree.LABELS, "neutral\n", b"\xef\xbb\xbfneutral\n"),
        r"found: line 1: begins with a byte-order mark.*Save the file as UTF-8 without it",
    ),
    "Latin-1": (
        *(tree.LABELS, "neutral\nneutral\n", b"neutral\nn\xe9utral\n"),
        r"found: line 2: is not UTF-8; found byte 0xe9",
    ),
    "UTF-16": (tree.LABELS, "1\n", "1\n".encode("utf-16"), r"found: line 1: is not UTF-8"),
    "a doubled blank line on one side": (
        *(tree.TAGS, "O\n\n\nO\n", "O\n\nO\n"),
        r"found: line 3: sentence 2 is not .*expected 0 tags; found 1 tags",
    ),
    "a sentence cut short": (
        *(tree.TAGS, "O\nO\n\nB-PER\nO\n", "O\nO\n\nB-PER\n"),
        r"found: line 4: sentence 2 .*expected 2 tags; found 1 tags.*cut off for length",
    ),
    "sentences missing": (
        *(tree.TAGS, "O\n\nO\n", "O\n"),
        r"found: line 3: sentence 2 .*expected 1 tags; found no such sentence",
    ),
    "a sentence too many": (
        *(tree.TAGS, "O\n", "O\n\nO\nO\n"),
        r"found: line 3: sentence 2 .*expected no such sentence; found 2 tags",
    ),
    "no gold tag": (tree.TAGS, "\n\n", "\n\n", r"gold: holds no tag"),
    "no tag is one": (
        *(tree.TAGS, "O\nO\n", "en:a O\nen:b O\n"),
        r"found: line 1: neither.*found 'en:a O'",
    ),
    "printed arrays": (
        *(tree.NUMBERS, "12\n3\n", "[12]\n[3]\n"),
        r"found: line 1: neither.*without brackets.*found '\[12\]'",
    ),
    "no line number at all": (tree.NUMBERS, "", "", r"gold: is empty"),
    "pairs with a score": (
        *(tree.PAIRS, "f1\te1\n", "f1\te1\t0.9\n"),
        r"found: line 1: neither.*a foreign id TAB an English id.*0\.9",
    ),
    "swapped columns": (
        *(tree.PAIRS, "f1\te1\nf2\te2\n", "e9\tf9\ne2\tf2\n"),
        r"found: line 2: is a pair .* the other way round",
    ),
    "no gold pair": (tree.PAIRS, "", "f1\te1\n", r"gold: is empty"),
    "a doubled id": (
        *(tree.ANSWERS, ONE, '{\n"a": "x",\n"b": "y",\n"a": "z"}'),
        r"found: line 4: holds the id 'a' again",
    ),
    "another data set's ids": (
        *(tree.ANSWERS, ONE, '{"7": "x"}'),
        r"has no prediction for any id.*expected ids such as 'a'; found '7'",
    ),
    "an answer that is no text": (tree.ANSWERS, ONE, '{"a": ["x"]}', r"id 'a': is no text"),
    "a list of predictions": (tree.ANSWERS, ONE, "[]", r"found: is no JSON object"),
    "broken JSON": (
        *(tree.ANSWERS, ONE, '{"a": "x",\n"b"}'),
        r"found: line 2: is no JSON \(Expecting.*column 4\)",
    ),
    "an empty JSON file": (tree.ANSWERS, ONE, "", r"found: line 1: is no JSON"),
    "JSON with a byte-order mark": (tree.ANSWERS, "\ufeff" + ONE, "{}", r"gold: line 1: begins"),
    "no gold answer": (
        *(tree.ANSWERS, squad(("a", "x"), ("b",)), "{}"),
        r"gold: data\[0\]: paragraphs\[0\]: qas\[1\] \(id 'b'\): has no gold answer",
    ),
    "no question": (tree.ANSWERS, '{"data": []}', "{}", r"gold: holds no question"),
    "gold of another layout": (tree.ANSWERS, '{"a": "x"}', "{}", r"gold: has no list 'data'"),
    "a gold answer without text": (
        *(tree.ANSWERS, ONE.replace('"text"', '"txt"'), "{}"),
        r"qas\[0\]: answers\[0\]: has no text",
    ),
    "a question without id": (tree.ANSWERS, ONE.replace('"a"', "5"), "{}", r"id: is no text"),
    "no label in a choice": (
        *(tree.CHOICES, '{"label": 0}\n', '{"choice": 0}\n'),
        r"found: line 1: holds no label",
    ),
    "a bare choice": (tree.CHOICES, '{"label": 0}\n', "zero\n", r"found: line 1: is no JSON"),
    "a choice that is true": (
        *(tree.CHOICES, '{"label": 1}\n', '{"label": true}\n'),
        r"found: line 1: holds no label",
    ),
    "choices from 1": (
        *(tree.CHOICES, '{"label": 0}\n', '{"label": 2}\n'),
        r'found: line 1: neither.*"label" that is 0 or 1; found 2',
    ),
    "a candidate that is no list": (
        *(tree.RANKINGS, '{"m": ["Q1"]}', '{"m": "Q1"}'),
        r"found: id 'm': is no list of candidates' ids; found 'Q1'",
    ),
    "a gold ranking without candidate": (
        *(tree.RANKINGS, '{"m": []}', '{"m": ["Q1"]}'),
        r"gold: id 'm': is no list",
    ),
    "no gold ranking": (tree.RANKINGS, "{}", "{}", r"gold: is empty"),
}


@pytest.mark.parametrize(
    ("kind", "gold", "predictions", "message"), REFUSED.values(), ids=REFUSED.keys()
)
def test_what_says_nothing_is_refused(read, kind, gold, predictions, message):
    known = {tree.LABELS: NLI, tree.TAGS: NER}.get(kind, ())
    with pytest.raises(InputError, match=rf"(?s){message}"):
        read(kind, gold, predictions, known)


def test_a_folder_in_place_of_a_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        tree.LABELS.read(tmp_path, tmp_path, NLI)
