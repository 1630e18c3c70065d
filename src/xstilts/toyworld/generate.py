"""Labelled data in every format and language of the toy world, from one seed.

A row's meaning is drawn from (kind, split, row, seed) alone and then said in a language, so row i
is the same in every language. The `corpus` says a language's text in three ways, in shares that
are equal for all languages but the source, which needs none: as it is (`PLAIN`), with words of
the source mixed in (`SWITCHED`), and sentence by sentence beside its translation (the rest).
These, the names, digits and marks are the anchors that let an encoder align the languages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from xstilts.errors import InputError, nearest
from xstilts.toyworld import stories
from xstilts.toyworld.dice import Dice
from xstilts.toyworld.grammar import Speaker, Word, text_of
from xstilts.toyworld.inference import hypothesis, premise, rearranged, roles, swapped
from xstilts.toyworld.languages import SOURCE
from xstilts.toyworld.lexicon import (
    ADJECTIVE_ANTONYMS,
    CLASS_OF,
    CLASSES,
    ENTITY_TAGS,
    PARTS_OF_SPEECH,
    VERBS,
)
from xstilts.toyworld.meaning import Ask, Event, Fact, Phrase, Sentence, Thing, people

Row = dict[str, Any]
PLAIN, SWITCHED, SWITCH_RATE = 0.34, 0.33, 0.5
CONTEXT_SENTENCES = 3
CHOICES = 4


@dataclass(frozen=True)
class Kind:
    """One kind of data.

    Attributes:
        columns: Columns of its rows.
        think: Draws the meaning of a row; the row's index balances the labels.
        say: The meaning in the speaker's language, without the id.
        labels: Names of the labels or tags, in the order of their ids.
        distinct: Whether all meanings of a split differ.
    """

    columns: tuple[str, ...]
    think: Callable[[Dice, int], Any]
    say: Callable[[Any, Speaker, Dice], Row]
    labels: tuple[str, ...] = ()
    distinct: bool = False


def generate(kind: str, language: str, split: str, size: int, seed: int) -> list[Row]:
    """The first rows of a split.

    Args:
        kind: A key of `KINDS`.
        language: Code of a toy language.
        split: Name of the split; every name is another draw.
        size: Number of rows; fewer rows are a prefix of more.
        seed: Seed of the data (the languages themselves are fixed).

    Returns:
        Rows with the columns of the kind. Answers of `qa` have character offsets ``start``.

    Raises:
        InputError: Unknown kind or language, or a negative size.
    """
    if kind not in KINDS:
        raise InputError("toy world", "unknown kind", found=repr(kind), hint=nearest(kind, KINDS))
    if size < 0:
        raise InputError("toy world", "bad size", expected="0 or more rows", found=str(size))
    made, speaker = KINDS[kind], Speaker(language)
    rows = []
    for index, meaning in enumerate(_meanings(made, (kind, split, seed), size)):
        row = made.say(meaning, speaker, Dice(kind, split, seed, index, language))
        rows.append({"id": f"{split}-{index}"} | row)
    return rows


def _meanings(kind: Kind, key: tuple[str, str, int], size: int) -> Iterator[Any]:
    seen = set()
    for index in range(size):
        dice = Dice(*key, index)
        meaning = kind.think(dice, index)
        while kind.distinct and meaning in seen:
            meaning = kind.think(dice, index)
        if kind.distinct:
            seen.add(meaning)
        yield meaning


def _think_corpus(dice: Dice, _: int) -> list[Sentence]:
    return stories.document(dice)


def _say_corpus(document: list[Sentence], speaker: Speaker, dice: Dice) -> Row:
    code, way = speaker.here.code, 0.0 if speaker.here.code == SOURCE else dice.below(1000) / 1000
    if way < PLAIN:
        said = [speaker.say(sentence) for sentence in document]
    elif way < PLAIN + SWITCHED:
        mixed = Speaker(code, lambda: dice.chance(SWITCH_RATE))
        said = [mixed.say(sentence) for sentence in document]
    else:
        source, pairs = Speaker(SOURCE), document[:2]
        said = [voice.say(sentence) for sentence in pairs for voice in (speaker, source)]
    return {"text": " ".join(map(text_of, said))}


def _think_nli(dice: Dice, index: int) -> tuple[Event, Event, int]:
    label = index % 3
    event = hypothesis(dice)
    return premise(dice, event, label), event, label


def _think_paraphrase(dice: Dice, index: int) -> tuple[Event, Event, int]:
    label = index % 2
    event = roles(dice)
    other = rearranged(dice, event)
    return event, other if label else swapped(other), label


def _say_pair(pair: tuple[Event, Event, int], speaker: Speaker, _: Dice) -> Row:
    first, second, label = pair
    return {
        "text_a": text_of(speaker.say(first)),
        "text_b": text_of(speaker.say(second)),
        "label": label,
    }


def _think_qa(dice: Dice, index: int) -> tuple[list[Event], int, str]:
    events = stories.scene(dice, CONTEXT_SENTENCES)
    return events, dice.below(CONTEXT_SENTENCES), ("subject", "object", "in")[index % 3]


def _say_qa(meaning: tuple[list[Event], int, str], speaker: Speaker, _: Dice) -> Row:
    events, asked, role = meaning
    said = [speaker.say(event) for event in events]
    before = sum(len(text_of(words)) + 1 for words in said[:asked])
    start, text = _span(said[asked], role)
    question = text_of(speaker.say(stories.question(events[asked], role)))
    context = " ".join(map(text_of, said))
    return {
        "context": context,
        "question": question,
        "answers": [{"text": text, "start": before + start}],
    }


def _span(words: list[Word], role: str) -> tuple[int, str]:
    """Offset and text of the phrase with a role, without its adposition."""
    chosen = [i for i, word in enumerate(words) if word.role == role and word.pos != "ADP"]
    first, last = chosen[0], chosen[-1]
    start = len(text_of(words[:first])) + (1 if first else 0)
    return start, text_of(words[first : last + 1])


def _think_choice(dice: Dice, index: int) -> tuple[Sentence, list[Phrase | str], int]:
    prompt, right, wrong = (_kind_choice, _object_choice, _opposite_choice)[index % 3](dice)
    label = dice.below(CHOICES)
    choices = dice.some(wrong, CHOICES - 1)
    return prompt, [*choices[:label], right, *choices[label:]], label


Choice = tuple[Sentence, Phrase | str, list[Phrase | str]]


def _kind_choice(dice: Dice) -> Choice:
    kind = dice.one(tuple(CLASSES))
    wrong: list[Phrase | str] = [Thing(n, article="a") for n, k in CLASS_OF.items() if k != kind]
    right = Thing(dice.one(CLASSES[kind]), article="a")
    return Fact(Ask("what"), Thing(kind, article=None), relation="kind"), right, wrong


def _object_choice(dice: Dice) -> Choice:
    verb = dice.one([verb for verb, kinds in VERBS.items() if len(kinds) < len(CLASSES)])
    nouns = tuple(CLASS_OF)
    fit = [noun for noun in nouns if CLASS_OF[noun] in VERBS[verb]]
    wrong: list[Phrase | str] = [Thing(noun) for noun in nouns if noun not in fit]
    return Event(verb, people(dice, 1)[0], Ask("what")), Thing(dice.one(fit)), wrong


def _opposite_choice(dice: Dice) -> Choice:
    word = dice.one(tuple(ADJECTIVE_ANTONYMS))
    right = ADJECTIVE_ANTONYMS[word]
    wrong: list[Phrase | str] = [a for a in ADJECTIVE_ANTONYMS if a not in (word, right)]
    return Fact(Ask("what"), word, relation="opposite"), right, wrong


def _say_choice(meaning: tuple[Sentence, list[Any], int], speaker: Speaker, _: Dice) -> Row:
    prompt, choices, label = meaning
    said = [[speaker.word(c)] if isinstance(c, str) else speaker.phrase(c) for c in choices]
    return {
        "prompt": text_of(speaker.say(prompt)),
        "choices": [text_of(words) for words in said],
        "label": label,
    }


def _think_sentence(dice: Dice, _: int) -> Event:
    return stories.sentence(dice)


def _think_pos(dice: Dice, _: int) -> Sentence:
    if dice.chance(0.15):
        return stories.fact(dice)
    event = stories.sentence(dice)
    if not dice.chance(0.15):
        return event
    roles_asked = ["subject", *(["object"] if event.object else [])]
    return stories.question(event, dice.one(roles_asked))


def _think_news(dice: Dice, _: int) -> Event:
    return stories.news(dice) if dice.chance(0.75) else stories.sentence(dice)


def _say_pos(sentence: Sentence, speaker: Speaker, _: Dice) -> Row:
    words = speaker.say(sentence)
    tags = [PARTS_OF_SPEECH.index(word.pos) for word in words]
    return {"tokens": [word.text for word in words], "tags": tags}


def _say_ner(event: Event, speaker: Speaker, _: Dice) -> Row:
    words = speaker.say(event)
    tags = [ENTITY_TAGS.index(word.entity) for word in words]
    return {"tokens": [word.text for word in words], "tags": tags}


def _think_comparable(dice: Dice, index: int) -> tuple[Event, int]:
    return stories.sentence(dice), index % 3


def _say_comparable(meaning: tuple[Event, int], speaker: Speaker, dice: Dice) -> Row:
    """A third of the sentences stands on both sides, a third on either side alone."""
    event, sides = meaning
    row = _say_parallel(event, speaker, dice)
    return row | ({}, {"source": None}, {"target": None})[sides]


def _say_parallel(event: Event, speaker: Speaker, _: Dice) -> Row:
    return {
        "source": text_of(speaker.say(event)),
        "target": text_of(Speaker(SOURCE).say(event)),
    }


_PAIR = ("id", "text_a", "text_b", "label")
_TAGGED = ("id", "tokens", "tags")
_NLI_LABELS = ("entailment", "neutral", "contradiction")
KINDS: dict[str, Kind] = {
    "corpus": Kind(("id", "text"), _think_corpus, _say_corpus),
    "nli": Kind(_PAIR, _think_nli, _say_pair, _NLI_LABELS),
    "paraphrase": Kind(_PAIR, _think_paraphrase, _say_pair, ("different", "paraphrase")),
    "qa": Kind(("id", "context", "question", "answers"), _think_qa, _say_qa),
    "choice": Kind(
        ("id", "prompt", "choices", "label"), _think_choice, _say_choice, ("0", "1", "2", "3")
    ),
    "pos": Kind(_TAGGED, _think_pos, _say_pos, PARTS_OF_SPEECH),
    "ner": Kind(_TAGGED, _think_news, _say_ner, ENTITY_TAGS),
    "parallel": Kind(("id", "source", "target"), _think_sentence, _say_parallel, distinct=True),
    "comparable": Kind(
        ("id", "source", "target"), _think_comparable, _say_comparable, distinct=True
    ),
}
LABELS: dict[str, tuple[str, ...]] = {name: kind.labels for name, kind in KINDS.items()}
"""Names of the labels of each kind, in the order of their ids; empty where it has none."""
