"""The concepts of the toy world, named by their English word, and how they relate.

Every concept has one key, its word in the source language. Relations (class membership, synonyms,
antonyms, what a verb is done to) hold between concepts and so are the same in every language.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _pairs(text: str) -> Mapping[str, str]:
    return MappingProxyType(dict(pair.split("-") for pair in text.split()))


def _both_ways(text: str) -> Mapping[str, str]:
    pairs = _pairs(text)
    return MappingProxyType({**pairs, **{b: a for a, b in pairs.items()}})


_CLASSES = {
    "animal": "dog cat horse cow bird rabbit goat duck",
    "vehicle": "car truck boat train bike plane wagon tractor",
    "tool": "hammer saw drill axe shovel ladder rope needle",
    "fruit": "apple pear plum lemon melon grape banana fig",
    "garment": "coat hat shirt sock skirt glove boot jacket",
    "instrument": "drum flute guitar violin piano harp trumpet horn",
    "vessel": "cup bowl jar bottle bucket pot barrel basket",
    "worker": "doctor farmer teacher baker sailor painter driver lawyer",
}
CLASSES = MappingProxyType({name: _words(words) for name, words in _CLASSES.items()})
"""Hypernym to its members; the classes are disjoint."""

CLASS_OF = MappingProxyType({noun: name for name, nouns in CLASSES.items() for noun in nouns})

NOUN_SYNONYMS = _pairs(
    "hound-dog steed-horse auto-car ship-boat cycle-bike cord-rope cloak-coat cap-hat "
    "fiddle-violin pail-bucket medic-doctor grower-farmer tutor-teacher mariner-sailor"
)
"""Second word to first word of the same meaning."""

ADJECTIVE_ANTONYMS = _both_ways(
    "big-small old-new hot-cold wet-dry heavy-light clean-dirty strong-weak rich-poor "
    "happy-sad soft-hard thick-thin loud-quiet tame-wild rough-smooth"
)
ADJECTIVE_SYNONYMS = _pairs("large-big little-small glad-happy damp-wet mighty-strong")
"""Second word to first word of the same meaning."""

COLOURS = _words("red blue green black white yellow")
ADJECTIVES = (*ADJECTIVE_ANTONYMS, *COLOURS)
ADVERB_ANTONYMS = _both_ways("often-rarely slowly-quickly early-late here-there gently-roughly")
ADVERBS = tuple(ADVERB_ANTONYMS)

_VERB_OBJECTS = {
    "follow": "animal worker vehicle",
    "chase": "animal vehicle",
    "groom": "animal",
    "repair": "vehicle instrument tool",
    "park": "vehicle",
    "use": "tool vessel",
    "sharpen": "tool",
    "peel": "fruit",
    "taste": "fruit",
    "fold": "garment",
    "wash": "garment vessel fruit",
    "mend": "garment tool",
    "play": "instrument",
    "tune": "instrument",
    "fill": "vessel",
    "lift": "vessel tool",
    "help": "worker",
    "thank": "worker",
    "watch": "*",
    "paint": "*",
    "touch": "*",
    "move": "*",
    "want": "*",
    "like": "*",
}
VERBS = MappingProxyType(
    {
        verb: tuple(CLASSES) if classes == "*" else _words(classes)
        for verb, classes in _VERB_OBJECTS.items()
    }
)
"""Verb to the classes of its objects."""

SOCIAL_VERBS = _words("help thank follow call visit phone trust warn")
"""Verbs whose subject and object are both people."""

TRADE_VERBS = _words("order mail offer deliver rent")
"""Verbs of things that go from one owner or place to another."""

PLACES = _words("garden kitchen market forest street harbour school barn station bridge")

FUNCTION_WORDS = MappingProxyType(
    {
        "the": "DET",
        "a": "DET",
        "every": "DET",
        "is": "AUX",
        "will": "AUX",
        "not": "PART",
        "in": "ADP",
        "from": "ADP",
        "to": "ADP",
        "of": "ADP",
        "for": "ADP",
        "who": "PRON",
        "what": "PRON",
        "where": "PRON",
    }
)
RELATION_NOUNS = ("kind", "opposite")
RELATION_VERBS = ("work", "live", "travel")

FIRST_NAMES = _words(
    "Anna Boris Clara Dmitri Elena Felix Greta Hugo Irena Jonas Karin Leon Mira Nils Olga "
    "Pavel Rosa Stefan Tilda Viktor"
)
SURNAMES = _words(
    "Adler Brandt Corvin Dorsey Ekman Falk Garner Holt Ivers Jansen Keller Lorimer Marlow "
    "Norden Orwin Palmer Quist Rowan Sander Tolan"
)
TOWNS = _words(
    "Ardenal Belmora Castrin Durvale Estola Ferrano Galdor Hollin Istrel Juvano Korsk Lundra "
    "Mestia Norvik Ostrava Pirano Ravell Soldin Tarnow Velden"
)
TOWN_PREFIXES = ("Port", "Lake", "New")
FIRMS = _words(
    "Axeon Brill Cerox Dynar Elvex Fintra Gorman Hexal Infor Jolt Kvant Lumex Marlow Norden "
    "Holt Palmer"
)
FIRM_KINDS = ("Bank", "Group", "Works", "Union", "Press")

PARTS_OF_SPEECH = (
    "ADJ",
    "ADP",
    "ADV",
    "AUX",
    "DET",
    "NOUN",
    "NUM",
    "PART",
    "PRON",
    "PROPN",
    "PUNCT",
    "VERB",
)
ENTITY_TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")


def _concepts() -> dict[str, str]:
    groups = {
        "NOUN": (*CLASS_OF, *CLASSES, *NOUN_SYNONYMS, *PLACES, *RELATION_NOUNS),
        "ADJ": (*ADJECTIVES, *ADJECTIVE_SYNONYMS),
        "ADV": ADVERBS,
        "VERB": (*dict.fromkeys((*VERBS, *SOCIAL_VERBS, *TRADE_VERBS, *RELATION_VERBS)),),
    }
    table = {word: tag for tag, words in groups.items() for word in words}
    return table | dict(FUNCTION_WORDS)


CONCEPTS = MappingProxyType(_concepts())
"""Every translatable concept to its part of speech (names, digits and marks are not translated)."""
