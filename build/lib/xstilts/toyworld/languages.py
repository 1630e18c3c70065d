"""The languages of the toy world: what is planted, and the words that follow from it.

The codes come from the range that ISO 639-2 reserves for private use (qaa-qtz), so they collide
with no language. Nothing but the fields of :class:`ToyLanguage` tells two languages apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Literal

from xstilts.errors import InputError, nearest
from xstilts.toyworld.lexicon import CONCEPTS, FUNCTION_WORDS

SOURCE = "qaa"
_GEORGIAN = str.maketrans("abcdefghijklmnopqrstuvwxyz", "აბცდეფგჰიჯკლმნოპქრსტუვწხყზ")
_WEIGHTS = {"words": 0.6, "order": 0.1, "adjective": 0.05, "adposition": 0.05, "suffixes": 0.05}
_SCRIPT_WEIGHT = 0.15


@dataclass(frozen=True)
class ToyLanguage:
    """What is planted in one language.

    Attributes:
        code: Private-use code.
        name: Invented name.
        script: ISO 15924 code; any but ``Latn`` is spelt letter by letter in that script, names
            of people and places too.
        shared_words: Share of the lexicon (function words included) spelt as in the source.
            The sets are nested: what a far language shares, a nearer one shares too.
        order: Order of subject, verb and object.
        adjective: Place of the adjective: ``before`` or ``after`` its noun.
        adposition: ``pre``: in the garden; ``post``: the garden in.
        articles: Whether "the" and "a" are said.
        plural: Suffix of plural nouns.
        past: Suffix of past verbs.
        accusative: Suffix of common nouns as objects; empty without case.
        consonants: Consonants of the words that are the language's own.
        vowels: Vowels of these words.
    """

    code: str
    name: str
    script: Literal["Latn", "Geor"]
    shared_words: float
    order: Literal["SVO", "SOV", "VSO"]
    adjective: Literal["before", "after"]
    adposition: Literal["pre", "post"]
    articles: bool
    plural: str
    past: str
    accusative: str
    consonants: str
    vowels: str

    def spell(self, word: str) -> str:
        """A word in the language's script."""
        return word if self.script == "Latn" else word.lower().translate(_GEORGIAN)


_ROWS = (
    ToyLanguage(
        "qaa", "Anglen", "Latn", 1.0, "SVO", "before", "pre", True, "s", "ed", "",
        "bdfghklmnprstw", "aeiou",
    ),
    ToyLanguage(
        "qab", "Borisk", "Latn", 0.8, "SVO", "before", "pre", True, "en", "te", "",
        "bdfghklmnprstv", "aeiou",
    ),
    ToyLanguage(
        "qac", "Cavelo", "Latn", 0.6, "SVO", "after", "pre", True, "os", "ava", "",
        "bcdlmnprstvz", "aeio",
    ),
    ToyLanguage(
        "qad", "Demuri", "Latn", 0.4, "VSO", "after", "pre", True, "im", "on", "",
        "bdghklmnrsvy", "aiu",
    ),
    ToyLanguage(
        "qae", "Essulat", "Latn", 0.2, "SOV", "before", "post", False, "lar", "du", "yi",
        "bdghkmnprsty", "aeou",
    ),
    ToyLanguage(
        "qaf", "Fezaru", "Geor", 0.0, "SOV", "after", "post", False, "ebi", "tsa", "ma",
        "bdgkmnrstvz", "aeiou",
    ),
)  # fmt: skip
LANGUAGES: Mapping[str, ToyLanguage] = MappingProxyType({row.code: row for row in _ROWS})
"""The table of planted distances."""


def language(code: str) -> ToyLanguage:
    """The language of a code.

    Raises:
        InputError: There is none.
    """
    if code not in LANGUAGES:
        raise InputError(
            "toy world", "unknown language", found=repr(code), hint=nearest(code, LANGUAGES)
        )
    return LANGUAGES[code]


def distance(code: str) -> float:
    """Planted distance from the source, between 0 (the source) and 1.

    A weighted sum: 0.6 x share of words not shared, 0.1 for another order of subject, verb and
    object, 0.05 each for another place of the adjective, of the adposition, and for other
    suffixes or articles, 0.15 for another script. The weights are ours; their use is to rank.

    Raises:
        InputError: No such language.
    """
    here, source = language(code), LANGUAGES[SOURCE]
    forms = ("plural", "past", "accusative", "articles")
    parts = {
        "words": 1 - here.shared_words,
        "order": here.order != source.order,
        "adjective": here.adjective != source.adjective,
        "adposition": here.adposition != source.adposition,
        "suffixes": any(getattr(here, form) != getattr(source, form) for form in forms),
    }
    structure = sum(weight * float(parts[name]) for name, weight in _WEIGHTS.items())
    return round(structure + _SCRIPT_WEIGHT * (here.script != source.script), 6)


@cache
def vocabulary(code: str) -> Mapping[str, str]:
    """The stem of every concept in one language, in its script.

    Shared words keep the source's spelling; the others are made of the language's own syllables,
    so that no word of the language looks like another one or like a word of the source.
    """
    here = language(code)
    shared = set(_by_rank()[: round(here.shared_words * len(CONCEPTS))])
    taken, words = set(CONCEPTS), {}
    for concept in CONCEPTS:
        word = concept if concept in shared else _invent(here, concept, taken)
        taken.add(word)
        words[concept] = here.spell(word)
    return MappingProxyType(words)


def _by_rank() -> list[str]:
    """The concepts in the order in which languages give up sharing them (last one first)."""
    return sorted(CONCEPTS, key=lambda concept: _digest(f"share {concept}"))


def _invent(here: ToyLanguage, concept: str, taken: set[str]) -> str:
    """A word of one syllable and a half for function words, of two or three for others."""
    attempt = 0
    while True:
        draw = _digest(f"{here.code} {concept} {attempt}")
        syllables = 1 if concept in FUNCTION_WORDS else 2
        word = ""
        for _ in range(syllables):
            draw, first = divmod(draw, len(here.consonants))
            draw, second = divmod(draw, len(here.vowels))
            word += here.consonants[first] + here.vowels[second]
        word += here.consonants[draw % len(here.consonants)]
        if word not in taken:
            return word
        attempt += 1


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
