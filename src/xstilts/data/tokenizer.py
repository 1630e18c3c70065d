"""Stage tokenizer: a model's sub-word tokenizer, from the Hub or trained on prepared text.

Training is deterministic. The library's Unigram and WordPiece trainers are not (their results hang
on the order of a randomly seeded hash map), its BPE trainer is: so a vocabulary is always learnt by
BPE. For BERT it is read as a WordPiece vocabulary, for XLM-R it is used as it is; a decoder's is
one of bytes, so that no text, white space included, is lost in what it writes.
"""

from __future__ import annotations

import importlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from tokenizers import decoders as decode

from xstilts.architectures import is_decoder
from xstilts.artifacts.publish import publishing
from xstilts.data.subwords import SubwordTokenizer, load_tokenizer
from xstilts.data.tables import read_rows
from xstilts.errors import InputError, nearest

#: Special tokens of encoders in the order of their ids; XLM-R's mask comes last of all.
SPECIALS = {
    "xlm-roberta": {
        "cls_token": "<s>",
        "pad_token": "<pad>",
        "sep_token": "</s>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    },
    "bert": {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    },
}
#: Those of a decoder from scratch.
DECODER_SPECIALS = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
#: Those that decoders of the Hub may have.
_NAMED = (*DECODER_SPECIALS, "unk_token")
_HUB_FILES = ("tokenizer.json", "tokenizer_config.json")


# ---------------------------------------------------------------- text to train on


def corpus_lines(folders: Sequence[Path], max_lines: int | None) -> list[str]:
    """Training lines of all corpora, of each at most ``max_lines``, evenly spaced."""
    lines: list[str] = []
    for folder in folders:
        found = read_rows(folder, "train.parquet", ["text"])["text"].to_pylist()
        wanted = min(len(found), max_lines or len(found))
        lines.extend(found[number * len(found) // wanted] for number in range(wanted))
    return lines


def alphabet(words: Mapping[str, int], limit: int) -> set[str]:
    """The most frequent characters, at most ``limit`` of them; equal counts go by code point."""
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            counts[character] += count
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {character for character, _ in ranked[:limit]}


def _covered_words(words: Mapping[str, int], limit: int) -> Iterator[str]:
    """Every word as often as it occurs, without the words that hold a rare character."""
    kept = alphabet(words, limit)
    for word in sorted(words):
        if kept.issuperset(word):
            for _ in range(words[word]):
                yield word


def _learn(
    lines: Sequence[str],
    normalizer: Any,
    splitter: Any,
    vocab_size: int,
    specials: list[str],
    characters: Sequence[str] = (),
) -> tuple[list[str], list[tuple[str, str]]]:
    """Learn a BPE: its vocabulary in the order of the ids, and its merges.

    Args:
        lines: Text to learn from.
        normalizer: What changes a line first.
        splitter: What cuts it into words.
        vocab_size: Sub-words wanted.
        specials: Special tokens.
        characters: Characters that are in the vocabulary even if no line has them.
    """
    words: Counter[str] = Counter()
    for line in lines:
        pieces = splitter.pre_tokenize_str(normalizer.normalize_str(line))
        words.update(piece for piece, _ in pieces)
    bpe = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=specials,
        show_progress=False,
        initial_alphabet=list(characters),
    )
    bpe.train_from_iterator(_covered_words(words, vocab_size // 2), trainer)
    model = json.loads(bpe.to_str())["model"]
    vocabulary = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return vocabulary, [(left, right) for left, right in model["merges"]]


# ---------------------------------------------------------------- the architectures


def _xlm_roberta(lines: Sequence[str], vocab_size: int) -> Tokenizer:
    """XLM-R's normaliser, words and template around a BPE vocabulary; the mask has the last id.

    No piece crosses punctuation, as in SentencePiece: an answer span could not end before it.
    """
    *specials, mask = SPECIALS["xlm-roberta"].values()
    normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(prepend_scheme="always"),
            pre_tokenizers.Punctuation("isolated"),
        ]
    )
    words, merges = _learn(lines, normalizer, splitter, vocab_size - 1, specials)
    ids = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(ids, merges, unk_token="<unk>"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.decoder = decode.Metaspace(prepend_scheme="always")
    tokenizer.add_special_tokens(list(specials))
    tokenizer.add_special_tokens([AddedToken(mask, lstrip=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(token, ids[token]) for token in ("<s>", "</s>")],
    )
    return tokenizer


def _bert(lines: Sequence[str], vocab_size: int) -> Tokenizer:
    """BERT's cased normaliser, words and template around a WordPiece vocabulary."""
    specials = list(SPECIALS["bert"].values())
    normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=False
    )
    marked = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    words, _ = _learn(lines, normalizer, marked, vocab_size, [])
    pieces = _wordpieces(words, vocab_size - len(specials))
    ids = {piece: number for number, piece in enumerate([*specials, *pieces])}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decode.WordPiece()
    tokenizer.add_special_tokens(specials)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(token, ids[token]) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def _wordpieces(words: Sequence[str], limit: int) -> list[str]:
    """A BPE vocabulary with marked word beginnings, as WordPiece writes it.

    Every character can begin and continue a word, so that no word of known characters is unknown.
    """
    characters = [word for word in words if len(word) == 1 and word != "▁"]
    pieces = dict.fromkeys([*characters, *(f"##{character}" for character in characters)])
    for word in words:
        if word != "▁":
            pieces[word[1:] if word.startswith("▁") else f"##{word}"] = None
    return list(pieces)[: max(limit, 2 * len(characters))]


def _llama(lines: Sequence[str], vocab_size: int) -> Tokenizer:
    """A BPE of bytes, words cut as GPT-2's (Radford et al. 2019, 2.2); only `<s>` is put before."""
    specials = list(DECODER_SPECIALS.values())
    nothing = normalizers.Sequence([])
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    # The library lists the bytes in another order in each process.
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    words, merges = _learn(lines, nothing, splitter, vocab_size, specials, symbols)
    ids = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(ids, merges))
    tokenizer.pre_tokenizer, tokenizer.decoder = splitter, decode.ByteLevel()
    tokenizer.add_special_tokens(specials)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", ids["<s>"])]
    )
    return tokenizer


_TRAINERS = {"xlm-roberta": _xlm_roberta, "bert": _bert, "llama": _llama}


def train_tokenizer(lines: Sequence[str], architecture: str, vocab_size: int) -> Tokenizer:
    """Train a tokenizer in the style of an architecture; equal lines give equal bytes.

    Args:
        lines: Text to learn from.
        architecture: ``xlm-roberta``, ``bert`` or ``llama``.
        vocab_size: Sub-words wanted, special tokens included; a small corpus gives fewer. A
            ``llama`` has no less than all bytes.

    Raises:
        InputError: If there is no text.
    """
    if not any(line.strip() for line in lines):
        raise InputError("tokenizer", "there is no text to train on", expected="a corpus")
    return _TRAINERS[architecture](lines, vocab_size)


# ---------------------------------------------------------------- the stage


def _config(model: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Content of `tokenizer_config.json`; what the Hub's file lacks is filled in."""
    if is_decoder(model["architecture"]):
        specials = _decoder_specials(model, found)
    else:
        usual = SPECIALS[model["architecture"]]
        specials = usual | {name: found[name] for name in usual if name in found}
    return {
        **specials,
        "model_max_length": model["max_length"],
        # Reads tokenizer.json as it is; a model's own class would build another around its words.
        "tokenizer_class": "PreTrainedTokenizerFast",
    }


def _decoder_specials(model: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Special tokens of a decoder; nothing but the padding can be told by the registry's row."""
    if model["hub"] is None:
        return dict(DECODER_SPECIALS)
    known = {name: found[name] for name in _NAMED if found.get(name) is not None}
    if "pad_token" not in known:
        if model.get("pad_token") is None:
            raise InputError(
                f"model {model['name']}: pad_token",
                "the tokenizer has no padding token, and the registry's row names none",
                expected="pad_token in tokenizer_config.json or in the row",
                found=", ".join(known) or "no special tokens",
                hint="Give the row the pad_token that its makers reserve, like Llama's "
                "<|finetune_right_pad_id|>",
            )
        known["pad_token"] = model["pad_token"]
    return {"eos_token": None} | known


def _from_hub(spec: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    # Loaded by name to stay out of the stage's fingerprint: the lock's checksums decide what comes
    # from the Hub, and a mend of fetching must not train the other models' tokenizers again.
    fetch = importlib.import_module("xstilts.data.fetch")
    hub = spec["model"]["hub"]
    names = fetch.fetch_model_files(hub, spec["lock"], folder, _HUB_FILES)
    if "tokenizer.json" not in names:
        raise InputError(
            f"model {hub}",
            "its repository has no tokenizer.json",
            expected="a fast tokenizer",
            found=", ".join(names),
            hint="Use a model that ships tokenizer.json",
        )
    path = folder / "tokenizer_config.json"
    found = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return _config(spec["model"], found)


def _from_scratch(spec: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    model, training = spec["model"], spec["training"]
    vocab_size = training.get("vocab_size") or model["scratch"]["vocab_size"]
    folders = [Path(corpus) for corpus in spec["inputs"]["corpus"]]
    lines = corpus_lines(folders, training.get("max_lines"))
    tokenizer = train_tokenizer(lines, model["architecture"], vocab_size)
    tokenizer.save(str(folder / "tokenizer.json"))
    return _config(model, {})


def run(spec: Mapping[str, Any], out: Path) -> None:
    """Fetch or train a model's tokenizer.

    Args:
        spec: ``model`` (architecture, hub or scratch, max_length), ``lock`` for a model of the
            Hub, ``training`` (max_lines of a corpus; vocab_size where it is not the model's) and
            ``inputs.corpus`` for one from scratch.
        out: Artifact folder: ``tokenizer.json`` and ``tokenizer_config.json``.

    Raises:
        InputError: If the tokenizer is no fast one, or its special tokens are not in it.
    """
    architecture = spec["model"]["architecture"]
    if spec["model"]["hub"] is None and architecture not in _TRAINERS:
        raise InputError(
            "model.architecture",
            "no tokenizer can be trained for it, or it is unknown",
            found=repr(architecture),
            hint=nearest(architecture, _TRAINERS),
        )
    with publishing(out, spec) as draft:
        make = _from_hub if spec["model"]["hub"] else _from_scratch
        config = make(spec, draft.folder)
        text = json.dumps(config, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        (draft.folder / "tokenizer_config.json").write_text(text, encoding="utf-8")
        loaded = load_tokenizer(draft.folder / "tokenizer.json")
        checked = SubwordTokenizer(loaded, config, f"model {spec['model']['name']}")
        draft.record.add(vocab_size=checked.vocab_size)
