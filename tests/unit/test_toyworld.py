from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter

import pytest

from xstilts.errors import InputError
from xstilts.toyworld.dice import Dice
from xstilts.toyworld.generate import CHOICES, KINDS, LABELS, generate
from xstilts.toyworld.grammar import Speaker, text_of
from xstilts.toyworld.inference import hypothesis
from xstilts.toyworld.languages import LANGUAGES, SOURCE, distance, vocabulary
from xstilts.toyworld.lexicon import CLASS_OF, CONCEPTS, NOUN_SYNONYMS
from xstilts.toyworld.meaning import Event, Fact, Name, Thing

LATIN = [code for code, row in LANGUAGES.items() if row.script == "Latn"]
SENTENCE = Event(
    "chase", Thing("dog"), Thing("cat", "big", count=2), (("in", Name(("Velden",), "LOC")),)
)


def texts(row: dict) -> str:
    return repr({key: value for key, value in row.items() if key != "id"})


# the languages


def test_codes_are_private_use_and_the_source_is_english_like():
    assert all(code[0] == "q" and "a" <= code[1] <= "t" for code in LANGUAGES)
    assert len(LANGUAGES) >= 6
    assert all(word == concept for concept, word in vocabulary(SOURCE).items())


def test_distance_is_zero_at_the_source_and_ranks_the_others():
    values = [distance(code) for code in LANGUAGES]
    assert values[0] == 0.0
    assert values == sorted(set(values))
    assert values[-1] <= 1.0


def test_distance_of_one_language_by_hand():
    # 0.6 of the words shared, adjective after the noun, other suffixes: 0.24 + 0.05 + 0.05
    assert distance("qac") == pytest.approx(0.34)


@pytest.mark.parametrize("code", LATIN)
def test_share_of_common_words_is_as_planted(code):
    words = vocabulary(code)
    shared = sum(words[concept] == concept for concept in CONCEPTS) / len(CONCEPTS)
    assert shared == pytest.approx(LANGUAGES[code].shared_words, abs=1 / len(CONCEPTS))


@pytest.mark.parametrize("code", LANGUAGES)
def test_no_two_concepts_have_the_same_word(code):
    words = vocabulary(code)
    assert len(set(words.values())) == len(words) == len(CONCEPTS)


def test_shared_words_are_nested():
    shared = [{c for c in CONCEPTS if vocabulary(code)[c] == c} for code in LATIN]
    assert all(far < near for near, far in itertools.pairwise(shared))


def test_the_far_language_shares_no_letter():
    row = generate("parallel", "qaf", "test", 1, 3)[0]
    assert not {c for c in row["source"] if c.isascii() and c.isalpha()}
    assert len(set(LANGUAGES["qaf"].spell("abcdefghijklmnopqrstuvwxyz"))) == 26


def test_unknown_language_is_named():
    with pytest.raises(InputError, match=r"'qqq'.*Valid names|Did you mean"):
        generate("nli", "qqq", "test", 1, 0)
    with pytest.raises(InputError, match="Did you mean 'nli'"):
        generate("nlii", "qaa", "test", 1, 0)


# the grammar


def test_source_sentence():
    assert text_of(Speaker("qaa").say(SENTENCE)) == "the dog chased 2 big cats in Velden ."


def order_of(code: str) -> list[str]:
    concepts = {word: concept for concept, word in vocabulary(code).items()}
    language = LANGUAGES[code]
    names = []
    for word in Speaker(code).say(SENTENCE):
        stems = [word.text.removesuffix(language.spell(s)) for s in (language.accusative or "#",
                 language.plural, language.past, "#")]  # fmt: skip
        names.append(next((concepts[s] for s in stems if s in concepts), word.text))
    return names


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("qab", "the dog chase 2 big cat in Velden ."),
        ("qac", "the dog chase 2 cat big in Velden ."),
        ("qad", "chase the dog 2 cat big in Velden ."),
        ("qae", "dog Velden in 2 big cat chase ."),
    ],
)
def test_word_order_is_as_planted(code, expected):
    assert " ".join(order_of(code)) == expected


