"""A tiny Marian translator in the Hub's layout: a real vocabulary, random weights."""

import json
from pathlib import Path
from typing import Any

from xstilts.toyworld.generate import generate

#: Longest input and output of the model, in sub-words.
POSITIONS = 40


def sentences(language: str, number: int = 300) -> list[str]:
    """Made-up sentences of a language."""
    return [row["text"] for row in generate("corpus", language, "train", number, seed=3)]


def write_vocabulary(folder: Path, codes: tuple[str, ...]) -> dict[str, int]:
    """Train SentencePiece on made-up text and write the files of a Marian tokenizer."""
    import sentencepiece

    (folder / "text").write_text("\n".join([*sentences("qaa"), *sentences("qab")]))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"),
        model_prefix=str(folder / "pieces"),
        vocab_size=350,
        num_threads=1,
        minloglevel=2,
    )
    model = (folder / "pieces.model").read_bytes()
    for name in ("source.spm", "target.spm"):
        (folder / name).write_bytes(model)
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    known = [pieces.id_to_piece(number) for number in range(pieces.get_piece_size())]
    usual = [piece for piece in known if piece not in ("<s>", "</s>", "<unk>")]
    words = ["</s>", "<unk>", *usual, *codes, "<pad>"]
    for name in ("text", "pieces.model", "pieces.vocab"):
        (folder / name).unlink()
    vocabulary = {word: number for number, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    config = {"source_lang": "qaa", "target_lang": "qab"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return vocabulary


def write_marian(folder: Path, seed: int = 0, codes: tuple[str, ...] = (), **changes: Any) -> Path:
    """Write a repository as those of OPUS-MT are, with safetensors."""
    import torch
    from transformers import MarianConfig, MarianMTModel

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = write_vocabulary(folder, codes)
    pad = vocabulary["<pad>"]
    settings = {
        "vocab_size": len(vocabulary),
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 24,
        "decoder_ffn_dim": 24,
        "max_position_embeddings": POSITIONS,
        "init_std": 1.0,
        "pad_token_id": pad,
        "decoder_start_token_id": pad,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "forced_eos_token_id": 0,
        "scale_embedding": True,
        "share_encoder_decoder_embeddings": True,
    }
    torch.manual_seed(seed)
    model = MarianMTModel(MarianConfig(**settings | changes))
    # Outputs of many lengths, some of them cut.
    model.final_logits_bias[0, 0] = 9.0
    own = {"bad_words_ids": [[pad]], "min_new_tokens": 2, "max_length": POSITIONS, "num_beams": 6}
    model.generation_config.update(**own, no_repeat_ngram_size=2)
    model.save_pretrained(folder)
    return folder


def write_m2m100(folder: Path) -> Path:
    """The same for a model whose tokenizer has codes of languages."""
    import torch
    from transformers import M2M100Config, M2M100ForConditionalGeneration, M2M100Tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    words = write_vocabulary(folder, ())
    (folder / "target.spm").unlink()
    (folder / "source.spm").rename(folder / "sentencepiece.bpe.model")
    usual = [word for word in words if word not in ("</s>", "<unk>", "<pad>")]
    ids = {word: number for number, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *usual])}
    (folder / "vocab.json").write_text(json.dumps(ids))
    (folder / "tokenizer_config.json").write_text("{}")
    tokenizer = M2M100Tokenizer(
        str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model"), model_max_length=64
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    size = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 24}
    size |= {"decoder_ffn_dim": 24, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = M2M100Config(
        vocab_size=len(ids) + 100, max_position_embeddings=64, init_std=1.0, **size
    )
    M2M100ForConditionalGeneration(config).save_pretrained(folder)
    return folder
