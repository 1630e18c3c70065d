"""Sub-words of a context and of what follows it, as lm-evaluation-harness 0.4.13 takes them.

The whole text is tokenised at once, and what is left of it behind the context's own sub-words is
the answer; white space at the end of a context belongs to the answer. Special tokens are those that
the tokenizer puts before a text by itself, and none after. An empty context is one token: the
beginning of a text, or where the tokenizer has none, its end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from xstilts.artifacts.manifest import check_file
from xstilts.data.subwords import load_tokenizer
from xstilts.errors import InputError

Ids = list[int]


@dataclass(frozen=True)
class Pair:
    """A context and an answer as sub-words.

    Attributes:
        context: Of the context, special tokens included; one or more.
        answer: Of what follows.
        fixed: How many at the beginning are special tokens, which are never cut.
    """

    context: Ids
    answer: Ids
    fixed: int


class PromptTokenizer:
    """A decoder's tokenizer.

    Args:
        tokenizer: That of a `tokenizer.json`.
        config: Content of its `tokenizer_config.json`.
        where: The place, for messages.

    Attributes:
        vocab_size: Number of ids, special tokens included.
        pad_id: Id of the padding token.
        eos_id: Id of the token that ends a text.
        bos_id: Id of the token that begins one; None where there is none.
        before: Special tokens that the tokenizer puts before a text.
    """

    def __init__(self, tokenizer: Tokenizer, config: Mapping[str, Any], where: str) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer, self._config, self._where = tokenizer, config, where
        self.vocab_size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        self.pad_id, self.eos_id = self._needed("pad_token"), self._needed("eos_token")
        self.bos_id = self._special("bos_token")
        self.before = self._before()

    @classmethod
    def read(cls, folder: Path) -> PromptTokenizer:
        """Read a tokenizer artifact.

        Raises:
            InputError: If a file is missing, has other bytes than its manifest says, or lacks the
                tokens that end and pad a text.
        """
        path = check_file(folder, "tokenizer.json")
        config = json.loads(check_file(folder, "tokenizer_config.json").read_text("utf-8"))
        return cls(load_tokenizer(path), config, str(folder))

    @property
    def prefix_id(self) -> int:
        """What stands for an empty context."""
        return self.eos_id if self.bos_id is None else self.bos_id

    def pieces(self, texts: Sequence[str]) -> list[Ids]:
        """Sub-words of each text, without special tokens."""
        found = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in found]

    def pairs(self, texts: Sequence[tuple[str, str]]) -> list[Pair]:
        """Sub-words of contexts, and of what follows each of them."""
        bare = [context.rstrip() for context, _ in texts]
        contexts = self.pieces(bare)
        wholes = self.pieces([context + answer for context, answer in texts])
        made = zip(bare, contexts, wholes, strict=True)
        return [
            self._pair(context if text else [], whole, bool(text)) for text, context, whole in made
        ]

    def _pair(self, context: Ids, whole: Ids, has_context: bool) -> Pair:
        if not has_context:
            return Pair([self.prefix_id], whole, 1)
        return Pair([*self.before, *context], whole[len(context) :], len(self.before))

    def _before(self) -> Ids:
        """Read off a text that the tokenizer knows, which need not have every letter."""
        for text in ("a", *sorted(self._tokenizer.get_vocab(with_added_tokens=False))):
            made = self._tokenizer.encode(text)
            for place, side in enumerate(made.sequence_ids):
                if side is not None:
                    return list(made.ids[:place])
        raise InputError(self._where, "the tokenizer knows no text")

    def _special(self, name: str) -> int | None:
        token = self._config.get(name)
        content = token.get("content") if isinstance(token, dict) else token
        number = None if content is None else self._tokenizer.token_to_id(content)
        return None if number is None else int(number)

    def _needed(self, name: str) -> int:
        number = self._special(name)
        if number is None:
            raise InputError(
                f"{self._where}: {name}",
                "the tokenizer has no such special token",
                expected="a token of its vocabulary",
                found=repr(self._config.get(name)),
                hint=f"Name one under {name} of the model's registry row"
                if name == "pad_token"
                else None,
            )
        return number
