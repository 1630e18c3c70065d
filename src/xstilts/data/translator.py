"""A sequence-to-sequence model of transformers as a translator of texts.

A translation is a function of the text, the translator and the settings: beam search without
sampling, in single precision, because in half precision it would depend on the other texts of its
batch.
"""

from __future__ import annotations

import re
import warnings
from bisect import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

from xstilts.artifacts.manifest import check_file, read_manifest
from xstilts.data.translation_cache import Translation
from xstilts.errors import InputError
from xstilts.runtime import runtime

#: Lengths are rounded up to multiples of this; texts of one rounded length share batches.
STEP = 16
#: Where a long text may be cut: after sentences, at white space, anywhere.
_ENDS = (
    re.compile(r"(?<=[.!?…؟۔।])[\"'”’»)\]]*\s+|(?<=[。！？])[”」』）]*"),
    re.compile(r"\s+"),
    re.compile(r"(?s)(?<=.)"),
)


def cut(text: str, fits: Callable[[str], bool], level: int = 0) -> list[str]:
    """Cut a text into as few parts that fit as its sentences allow, else its words, its characters.

    Args:
        text: The text.
        fits: Whether a part is short enough; a single character is taken to be.
        level: 0 to cut at ends of sentences, 1 at white space, 2 anywhere.
    """
    if level == len(_ENDS) or fits(text):
        return [text]
    ends = sorted({match.end() for match in _ENDS[level].finditer(text)} | {len(text)})
    parts, start = list[str](), 0
    while start < len(text):
        later = ends[bisect(ends, start) :]
        number = bisect(later, False, key=lambda end: not fits(text[start:end].strip()))
        end = later[max(number, 1) - 1]
        parts.extend([text[start:end]] if number else cut(text[start:end], fits, level + 1))
        start = end
    return [part.strip() for part in parts if part.strip()]


def batches(lengths: Sequence[int], texts: Sequence[str], budget: int) -> Iterator[list[int]]:
    """Places of the texts of each batch, the longest first.

    Args:
        lengths: Sub-words of each text.
        texts: The texts, all different: what is equally long goes by its letters, so that batches
            do not hang on the order of the data.
        budget: Most sub-words of a batch, padding included; a single text may exceed it.
    """
    batch: list[int] = []
    width = 0
    for place in sorted(range(len(texts)), key=lambda place: (-lengths[place], texts[place])):
        rounded = STEP * ceil(lengths[place] / STEP)
        if batch and (rounded != width or (len(batch) + 1) * width > budget):
            yield batch
            batch = []
        width = rounded
        batch.append(place)
    if batch:
        yield batch


