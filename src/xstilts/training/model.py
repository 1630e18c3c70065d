"""An encoder with heads: made, loaded, saved.

A checkpoint is a folder that transformers reads: `config.json` and `model.safetensors` are the
encoder's, `heads.safetensors` and `heads.json` are the heads'.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from xstilts.artifacts.manifest import check_file, read_manifest
from xstilts.errors import InputError, nearest
from xstilts.formats.head import Batch, trained_format
from xstilts.training.packed import packed_forward, pays

LM_HEAD = "masked_lm"
#: Format of a head, and its labels in the order of its outputs.
Description = tuple[str, tuple[str, ...] | None]
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class Model(nn.Module):
    """An encoder, heads by task name, and a language-model head where one is trained.

    Args:
        backbone: The transformers model: an encoder, or one with a language-model head.
        heads: Heads by name.

    Attributes:
        packed: Leave the padding out where that pays; the encoder must have been given to
            `use_packed`.
    """

    def __init__(self, backbone: Any, heads: dict[str, nn.Module]) -> None:
        super().__init__()
        self.packed = False
        self.backbone = backbone
        self.heads = nn.ModuleDict({_key(name): head for name, head in heads.items()})

    @property
    def encoder(self) -> Any:
        """The transformers encoder without any head."""
        return self.backbone.base_model

    def encode(self, batch: Batch) -> Tensor:
        """Last hidden states [rows, length, hidden]."""
        inputs = {name: batch[name] for name in _INPUTS if name in batch}
        if self.packed and pays(self.encoder, batch["attention_mask"]):
            return packed_forward(self.encoder, inputs)
        return cast("Tensor", self.encoder(**inputs).last_hidden_state)

    def forward(self, batch: Batch, head: str) -> Any:
        """Outputs of one head for a batch."""
        hidden = self.encode(batch)
        if head == LM_HEAD:
            # Only the chosen positions go through the vocabulary projection.
            return self._lm_head(hidden[batch["labels"] != -100])
        return self.heads[_key(head)](hidden, batch)

    @property
    def _lm_head(self) -> Any:
        return getattr(self.backbone, "lm_head", None) or self.backbone.cls


def _key(name: str) -> str:
    """Name of a head as a module: torch wants no dot in it, and no name of ours has a slash."""
    return name.replace(".", "/")


def _quiet() -> None:
    import transformers

    logging: Any = transformers.logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def new_backbone(described: dict[str, Any], vocab_size: int, pad_id: int, dropout: float) -> Any:
    """A masked language model with random weights, of the size that a registry row gives.

    Args:
        described: The model's row: architecture, scratch size, max_length.
        vocab_size: Number of sub-words.
        pad_id: Id of the padding token.
        dropout: Dropout of hidden states and attention.
    """
    from transformers import AutoConfig, AutoModelForMaskedLM

    _quiet()
    size = described["scratch"]
    roberta = described["architecture"] == "xlm-roberta"
    config = AutoConfig.for_model(
        described["architecture"],
        vocab_size=vocab_size,
        hidden_size=size["hidden"],
        num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"],
        intermediate_size=size["intermediate"],
        # RoBERTa's positions start after the padding id.
        max_position_embeddings=described["max_length"] + (pad_id + 1 if roberta else 0),
        type_vocab_size=1 if roberta else 2,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        pad_token_id=pad_id,
        # cls is 0 and sep is 2 in XLM-R's vocabulary; BERT's configuration has no such ids.
        bos_token_id=0,
        eos_token_id=2,
    )
    kind: Any = AutoModelForMaskedLM
    return kind.from_config(config)


def load_backbone(folder: Path, *, language_model: bool) -> Any:
    """Read an encoder from a checkpoint or a base model, after checking its bytes.

    Raises:
        InputError: If the weights are no safetensors, or do not fit the configuration or lack a
            part of it.
    """
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoModelForMaskedLM

    _quiet()
    for name in ("config.json", "model.safetensors"):
        check_file(folder, name)
    options: dict[str, Any] = {"use_safetensors": True, "trust_remote_code": False}
    options |= {"local_files_only": True, "dtype": torch.float32, "output_loading_info": True}
    kind: Any = AutoModelForMaskedLM if language_model else AutoModel
    if not language_model:
        options["add_pooling_layer"] = False
    try:
        backbone, loaded = kind.from_pretrained(folder, **options)
        if loaded["missing_keys"]:
            # transformers would leave them at random values.
            raise ValueError(f"no weights for {', '.join(sorted(loaded['missing_keys'])[:3])}")
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(
            str(folder / "model.safetensors"),
            f"cannot be loaded as the model that config.json describes ({error})",
            hint="Delete the folder and fetch or train it again",
        ) from error
    return backbone


def make_heads(wanted: dict[str, Description], config: Any, dropout: float) -> dict[str, nn.Module]:
    """New heads with random weights.

    Args:
        wanted: Format and labels of each head, by name.
        config: The encoder's configuration.
        dropout: Dropout of the heads.
    """
    heads = {}
    for name, (format_name, labels) in wanted.items():
        head = trained_format(format_name).make_head(config, labels, dropout)
        for module in head.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=config.initializer_range)
                nn.init.zeros_(module.bias)
        heads[name] = head
    return heads


def load_head(
    folder: Path, name: str, config: Any, dropout: float
) -> tuple[nn.Module, Description]:
    """Read one head of a checkpoint, and what it was trained for.

    Raises:
        InputError: If the checkpoint has no such head, or its weights do not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    known = head_descriptions(folder)
    if name not in known:
        raise InputError(
            str(folder / "heads.json"),
            f"the checkpoint has no head {name!r}",
            found=", ".join(known) or "none",
            hint=nearest(name, known),
        )
    format_name, labels = known[name]
    head = trained_format(format_name).make_head(config, labels, dropout)
    path, prefix = check_file(folder, "heads.safetensors"), f"{_key(name)}."
    try:
        tensors = load_file(path)
        head.load_state_dict(
            {key.removeprefix(prefix): tensors[key] for key in tensors if key.startswith(prefix)}
        )
    except (RuntimeError, SafetensorError) as error:
        raise InputError(
            f"{path}: {name}",
            f"does not hold the head that heads.json describes ({error})",
            hint="Delete the folder and train it again",
        ) from error
    return head, known[name]


def head_descriptions(folder: Path) -> dict[str, Description]:
    """Format and labels of each head of a checkpoint, by name; none in a base model."""
    if "heads.json" not in read_manifest(folder).files:
        return {}
    content = json.loads(check_file(folder, "heads.json").read_text(encoding="utf-8"))
    return {
        name: (head["format"], tuple(head["labels"]) if head["labels"] else None)
        for name, head in content.items()
    }


def save_model(
    model: Model,
    folder: Path,
    described: dict[str, Description],
    *,
    whole: bool = False,
) -> None:
    """Write a checkpoint.

    Args:
        model: The model.
        folder: Where to.
        described: Format and labels of each head.
        whole: Keep the language-model head with the encoder (base models).
    """
    from safetensors.torch import save_file

    _quiet()
    (model.backbone if whole else model.encoder).save_pretrained(folder)
    if described:
        tensors = {key: value.contiguous().cpu() for key, value in model.heads.state_dict().items()}
        save_file(tensors, folder / "heads.safetensors")
    content = {
        name: {"format": format_name, "labels": list(labels) if labels else None}
        for name, (format_name, labels) in described.items()
    }
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, indent=1) + "\n"
    (folder / "heads.json").write_text(text, encoding="utf-8")
