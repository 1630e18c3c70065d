"""What is said, free of any language: people, things, events and facts, and how they are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from xstilts.toyworld.dice import Dice
from xstilts.toyworld.lexicon import (
    ADJECTIVES,
    ADVERBS,
    CLASSES,
    FIRM_KINDS,
    FIRMS,
    FIRST_NAMES,
    PLACES,
    SURNAMES,
    TOWN_PREFIXES,
    TOWNS,
    VERBS,
)


@dataclass(frozen=True)
class Name:
    """A named entity; its words are the same in every language, but for the script."""

    words: tuple[str, ...]
    entity: Literal["PER", "ORG", "LOC"]


@dataclass(frozen=True)
class Thing:
    """A common noun with its adjective and article; the number is a digit or none."""

    noun: str
    adjective: str | None = None
    article: str | None = "the"
    count: int = 1


@dataclass(frozen=True)
class Ask:
    """A question word in the place of what is asked for."""

    word: Literal["who", "what", "where"]


Phrase = Name | Thing | Ask


@dataclass(frozen=True)
class Event:
    """Who did what to what, from where, to whom, for whom, in which place, and how.

    Attributes:
        verb: The verb's concept.
        subject: Who does it.
        object: What it is done to.
        adjuncts: Pairs of preposition and phrase, in the order in which they are said.
        adverb: How or when.
        adverb_at: Where in the sentence the adverb is said: before or after the adjuncts, or first.
        future: Whether it is still to come.
        fronted: How many of the adjuncts are said first in the sentence.
    """

    verb: str
    subject: Phrase
    object: Phrase | None = None
    adjuncts: tuple[tuple[str, Phrase], ...] = ()
    adverb: str | None = None
    adverb_at: Literal["last", "early", "first"] = "last"
    future: bool = False
    fronted: int = 0


@dataclass(frozen=True)
class Fact:
    """Something is, or is not, something; ``opposite`` makes it an opposite instead of a kind.

    Attributes:
        subject: A thing or name, or the concept of a bare word.
        predicate: A thing, or the concept of a bare word.
        negated: "is not".
        relation: ``opposite`` for "big is the opposite of small", ``kind`` for "a dog is a kind
            of animal", None for plain "is".
    """

    subject: Phrase | str
    predicate: Phrase | str
    negated: bool = False
    relation: Literal["kind", "opposite"] | None = None


Sentence = Event | Fact


def person(dice: Dice) -> Name:
    """A person: a first name, with a surname every fifth time."""
    first = dice.one(FIRST_NAMES)
    return Name((first, dice.one(SURNAMES)) if dice.chance(0.2) else (first,), "PER")


def people(dice: Dice, count: int) -> list[Name]:
    """Different people, no two of whom share a first name."""
    return [
        Name((first, dice.one(SURNAMES)) if dice.chance(0.2) else (first,), "PER")
        for first in dice.some(FIRST_NAMES, count)
    ]


def towns(dice: Dice, count: int) -> list[Name]:
    """Different towns; some have a prefix (Port, Lake, New)."""
    return [
        Name((dice.one(TOWN_PREFIXES), town) if dice.chance(0.15) else (town,), "LOC")
        for town in dice.some(TOWNS, count)
    ]


def firm(dice: Dice) -> Name:
    """A firm; some are called like a person's surname or after a town."""
    head = dice.one(TOWNS) if dice.chance(0.2) else dice.one(FIRMS)
    return Name((head, dice.one(FIRM_KINDS)), "ORG")


def thing(dice: Dice, noun: str, adjective: float = 0.4) -> Thing:
    """A thing of a kind, with an adjective at the given probability."""
    article = "the" if dice.chance(0.7) else "a"
    count = 2 + dice.below(8) if dice.chance(0.15) else 1
    return Thing(noun, dice.one(ADJECTIVES) if dice.chance(adjective) else None, article, count)


def place(dice: Dice) -> tuple[str, Phrase]:
    """Where something happens: a common place, or a town."""
    if dice.chance(0.5):
        return ("in", Thing(dice.one(PLACES)))
    return ("in", towns(dice, 1)[0])


def deed(dice: Dice, subject: Phrase | None = None) -> Event:
    """An event of everyday life: somebody or an animal does something to a thing."""
    verb = dice.one(tuple(VERBS))
    noun = dice.one(CLASSES[dice.one(VERBS[verb])])
    if subject is None:
        subject = actor(dice, noun)
    return Event(
        verb,
        subject,
        thing(dice, noun),
        (place(dice),) if dice.chance(0.4) else (),
        dice.one(ADVERBS) if dice.chance(0.3) else None,
        future=dice.chance(0.25),
    )


def actor(dice: Dice, other_than: str) -> Phrase:
    """A person, worker or animal, but not the given noun."""
    if dice.chance(0.4):
        return person(dice)
    noun = dice.one(CLASSES["worker" if dice.chance(0.5) else "animal"])
    return actor(dice, other_than) if noun == other_than else thing(dice, noun, 0.3)
