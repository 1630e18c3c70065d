"""Pairs of events: what follows from what, and who did what to whom.

NLI without give-aways: the hypothesis is drawn first, without knowing the label, and the premise
is then derived from it. So no label can be told from the hypothesis alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Literal

from xstilts.toyworld.dice import Dice
from xstilts.toyworld.lexicon import (
    ADJECTIVE_ANTONYMS,
    ADJECTIVE_SYNONYMS,
    ADJECTIVES,
    ADVERB_ANTONYMS,
    ADVERBS,
    CLASS_OF,
    CLASSES,
    COLOURS,
    NOUN_SYNONYMS,
    PLACES,
    SOCIAL_VERBS,
    TRADE_VERBS,
    VERBS,
)
from xstilts.toyworld.meaning import Event, Name, Thing, people, towns

Edit = Callable[[Dice], Event]
_NOUN_TWINS = {first: second for second, first in NOUN_SYNONYMS.items()} | dict(NOUN_SYNONYMS)
_ADJECTIVE_TWINS = {b: a for a, b in ADJECTIVE_SYNONYMS.items()} | dict(ADJECTIVE_SYNONYMS)
_PARTS = ("subject", "object")
_ADVERB_AT: tuple[Literal["last", "early", "first"], ...] = ("last", "early", "first")


def hypothesis(dice: Dice) -> Event:
    """An event of which a premise can be made for every label."""
    while True:
        event = _plain(dice)
        if event.subject != event.object and all(edits(event) for edits in _EDITS):
            return event


def _plain(dice: Dice) -> Event:
    verb = dice.one(tuple(VERBS))
    subject = replace(_thing(dice, dice.one(("worker", "animal"))), adjective=None)
    target = _thing(dice, dice.one(VERBS[verb]))
    more = dice.below(4)
    where = (("in", Thing(dice.one(PLACES))),) if more == 1 else ()
    return Event(verb, subject, target, where, dice.one(ADVERBS) if more == 2 else None)


def _thing(dice: Dice, kind: str) -> Thing:
    noun = kind if dice.chance(0.25) else dice.one(CLASSES[kind])
    if noun in _NOUN_TWINS and dice.chance(0.5):
        noun = _NOUN_TWINS[noun]
    adjective = None
    if dice.chance(0.4):
        adjective = dice.one(tuple(_ADJECTIVE_TWINS) if dice.chance(0.2) else ADJECTIVES)
    return Thing(noun, adjective)


def premise(dice: Dice, event: Event, label: int) -> Event:
    """A premise that entails the event (0), leaves it open (1), or contradicts it (2).

    One slot decides the label; every third premise of any label says more in another slot.
    """
    edits = _EDITS[label](event)
    slot = dice.one(tuple(edits))
    edited = edits[slot](dice)
    if dice.chance(0.33):
        more = {other: edit for other, edit in _sharper(edited).items() if other != slot}
        if more:
            return dice.one(tuple(more.values()))(dice)
    return edited


def _sharper(event: Event) -> Mapping[str, Edit]:
    """Edits to an event that entails this one: a member for its class, a synonym, more said."""
    edits: dict[str, Edit] = {}
    for part in _PARTS:
        old = getattr(event, part)
        if old.noun in CLASSES:
            edits[part] = partial(_noun, event, part, CLASSES[old.noun])
        elif old.noun in _NOUN_TWINS:
            edits[part] = partial(_noun, event, part, (_NOUN_TWINS[old.noun],))
        if old.adjective is None and part == "object":
            edits[f"{part} adjective"] = partial(_adjective, event, part, ADJECTIVES)
        elif old.adjective in _ADJECTIVE_TWINS:
            twin = _ADJECTIVE_TWINS[old.adjective]
            edits[f"{part} adjective"] = partial(_adjective, event, part, (twin,))
    if not event.adjuncts:
        edits["place"] = partial(_place, event, PLACES)
    if event.adverb is None:
        edits["adverb"] = partial(_adverb, event, ADVERBS)
    return edits


def _vaguer(event: Event) -> Mapping[str, Edit]:
    """Edits to an event that leaves this one open: a class for its member, less said."""
    edits: dict[str, Edit] = {}
    for part in _PARTS:
        old = getattr(event, part)
        if old.noun not in CLASSES:
            edits[part] = partial(_noun, event, part, (CLASS_OF[_first_word(old.noun)],))
        if old.adjective is not None:
            edits[f"{part} adjective"] = partial(_adjective, event, part, (None,))
    if event.adjuncts:
        edits["place"] = partial(_place, event, (None,))
    if event.adverb is not None:
        edits["adverb"] = partial(_adverb, event, (None,))
    return edits


def _clashing(event: Event) -> Mapping[str, Edit]:
    """Edits to an event that cannot be this one: another member or class, an antonym."""
    edits: dict[str, Edit] = {}
    for part in _PARTS:
        old = getattr(event, part)
        edits[part] = partial(_noun, event, part, _rivals(old.noun))
        if old.adjective is not None:
            rivals = _adjective_rivals(old.adjective)
            edits[f"{part} adjective"] = partial(_adjective, event, part, rivals)
    if event.adjuncts:
        here = event.adjuncts[0][1]
        rest = tuple(place for place in PLACES if Thing(place) != here)
        edits["place"] = partial(_place, event, rest)
    if event.adverb is not None:
        edits["adverb"] = partial(_adverb, event, (ADVERB_ANTONYMS[event.adverb],))
    return edits


_EDITS: tuple[Callable[[Event], Mapping[str, Edit]], ...] = (_sharper, _vaguer, _clashing)


def _first_word(noun: str) -> str:
    return NOUN_SYNONYMS.get(noun, noun)


def _rivals(noun: str) -> tuple[str, ...]:
    """Nouns that exclude this one: other members of its class, or members of another class."""
    if noun in CLASSES:
        return tuple(member for member, kind in CLASS_OF.items() if kind != noun)
    first = _first_word(noun)
    return tuple(member for member in CLASSES[CLASS_OF[first]] if member != first)


def _adjective_rivals(adjective: str) -> tuple[str, ...]:
    if adjective in COLOURS:
        return tuple(colour for colour in COLOURS if colour != adjective)
    return (ADJECTIVE_ANTONYMS[ADJECTIVE_SYNONYMS.get(adjective, adjective)],)


def _noun(event: Event, part: str, nouns: tuple[str, ...], dice: Dice) -> Event:
    return _with(event, part, replace(getattr(event, part), noun=dice.one(nouns)))


def _adjective(event: Event, part: str, words: tuple[str | None, ...], dice: Dice) -> Event:
    return _with(event, part, replace(getattr(event, part), adjective=dice.one(words)))


def _with(event: Event, part: str, new: Thing) -> Event:
    return replace(event, subject=new) if part == "subject" else replace(event, object=new)


def _place(event: Event, places: tuple[str | None, ...], dice: Dice) -> Event:
    place = dice.one(places)
    return replace(event, adjuncts=() if place is None else (("in", Thing(place)),))


def _adverb(event: Event, adverbs: tuple[str | None, ...], dice: Dice) -> Event:
    return replace(event, adverb=dice.one(adverbs))


def roles(dice: Dice) -> Event:
    """An event of which two phrases can change places so that it still makes sense."""
    event = dice.one((_meeting, _journey, _gift))(dice)
    return replace(event, adverb=dice.one(ADVERBS), adverb_at=dice.one(_ADVERB_AT))


def _meeting(dice: Dice) -> Event:
    first, second = people(dice, 2)
    return Event(dice.one(SOCIAL_VERBS), first, second, (("in", towns(dice, 1)[0]),))


def _journey(dice: Dice) -> Event:
    start, end = towns(dice, 2)
    return Event("travel", people(dice, 1)[0], adjuncts=(("from", start), ("to", end)))


def _gift(dice: Dice) -> Event:
    giver, taker = people(dice, 2)
    goods = Thing(dice.one(tuple(CLASS_OF)))
    return Event(dice.one(TRADE_VERBS), giver, goods, (("to", taker),))


def rearranged(dice: Dice, event: Event) -> Event:
    """The same event in another order of words: another place of the adverb, or of adjuncts."""
    if event.adverb is not None:
        return replace(event, adverb_at=dice.one([p for p in _ADVERB_AT if p != event.adverb_at]))
    fronts = [front for front in range(len(event.adjuncts) + 1) if front != event.fronted]
    return replace(event, fronted=dice.one(fronts))


def swapped(event: Event) -> Event:
    """Another event of the same words: two names have changed places."""
    if len(event.adjuncts) == 2:
        (start, origin), (end, goal) = event.adjuncts
        return replace(event, adjuncts=((start, goal), (end, origin)))
    if isinstance(event.object, Name):
        return replace(event, subject=event.object, object=event.subject)
    role, other = event.adjuncts[0]
    return replace(event, subject=other, adjuncts=((role, event.subject),))
