"""Larger meanings: the news, restatements, and documents that teach how concepts relate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from xstilts.toyworld.dice import Dice
from xstilts.toyworld.inference import hypothesis, premise, rearranged, roles
from xstilts.toyworld.lexicon import (
    ADJECTIVE_ANTONYMS,
    ADJECTIVE_SYNONYMS,
    ADVERB_ANTONYMS,
    CLASS_OF,
    CLASSES,
    NOUN_SYNONYMS,
    SOCIAL_VERBS,
    TRADE_VERBS,
    VERBS,
)
from xstilts.toyworld.meaning import (
    Ask,
    Event,
    Fact,
    Sentence,
    Thing,
    deed,
    firm,
    people,
    person,
    place,
    thing,
    towns,
)


def news(dice: Dice) -> Event:
    """An event among named people, firms and towns."""
    return dice.one(_NEWS)(dice)


def _job(dice: Dice) -> Event:
    town = dice.chance(0.5)
    where = (("in", towns(dice, 1)[0]),) if town else ()
    return Event("work", person(dice), adjuncts=(("for", firm(dice)), *where))


def _journey(dice: Dice) -> Event:
    start, end = towns(dice, 2)
    return Event("travel", person(dice), adjuncts=(("from", start), ("to", end)))


def _home(dice: Dice) -> Event:
    return Event("live", person(dice), adjuncts=(("in", towns(dice, 1)[0]),))


def _contact(dice: Dice) -> Event:
    first, second = people(dice, 2)
    if dice.chance(0.4):
        first = firm(dice)
    where = (place(dice),) if dice.chance(0.4) else ()
    return Event(dice.one(SOCIAL_VERBS), first, second, where, future=dice.chance(0.2))


def _trade(dice: Dice) -> Event:
    buyer = firm(dice) if dice.chance(0.5) else person(dice)
    seller = firm(dice) if dice.chance(0.5) else towns(dice, 1)[0]
    goods = thing(dice, dice.one(tuple(CLASS_OF)))
    return Event(dice.one(TRADE_VERBS), buyer, goods, (("from", seller),))


_NEWS: tuple[Callable[[Dice], Event], ...] = (_job, _journey, _home, _contact, _trade)


def sentence(dice: Dice) -> Event:
    """Any event: of everyday life or from the news, with some of it said first."""
    event = deed(dice) if dice.chance(0.5) else news(dice)
    return replace(event, fronted=1) if event.adjuncts and dice.chance(0.2) else event


def scene(dice: Dice, count: int) -> list[Event]:
    """Events of different people, with different things, in different towns."""
    who, where = people(dice, count), towns(dice, count)
    nouns = dice.some(tuple(CLASS_OF), count)
    return [
        Event(dice.one(_VERBS_OF[CLASS_OF[noun]]), name, thing(dice, noun, 0.15), (("in", town),))
        for name, noun, town in zip(who, nouns, where, strict=True)
    ]


def question(event: Event, role: str) -> Event:
    """The event with a question word for its subject, its object, or its place (``in``)."""
    if role == "subject":
        return replace(event, subject=Ask("who"))
    if role == "object":
        return replace(event, object=Ask("what"))
    return replace(event, adjuncts=((role, Ask("where")),))


_VERBS_OF = {kind: tuple(verb for verb, of in VERBS.items() if kind in of) for kind in CLASSES}


def fact(dice: Dice) -> Sentence:
    """One sentence about what things or words are."""
    return dice.one(_facts(dice))


def document(dice: Dice) -> list[Sentence]:
    """Sentences that belong together: facts, restatements, a digest, or a report."""
    return dice.one(_DOCUMENTS)(dice)


def _facts(dice: Dice) -> list[Sentence]:
    noun = dice.one(tuple(CLASS_OF))
    kind = CLASS_OF[noun]
    other = dice.one([name for name in CLASSES if name != kind])
    facts: list[Sentence] = [_class_fact(dice, noun, kind)]
    wrong = other if dice.chance(0.5) else dice.one([n for n in CLASSES[kind] if n != noun])
    facts.append(Fact(Thing(noun, article="a"), Thing(wrong, article="a"), negated=True))
    facts.append(_word_fact(dice))
    return facts


def _class_fact(dice: Dice, noun: str, kind: str) -> Fact:
    if dice.chance(0.5):
        return Fact(Thing(noun, article="a"), Thing(kind, article=None), relation="kind")
    return Fact(Thing(noun, article="every"), Thing(kind, article="a"))


def _word_fact(dice: Dice) -> Fact:
    if dice.chance(0.35):
        second, first = dice.one(tuple(NOUN_SYNONYMS.items()))
        return Fact(Thing(second, article="every"), Thing(first, article="a"))
    if dice.chance(0.2):
        second, first = dice.one(tuple(ADJECTIVE_SYNONYMS.items()))
        noun = dice.one(tuple(CLASS_OF))
        return Fact(Thing(noun, second), Thing(noun, first, article="a"))
    opposites = ADJECTIVE_ANTONYMS if dice.chance(0.7) else ADVERB_ANTONYMS
    word = dice.one(tuple(opposites))
    return Fact(word, opposites[word], relation="opposite")


def _restatement(dice: Dice) -> list[Sentence]:
    general = hypothesis(dice)
    return [premise(dice, general, 0), general]


def _rearrangement(dice: Dice) -> list[Sentence]:
    first = roles(dice)
    return [first, rearranged(dice, first)]


def _digest(dice: Dice) -> list[Sentence]:
    told = scene(dice, 2)
    again = dice.one(told)
    if dice.chance(0.5):
        return [*told, question(again, dice.one(("subject", "object", "in")))]
    return [*told, rearranged(dice, again)]


def _report(dice: Dice) -> list[Sentence]:
    hero = person(dice)
    return [deed(dice, hero), deed(dice, hero)] if dice.chance(0.5) else [news(dice), news(dice)]


_DOCUMENTS: tuple[Callable[[Dice], list[Sentence]], ...] = (
    _facts,
    _restatement,
    _rearrangement,
    _digest,
    _report,
)