class Translator:
    """A translator in memory; its weights are loaded when the first text needs them.

    Args:
        folder: The artifact of stage `fetch_translator`.
        row: ``name``, ``prefix``, ``source_code`` and ``target_code`` of the registry's row.
        settings: The study's settings of translation.

    Raises:
        InputError: If its files are not those of the manifest, or make no tokenizer.
    """

    def __init__(self, folder: Path, row: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        self.folder, self.row, self.settings = folder, row, settings
        for name in read_manifest(folder).files:
            check_file(folder, name)
        _quiet()
        self.tokenizer = self._load_tokenizer()
        self._model: Any = None
        self.positions = self._positions()
        self.longest = min(settings["max_source_tokens"] or self.positions, self.positions)
        room = self.longest - self.lengths([""])[0]
        if room < 2:
            raise InputError(
                f"translator {row['name']}",
                f"its inputs leave room for {room} sub-words of text",
                hint="Raise translation.max_source_tokens, or shorten the row's prefix",
            )

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Sub-words of each text, prefix and special tokens included."""
        if not texts:
            return []
        encoded = self.tokenizer([self._input(text) for text in texts])
        return [len(ids) for ids in encoded["input_ids"]]

    def parts(self, texts: Sequence[str]) -> dict[str, list[str]]:
        """What each text is translated in: itself, or, where it is too long, its parts."""

        def fits(text: str) -> bool:
            return self.lengths([text])[0] <= self.longest

        return {
            text: [text] if length <= self.longest else cut(text, fits)
            for text, length in zip(texts, self.lengths(texts), strict=True)
        }

    def translate(self, texts: Sequence[str], length: int) -> list[Translation]:
        """Translate a batch of texts.

        Args:
            texts: The texts.
            length: Sub-words of the longest; up to the next multiple of `STEP` all are equal.
        """
        import torch

        limit = self.limit(length)
        inputs = self.tokenizer(
            [self._input(text) for text in texts], return_tensors="pt", padding=True
        )
        model = self._loaded()
        with torch.inference_mode():
            found = model.generate(**inputs.to(model.device), max_new_tokens=limit, **self._search)
        rows = found[:, 1:].tolist()  # without the token that decoding starts from
        first = 1 if self.row["target_code"] else 0  # nor the one that names the language
        decoded = self.tokenizer.batch_decode(
            [row[first:] for row in rows], skip_special_tokens=True
        )
        return [
            Translation(text.strip(), self._is_cut(row, limit))
            for text, row in zip(decoded, rows, strict=True)
        ]

    def limit(self, length: int) -> int:
        """Most sub-words of a translation of a text of so many."""
        factor: float = self.settings["max_length_factor"]
        most: int = self.settings["max_new_tokens"]
        return min(round(factor * STEP * ceil(length / STEP)), most, self.positions - 1)

    def _is_cut(self, row: list[int], limit: int) -> bool:
        """Whether no end came before the limit (at the limit, an end is forced)."""
        end: int | list[int] = self._model.generation_config.eos_token_id
        ends = end if isinstance(end, list) else [end]
        return len(row) >= limit and not set(ends).intersection(row[: limit - 1])

    def _input(self, text: str) -> str:
        return f"{self.row['prefix']} {text}" if self.row["prefix"] else text

    @property
    def _search(self) -> dict[str, Any]:
        """How it searches; `max_length` of the model's own settings gives way."""
        names = ("num_beams", "length_penalty", "renormalize_logits")
        search = {name: self.settings[name] for name in names}
        if self.row["target_code"]:
            search["forced_bos_token_id"] = self._code(self.row["target_code"])
        return {**search, "do_sample": False, "num_return_sequences": 1}

    # ---- loading

    def _load_tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        kind: Any = AutoTokenizer
        try:
            with warnings.catch_warnings():
                # Marian's recommends a package that it does not use any more.
                warnings.simplefilter("ignore")
                tokenizer = kind.from_pretrained(
                    self.folder, local_files_only=True, trust_remote_code=False
                )
        except (OSError, ValueError, KeyError, TypeError, AssertionError, ImportError) as error:
            raise self._unusable("tokenizer", error) from error
        self.tokenizer = tokenizer
        if self.row["source_code"]:
            self._code(self.row["source_code"])
            tokenizer.src_lang = self.row["source_code"]
        for token in re.findall(r">>\S+<<", self.row["prefix"]):
            self._code(token)
        return tokenizer

    def _code(self, token: str) -> int:
        """Id of a token that names a language.

        Raises:
            InputError: If the vocabulary has no such token.
        """
        tokenizer = self.tokenizer
        # M2M100 and mBART list their codes, which are no tokens (`en`); those of others are.
        codes: Mapping[str, int] | None = getattr(tokenizer, "lang_code_to_id", None)
        number: int | None = (
            tokenizer.convert_tokens_to_ids(token) if codes is None else codes.get(token)
        )
        if number is None or number == tokenizer.unk_token_id:
            raise InputError(
                f"translator {self.row['name']}",
                f"its vocabulary has no token {token!r}",
                hint="Correct prefix, source_code or target_code of its row in the registry",
            )
        return number

    def _positions(self) -> int:
        """Longest input: that of the tokenizer or of the model, whichever is shorter."""
        from transformers import AutoConfig

        kind: Any = AutoConfig
        config = kind.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)
        known = [self.tokenizer.model_max_length, getattr(config, "max_position_embeddings", None)]
        return int(min(value for value in known if value))

    def _loaded(self) -> Any:
        if self._model is None:
            import torch

            torch.set_num_threads(runtime().threads or 1)
            torch.use_deterministic_algorithms(True, warn_only=True)
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            self._model = self._load_model().to(device).eval()
            self._model.generation_config.max_length = None
        return self._model

    def _load_model(self) -> Any:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForSeq2SeqLM

        kind: Any = AutoModelForSeq2SeqLM
        options: dict[str, Any] = {"use_safetensors": True, "trust_remote_code": False}
        options |= {"local_files_only": True, "dtype": torch.float32, "output_loading_info": True}
        try:
            model, loaded = kind.from_pretrained(self.folder, **options)
            if loaded["missing_keys"]:
                # transformers would leave them at random values.
                raise ValueError(f"no weights for {', '.join(sorted(loaded['missing_keys'])[:3])}")
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise self._unusable("model", error) from error
        return model

    def _unusable(self, what: str, error: Exception) -> InputError:
        return InputError(
            str(self.folder),
            f"cannot be loaded as a {what} of transformers ({' '.join(str(error).split())})",
            hint=f"Choose another revision or repository for translator {self.row['name']!r}",
        )


def _quiet() -> None:
    import transformers

    logging: Any = transformers.logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()
