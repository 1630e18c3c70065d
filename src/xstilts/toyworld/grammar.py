"""From a meaning to the words of one language, each with its part of speech and entity tag."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from xstilts.toyworld.languages import SOURCE, ToyLanguage, language, vocabulary
from xstilts.toyworld.lexicon import CONCEPTS
from xstilts.toyworld.meaning import Ask, Event, Fact, Name, Phrase, Sentence, Thing

Switch = Callable[[], bool]


class Word(NamedTuple):
    """One word of a sentence.

    Attributes:
        text: Its form.
        pos: Universal part of speech.
        entity: IOB2 entity tag.
        role: Part of the sentence that it belongs to: verb, subject, object, a preposition.
    """

    text: str
    pos: str
    entity: str = "O"
    role: str = ""


class Speaker:
    """Says meanings in one language.

    Args:
        code: The language.
        switch: Asked before each word of the lexicon: whether to say its source word instead.
    """

    def __init__(self, code: str, switch: Switch | None = None) -> None:
        self.here = language(code)
        self._source = language(SOURCE)
        self._words, self._source_words = vocabulary(code), vocabulary(SOURCE)
        self._switch = switch

    def say(self, sentence: Sentence) -> list[Word]:
        """A sentence with its final mark."""
        said = self._event(sentence) if isinstance(sentence, Event) else self._fact(sentence)
        return [*said, Word("?" if _is_question(sentence) else ".", "PUNCT")]

    def word(self, concept: str, form: str = "") -> Word:
        """A word of the lexicon; ``form`` is plural, past, accusative or nothing."""
        if self._switch is not None and self._switch():
            speaker, words = self._source, self._source_words
        else:
            speaker, words = self.here, self._words
        return Word(_inflect(speaker, words[concept], form), CONCEPTS[concept])

    def phrase(self, phrase: Phrase, case: str = "") -> list[Word]:
        """A noun phrase."""
        if isinstance(phrase, Name):
            return self._name(phrase)
        if isinstance(phrase, Ask):
            return [self.word(phrase.word)]
        return self._thing(phrase, case)

    def _name(self, name: Name) -> list[Word]:
        tags = ["B-", *["I-"] * (len(name.words) - 1)]
        return [
            Word(self.here.spell(word), "PROPN", tag + name.entity)
            for tag, word in zip(tags, name.words, strict=True)
        ]

    def _thing(self, thing: Thing, case: str) -> list[Word]:
        noun = [self.word(thing.noun, case or ("plural" if thing.count > 1 else ""))]
        if thing.adjective is not None:
            adjective = self.word(thing.adjective)
            noun = [adjective, *noun] if self.here.adjective == "before" else [*noun, adjective]
        if thing.count > 1:
            return [Word(str(thing.count), "NUM"), *noun]
        if thing.article is None or not (self.here.articles or thing.article == "every"):
            return noun
        return [self.word(thing.article), *noun]

    def adjunct(self, preposition: str, phrase: Phrase) -> list[Word]:
        """A phrase with its preposition or postposition."""
        if phrase == Ask("where"):
            return [self.word("where")]
        adposition, said = [self.word(preposition)], self.phrase(phrase)
        return adposition + said if self.here.adposition == "pre" else said + adposition

    def _event(self, event: Event) -> list[Word]:
        adjuncts = [_as(role, self.adjunct(role, phrase)) for role, phrase in event.adjuncts]
        front = _join(adjuncts[: event.fronted])
        rest = _join(adjuncts[event.fronted :])
        adverb = [] if event.adverb is None else [self.word(event.adverb)]
        if event.adverb_at == "first":
            front = adverb + front
        else:
            rest = adverb + rest if event.adverb_at == "early" else rest + adverb
        subject = _as("subject", self.phrase(event.subject))
        case = "accusative" if self.here.accusative else ""
        target = _as("object", self.phrase(event.object, case)) if event.object else []
        return front + self._ordered(subject, self._verb(event), target, rest)

    def _verb(self, event: Event) -> list[Word]:
        if not event.future:
            return [self.word(event.verb, "past")]
        verb, will = self.word(event.verb), self.word("will")
        return [verb, will] if self.here.order == "SOV" else [will, verb]

    def _ordered(
        self, subject: list[Word], verb: list[Word], target: list[Word], rest: list[Word]
    ) -> list[Word]:
        if self.here.order == "SVO":
            return subject + verb + target + rest
        if self.here.order == "VSO":
            return verb + subject + target + rest
        return subject + rest + target + verb

    def _fact(self, fact: Fact) -> list[Word]:
        copula = [self.word("is")]
        if fact.negated:
            copula = [*copula, self.word("not")]
        predicate = self._bare(fact.predicate)
        if fact.relation is not None:
            article = "a" if fact.relation == "kind" else "the"
            head = self.phrase(Thing(fact.relation, article=article))
            of = [self.word("of")]
            post = self.here.adposition == "post"
            predicate = predicate + of + head if post else head + of + predicate
        return self._ordered(self._bare(fact.subject), copula, predicate, [])

    def _bare(self, phrase: Phrase | str) -> list[Word]:
        return [self.word(phrase)] if isinstance(phrase, str) else self.phrase(phrase)


def text_of(words: Iterable[Word]) -> str:
    """The words with a space between any two, before marks too (as in tokenised corpora)."""
    return " ".join(word.text for word in words)


def _is_question(sentence: Sentence) -> bool:
    if isinstance(sentence, Fact):
        return isinstance(sentence.subject, Ask)
    phrases = [sentence.subject, sentence.object, *(phrase for _, phrase in sentence.adjuncts)]
    return any(isinstance(phrase, Ask) for phrase in phrases)


def _inflect(here: ToyLanguage, stem: str, form: str) -> str:
    if not form:
        return stem
    suffix = str(getattr(here, form))
    if here.code == SOURCE and stem.endswith("e") and suffix.startswith("e"):
        return stem + suffix[1:]
    return stem + here.spell(suffix)


def _as(role: str, words: list[Word]) -> list[Word]:
    return [word._replace(role=role) for word in words]


def _join(parts: Iterable[list[Word]]) -> list[Word]:
    return [word for part in parts for word in part]