def test_negated_and_opposite_facts():
    speaker = Speaker("qaa")
    fact = Fact(Thing("dog", article="a"), Thing("plum", article="a"), negated=True)
    assert text_of(speaker.say(fact)) == "a dog is not a plum ."
    fact = Fact("big", "small", relation="opposite")
    assert text_of(speaker.say(fact)) == "big is the opposite of small ."


# the rows


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("code", LANGUAGES)
def test_rows_have_their_columns_and_are_repeatable(kind, code):
    rows = generate(kind, code, "dev", 12, 5)
    assert all(tuple(row) == KINDS[kind].columns for row in rows)
    assert [row["id"] for row in rows] == [f"dev-{i}" for i in range(12)]
    assert rows[:7] == generate(kind, code, "dev", 7, 5)
    assert texts(rows[0]) != texts(generate(kind, code, "dev", 1, 6)[0])
    assert texts(rows[0]) != texts(generate(kind, code, "test", 1, 5)[0])


def test_rows_do_not_depend_on_the_hash_seed():
    code = (
        "from xstilts.toyworld.generate import KINDS, generate\n"
        "print([generate(kind, 'qae', 'test', 5, 1) for kind in KINDS])"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1] != b""


@pytest.mark.parametrize("kind", ["nli", "paraphrase", "choice"])
def test_labels_are_the_same_in_every_language_and_balanced(kind):
    labels = [[row["label"] for row in generate(kind, c, "test", 600, 1)] for c in LANGUAGES]
    assert all(other == labels[0] for other in labels)
    counts = Counter(labels[0])
    assert set(counts) == set(range(len(LABELS[kind])))
    slack = 60 if kind == "choice" else 0
    assert max(counts.values()) - min(counts.values()) <= slack


@pytest.mark.parametrize("code", LANGUAGES)
def test_answers_stand_at_their_offset(code):
    rows = generate("qa", code, "test", 150, 2)
    for row in rows:
        answer = row["answers"][0]
        end = answer["start"] + len(answer["text"])
        assert row["context"][answer["start"] : end] == answer["text"]
        assert row["context"].count(answer["text"]) >= 1
        assert row["question"].endswith("?")
    assert len({row["answers"][0]["text"] for row in rows}) > 50


def test_question_answer_in_the_source_by_hand():
    event = Event("paint", Name(("Anna",), "PER"), Thing("cat"), (("in", Thing("barn")),))
    from xstilts.toyworld.generate import _say_qa

    row = _say_qa(([event, event], 1, "in"), Speaker("qaa"), Dice(0))
    assert row["question"] == "Anna painted the cat where ?"
    assert row["answers"] == [{"text": "the barn", "start": 59}]
    assert row["context"][59:] == "the barn ."


def test_nli_label_cannot_be_told_from_the_hypothesis():
    """Each word of the hypothesis is about as frequent under each label."""
    counts: dict[int, Counter[str]] = {0: Counter(), 1: Counter(), 2: Counter()}
    lengths: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for row in generate("nli", "qaa", "train", 6000, 1):
        words = row["text_b"].split()
        counts[row["label"]].update(set(words))
        lengths[row["label"]].append(len(words))
    means = [sum(values) / len(values) for values in lengths.values()]
    assert max(means) - min(means) < 0.15
    for word, count in counts[0].items():
        total = sum(counts[label][word] for label in counts)
        if total >= 90:  # 5 standard deviations of a binomial with p = 1/3
            assert abs(count - total / 3) < 5 * (total * 2 / 9) ** 0.5, word


def test_hypotheses_are_drawn_before_the_label_is_known():
    from xstilts.toyworld.generate import _think_nli

    for index in range(3):
        assert _think_nli(Dice("x"), index)[1] == hypothesis(Dice("x"))


