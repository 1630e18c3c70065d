"""Low-rank adapters (Hu et al. 2022, arXiv 2106.09685) with peft: added, saved, merged.

An adapter is a folder that peft reads: `adapter_config.json` and `adapter_model.safetensors`;
`adapter.json` says whose it is. Heads and the rest are as in a checkpoint.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from xstilts.artifacts.manifest import MANIFEST, check_file, read_manifest, sha256_file
from xstilts.errors import InputError
from xstilts.training.model import ADAPTER, load_backbone
from xstilts.training.settings import Lora

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def load_frozen(base: Path, settings: Lora) -> Any:
    """A base model with new adapters, which alone are trained.

    Args:
        base: Folder of a decoder's whole weights.
        settings: The adapters.

    Raises:
        InputError: If the model has no layer of a name in `targets`, or it is the output layer,
            which may be the embeddings too.
    """
    from peft import LoraConfig, get_peft_model

    backbone = load_backbone(base, language_model=True, dtype=_DTYPES[settings.base])
    targets: Any = settings.targets
    if targets != "all-linear":
        targets = _checked(backbone, list(targets))
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # any number will do
        lora_dropout=settings.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    with _unwarned():
        # The adapters are put into the model itself, and are float32 whatever the rest is.
        backbone.peft_config = get_peft_model(backbone, config).peft_config
    return backbone


@contextmanager
def _unwarned() -> Iterator[None]:
    """Without a warning of transformers about what peft asks of it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        yield


def _checked(backbone: Any, targets: list[str]) -> list[str]:
    output = backbone.get_output_embeddings()
    linear = {
        name.rpartition(".")[2]
        for name, module in backbone.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not output
    }
    if unknown := sorted(set(targets) - linear):
        raise InputError(
            "training.lora.targets",
            "the model has no such linear layer before its output layer",
            expected=f"some of {', '.join(sorted(linear))}",
            found=", ".join(unknown),
        )
    return targets


def save_adapter(backbone: Any, base: Path, settings: Lora, folder: Path) -> None:
    """Write the weights of the adapters alone, and whose they are.

    Args:
        backbone: What `load_frozen` gave, trained.
        base: The folder that it was given.
        settings: The adapters.
        folder: Where to.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    state = get_peft_model_state_dict(backbone, save_embedding_layers=False)
    tensors = {f"base_model.model.{key}": value.contiguous().cpu() for key, value in state.items()}
    save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt"})
    # peft writes its sets in the order of a hash that differs from process to process.
    config = {
        key: sorted(value) if isinstance(value, set) else value
        for key, value in backbone.peft_config["default"].to_dict().items()
    }
    _write(folder / _CONFIG, config | {"inference_mode": True})
    content = {"base": sha256_file(base / MANIFEST), "settings": settings.model_dump(mode="json")}
    _write(folder / ADAPTER, content)


def _write(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")


def load_merged(adapter: Path, base: Path) -> Any:
    """A base model with an adapter's updates added to its weights, in float32.

    Weights that were held in bfloat16 while the adapter was trained are rounded to it first, so
    that the merged model is the one that was trained.

    Raises:
        InputError: If the adapter is another base's, or damaged.
    """
    from peft import PeftModel
    from safetensors import SafetensorError

    settings = _check_base(adapter, base)
    for name in (_CONFIG, _WEIGHTS):
        check_file(adapter, name)
    backbone = load_backbone(base, language_model=True, dtype=_DTYPES[settings.base]).float()
    try:
        with _unwarned():
            merged: Any = PeftModel.from_pretrained(backbone, str(adapter), local_files_only=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(
            str(adapter / _WEIGHTS),
            f"cannot be loaded as the adapter that {_CONFIG} describes ({error})",
            hint="Delete the folder and train it again",
        ) from error
    return merged.merge_and_unload(safe_merge=True)


def _check_base(adapter: Path, base: Path) -> Lora:
    if ADAPTER not in read_manifest(adapter).files:
        raise InputError(str(adapter), "is no adapter", expected=ADAPTER, found="no such file")
    content = json.loads(check_file(adapter, ADAPTER).read_text(encoding="utf-8"))
    found = sha256_file(base / MANIFEST)
    if content["base"] != found:
        raise InputError(
            str(adapter / ADAPTER),
            f"is the adapter of another base than {base}",
            expected=f"sha256 {content['base']} of the base's manifest",
            found=found,
            hint="Merge it with the base that it was trained on, or train it again",
        )
    return Lora.model_validate(content["settings"])
