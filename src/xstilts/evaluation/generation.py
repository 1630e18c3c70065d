"""Answers that a decoder writes: greedily, until it ends the text or begins a new line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from xstilts.artifacts.manifest import check_file
from xstilts.data.ragged import Ragged
from xstilts.errors import InputError
from xstilts.training.batches import micro_batches


class Writer:
    """A causal language model that writes, and the tokenizer that makes text of it.

    Args:
        backbone: The transformers model, with its language-model head.
        tokenizer: Folder of its tokenizer.
        pad_id: Fills short rows.
        device: Where the model is.
        budget: Most sub-words in a batch: what is asked, what is written, and padding.

    Raises:
        InputError: If the tokenizer names no token that ends a text.
    """

    def __init__(
        self, backbone: Any, tokenizer: Path, pad_id: int, device: torch.device, budget: int
    ) -> None:
        self.backbone, self.pad_id, self.device, self.budget = backbone, pad_id, device, budget
        self.tokenizer = Tokenizer.from_file(str(check_file(tokenizer, "tokenizer.json")))
        self.end = _end_of_text(self.tokenizer, tokenizer)
        self.ends = sorted({self.end, *_line_breaks(self.tokenizer)})

    @torch.inference_mode()
    def written(self, rows: Ragged, most: int) -> list[str]:
        """The first line of what is written after each row, without white space around it.

        Args:
            rows: Sub-words that are asked.
            most: Most sub-words of an answer.

        Raises:
            InputError: If a row leaves no room for the answer in the model's positions.
        """
        self._check_room(rows, most)
        found = [""] * len(rows)
        lengths, one = rows.lengths + most, np.ones(len(rows), dtype=np.int64)
        for part in micro_batches(np.arange(len(rows)), lengths, one, self.budget):
            new = self._generated(rows, part.tolist(), most)
            texts = self.tokenizer.decode_batch(new, skip_special_tokens=True)
            for row, text in zip(part.tolist(), texts, strict=True):
                found[row] = text.split("\n", 1)[0].strip()
        return found

    def _generated(self, rows: Ragged, part: list[int], most: int) -> list[list[int]]:
        """Sub-words written after some rows, padded."""
        from transformers import GenerationConfig

        length = int(rows.lengths[part].max())
        ids = np.full((len(part), length), self.pad_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        for line, row in enumerate(part):
            own = rows.values[rows.offsets[row] : rows.offsets[row + 1]]
            ids[line, length - len(own) :], mask[line, length - len(own) :] = own, 1
        config: Any = GenerationConfig
        settings = config(
            max_new_tokens=most, do_sample=False, eos_token_id=self.ends, pad_token_id=self.pad_id
        )
        # A checkpoint's own settings (a penalty, a temperature) would fill what is not given here.
        self.backbone.generation_config = settings
        made = self.backbone.generate(
            input_ids=torch.from_numpy(ids).to(self.device),
            attention_mask=torch.from_numpy(mask).to(self.device),
            generation_config=settings,
        )
        new: list[list[int]] = made[:, length:].tolist()
        return [self._until_end(line) for line in new]

    def _until_end(self, line: list[int]) -> list[int]:
        """What is written, without what fills the row; a line break may have text before it."""
        ends = set(self.ends)
        stop = next((place for place, token in enumerate(line) if token in ends), len(line) - 1)
        return line[: stop + (line[stop] != self.end)]

    def _check_room(self, rows: Ragged, most: int) -> None:
        positions = getattr(self.backbone.config, "max_position_embeddings", None)
        longest = int(rows.lengths.max(initial=0))
        if positions is not None and longest + most > positions:
            raise InputError(
                f"row {int(rows.lengths.argmax())} of the questions",
                "leaves no room for an answer in the model's positions",
                expected=f"at most {positions - most} sub-words",
                found=str(longest),
                hint="Lower encoding's max_length of prompted, or prompting.max_new_tokens",
            )


def _end_of_text(tokenizer: Tokenizer, folder: Path) -> int:
    path = check_file(folder, "tokenizer_config.json")
    token = json.loads(path.read_text(encoding="utf-8")).get("eos_token")
    # The Hub's files hold a token as text or as an object.
    name = token["content"] if isinstance(token, dict) else token
    number = tokenizer.token_to_id(name) if isinstance(name, str) else None
    if number is None:
        raise InputError(
            f"{path}: eos_token",
            "no token ends a text, so that writing would never stop",
            expected="a token of tokenizer.json",
            found=repr(token),
        )
    return int(number)


def _line_breaks(tokenizer: Tokenizer) -> list[int]:
    """Sub-words with a line break in their text."""
    ids = sorted(tokenizer.get_vocab(with_added_tokens=True).values())
    texts = tokenizer.decode_batch([[number] for number in ids], skip_special_tokens=False)
    return [number for number, text in zip(ids, texts, strict=True) if "\n" in text]