def test_paraphrase_pairs_share_their_words_and_move_them():
    for code in ("qaa", "qad", "qaf"):
        for row in generate("paraphrase", code, "test", 200, 1):
            first, second = row["text_a"].split(), row["text_b"].split()
            assert sorted(first) == sorted(second)
            assert first != second


def test_choice_has_one_right_object():
    for row in generate("choice", "qaa", "test", 90, 1):
        assert len(set(row["choices"])) == CHOICES
        if row["prompt"].startswith("what is a kind of"):
            kind = row["prompt"].split()[5]
            kinds = [CLASS_OF[choice.split()[-1]] for choice in row["choices"]]
            assert [i for i, name in enumerate(kinds) if name == kind] == [row["label"]]


@pytest.mark.parametrize("kind", ["pos", "ner"])
def test_tags_are_aligned_and_valid(kind):
    for code in LANGUAGES:
        for row in generate(kind, code, "test", 80, 1):
            assert len(row["tokens"]) == len(row["tags"])
            assert all(token and " " not in token for token in row["tokens"])
            names = [LABELS[kind][tag] for tag in row["tags"]]
            for before, tag in zip(["O", *names], names, strict=False):
                if tag.startswith("I-"):
                    assert before[2:] == tag[2:]


def test_every_tag_occurs():
    for kind in ("pos", "ner"):
        seen = {tag for row in generate(kind, "qaa", "train", 1500, 1) for tag in row["tags"]}
        missing = {LABELS[kind][i] for i in range(len(LABELS[kind])) if i not in seen}
        assert not missing, missing


def test_comparable_sentences_stand_on_both_sides_or_on_one():
    rows = generate("comparable", "qab", "dev", 9, 1)
    both = [row for row in rows if row["source"] and row["target"]]
    assert len(both) == 3
    assert sum(row["source"] is None for row in rows) == 3
    assert sum(row["target"] is None for row in rows) == 3


def test_parallel_sentences_are_distinct_on_both_sides():
    for code in LANGUAGES:
        rows = generate("parallel", code, "test", 600, 1)
        assert len({row["source"] for row in rows}) == len(rows)
        assert len({row["target"] for row in rows}) == len(rows)
    assert all(r["source"] == r["target"] for r in generate("parallel", SOURCE, "test", 20, 1))


def test_sentences_are_short():
    lengths = [len(row["tokens"]) for row in generate("pos", "qaa", "train", 500, 1)]
    assert min(lengths) >= 4
    assert max(lengths) <= 15


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "corpus"])
def test_splits_do_not_overlap_more_than_chance_demands(kind, record_property):
    train = {texts(row) for row in generate(kind, "qaa", "train", 3000, 1)}
    test = [texts(row) for row in generate(kind, "qaa", "test", 300, 1)]
    overlap = sum(row in train for row in test) / len(test)
    record_property("overlap", overlap)
    assert overlap <= OVERLAP.get(kind, 0.01)


# short sentences of few words (Anna lived in Korsk) repeat by chance
OVERLAP = {"pos": 0.15, "ner": 0.2, "parallel": 0.1}


def test_every_word_is_used_by_the_corpus():
    words = {w for r in generate("corpus", "qaa", "train", 6000, 1) for w in r["text"].split()}
    said = Speaker("qaa")
    unused = [c for c in CONCEPTS if not {c, said.word(c, "past").text} & words]
    assert unused == []


def test_corpus_teaches_every_relation_and_mixes_the_source_in():
    text = " ".join(row["text"] for row in generate("corpus", "qaa", "train", 6000, 1))
    for second, first in NOUN_SYNONYMS.items():
        assert f"every {second} is a {first} ." in text
    assert all(f"every {noun} is a {kind} ." in text for noun, kind in CLASS_OF.items())
    rows = [row["text"].split() for row in generate("corpus", "qaf", "train", 300, 1)]
    latin = [sum(w.isascii() and w.isalpha() for w in row) / len(row) for row in rows]
    assert 0.2 < sum(share == 0 for share in latin) / len(latin) < 0.5
    assert max(latin) < 0.9
