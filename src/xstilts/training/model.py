"""An encoder or decoder with heads: made, loaded, saved.

A checkpoint is a folder that transformers reads: `config.json` and `model.safetensors` are the
encoder's, or the decoder's with its language-model head; `heads.safetensors` and `heads.json` are
the heads'. Weights may come in several files, as the Hub has them of large models.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from xstilts.architectures import ENCODERS, is_decoder
from xstilts.artifacts.manifest import check_file, read_manifest
from xstilts.errors import InputError, nearest
from xstilts.formats.head import Batch, trained_format
from xstilts.training.packed import packed_forward, pays

#: Names of the language-model head, which is a part of the model: an encoder's, a decoder's.
LM_HEAD, CAUSAL_HEAD = "masked_lm", "causal_lm"
#: Written beside an adapter's weights: whose adapter it is.
ADAPTER = "adapter.json"
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
#: Format of a head, and its labels in the order of its outputs.
Description = tuple[str, tuple[str, ...] | None]
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class Model(nn.Module):
    """An encoder or decoder, heads by task name, and a language-model head where one is trained.

    Args:
        backbone: The transformers model, with a language-model head or without.
        heads: Heads by name.

    Attributes:
        packed: Leave the padding out where that pays; the encoder must have been given to
            `use_packed`.
        is_decoder: Whether each token sees only those before it.
    """

    def __init__(self, backbone: Any, heads: dict[str, nn.Module]) -> None:
        super().__init__()
        self.packed = False
        self.is_decoder = is_decoder(backbone.config.model_type)
        self.backbone = backbone
        self.heads = nn.ModuleDict({_key(name): head for name, head in heads.items()})

    @property
    def encoder(self) -> Any:
        """The transformers model without any head."""
        return self.backbone.base_model

    def encode(self, batch: Batch) -> Tensor:
        """Last hidden states [rows, length, hidden]."""
        inputs = {name: batch[name] for name in _INPUTS if name in batch}
        if self.packed and pays(self.encoder, batch["attention_mask"]):
            return packed_forward(self.encoder, inputs)
        # A decoder would keep its keys and values, for which nobody asks here.
        options = {"use_cache": False} if self.is_decoder else {}
        return cast("Tensor", self.encoder(**inputs, **options).last_hidden_state)

    def forward(self, batch: Batch, head: str) -> Any:
        """Outputs of one head for a batch."""
        hidden = self.encode(batch)
        if head in (LM_HEAD, CAUSAL_HEAD):
            # Only the chosen positions go through the vocabulary projection.
            return self._lm_head(hidden[batch["labels"] != -100])
        if hidden.dtype == torch.bfloat16 and not torch.is_autocast_enabled(hidden.device.type):
            hidden = hidden.float()  # of frozen weights in bfloat16; heads never are
        return self.heads[_key(head)](hidden, batch)

    def trained_state(self) -> dict[str, Tensor]:
        """The weights that a training changes: all of them, or all but the frozen ones."""
        frozen = {name for name, weight in self.named_parameters() if not weight.requires_grad}
        state = self.state_dict()
        if not frozen:
            return dict(state)
        trained = {name for name, weight in self.named_parameters() if weight.requires_grad}
        return {name: state[name] for name in state if name in trained}

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """Put back what `trained_state` gave.

        Raises:
            ValueError: If these are not the weights that are trained.
        """
        if state.keys() != self.trained_state().keys():
            raise ValueError("the state holds other weights than those that are trained")
        self.load_state_dict(state, strict=False)

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
    """A language model with random weights, of the size that a registry row gives.

    Args:
        described: The model's row: architecture, scratch size, max_length.
        vocab_size: Number of sub-words.
        pad_id: Id of the padding token.
        dropout: Dropout of hidden states and attention; a decoder's attention alone has any.

    Raises:
        InputError: If nothing of this architecture can be made from scratch.
    """
    _quiet()
    if described["architecture"] == "llama":
        return _new_llama(described, vocab_size, pad_id, dropout)
    if is_decoder(described["architecture"]):
        raise InputError(
            "model.architecture",
            "no model of this architecture is pretrained from scratch",
            expected=f"llama, {', '.join(ENCODERS)}",
            found=described["architecture"],
        )
    return _new_encoder(described, vocab_size, pad_id, dropout)


def _new_encoder(described: dict[str, Any], vocab_size: int, pad_id: int, dropout: float) -> Any:
    from transformers import AutoConfig, AutoModelForMaskedLM

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


def _new_llama(described: dict[str, Any], vocab_size: int, pad_id: int, dropout: float) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    size = described["scratch"]
    config = AutoConfig.for_model(
        "llama",
        vocab_size=vocab_size,
        hidden_size=size["hidden"],
        num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"],
        intermediate_size=size["intermediate"],
        max_position_embeddings=described["max_length"],
        attention_dropout=dropout,
        tie_word_embeddings=True,
        pad_token_id=pad_id,
        # As in the vocabularies of `xstilts.data.tokenizer`.
        bos_token_id=1,
        eos_token_id=2,
    )
    kind: Any = AutoModelForCausalLM
    return kind.from_config(config)


def kind_of(folder: Path) -> str:
    """Architecture of a checkpoint or a base model, as its configuration tells it.

    Raises:
        InputError: If it is damaged, or an adapter.
    """
    if ADAPTER in read_manifest(folder).files:
        raise InputError(
            str(folder),
            "is an adapter, and no whole model",
            expected="config.json and model.safetensors",
            hint="Read the checkpoint that the stage merge makes of it",
        )
    try:
        return str(json.loads(check_file(folder, "config.json").read_text("utf-8"))["model_type"])
    except (ValueError, KeyError, TypeError) as error:
        raise _no_model(folder, error) from error


def _no_model(folder: Path, error: Exception) -> InputError:
    return InputError(
        str(folder / _WEIGHTS),
        f"cannot be loaded as the model that config.json describes ({error})",
        hint="Delete the folder and fetch or train it again",
    )


def _check_weights(folder: Path) -> None:
    """All files of the weights must be those of the manifest."""
    if _INDEX not in read_manifest(folder).files:
        check_file(folder, _WEIGHTS)
        return
    index = json.loads(check_file(folder, _INDEX).read_text(encoding="utf-8"))
    for name in sorted(set(index["weight_map"].values())):
        check_file(folder, name)


def load_backbone(folder: Path, *, language_model: bool, dtype: torch.dtype = torch.float32) -> Any:
    """Read a model from a checkpoint or a base model, after checking its bytes.

    Args:
        folder: The artifact.
        language_model: With its language-model head.
        dtype: Type of the weights.

    Raises:
        InputError: If the weights are no safetensors, or do not fit the configuration or lack a
            part of it; if the folder holds an adapter.
    """
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM

    _quiet()
    decoder = is_decoder(kind_of(folder))
    _check_weights(folder)
    options: dict[str, Any] = {"use_safetensors": True, "trust_remote_code": False}
    options |= {"local_files_only": True, "dtype": dtype, "output_loading_info": True}
    whole: Any = AutoModelForCausalLM if decoder else AutoModelForMaskedLM
    kind: Any = whole if language_model else AutoModel
    if not language_model and not decoder:
        options["add_pooling_layer"] = False
    try:
        backbone, loaded = kind.from_pretrained(folder, **options)
        if loaded["missing_keys"]:
            # transformers would leave them at random values.
            raise ValueError(f"no weights for {', '.join(sorted(loaded['missing_keys'])[:3])}")
        if getattr(backbone.config, "final_logit_softcapping", None):
            raise ValueError(
                "its logits are not those of its output layer: final_logit_softcapping"
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _no_model(folder, error) from error
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
        whole: Keep the language-model head with the encoder (base models); a decoder always keeps
            its own.
    """
    _quiet()
    (model.backbone if whole or model.is_decoder else model.encoder).save_pretrained(folder)
    save_heads(model, folder, described)


def save_heads(model: Model, folder: Path, described: dict[str, Description]) -> None:
    """Write the heads of a checkpoint or an adapter, and what they are."""
    from safetensors.torch import save_file

    if described:
        tensors = {key: value.contiguous().cpu() for key, value in model.heads.state_dict().items()}
        save_file(tensors, folder / "heads.safetensors")
    content = {
        name: {"format": format_name, "labels": list(labels) if labels else None}
        for name, (format_name, labels) in described.items()
    }
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, indent=1) + "\n"
    (folder / "heads.json").write_text(text, encoding="utf-8")
