"""When leaving the padding out pays on a CPU: one step of an encoder with it and without.

Forward and backward pass on one thread, CPU milliseconds, the fastest of a few, in turn.
"""

import time

import numpy as np
import torch

from xstilts.training.model import Model, new_backbone
from xstilts.training.packed import attention_dropouts, packed_forward, use_packed

RUNS = 7
#: Layers, hidden size and size of the feed-forward layer.
SIZES = {"4 x 256": (4, 256, 1024), "3 x 128": (3, 128, 256)}
#: Rows, shortest and longest.
LENGTHS = {
    "32 of 43": (32, 43, 43),
    "32 of 41-45": (32, 41, 45),
    "16 of 18-22": (16, 18, 22),
    "16 of 10-60": (16, 10, 60),
    "16 of 180-200": (16, 180, 200),
}


def encoder_of(layers: int, hidden: int, intermediate: int, dropout: float) -> Model:
    """A model with random weights."""
    size = {"hidden": hidden, "layers": layers, "heads": 4, "intermediate": intermediate}
    row = {"architecture": "xlm-roberta", "scratch": size, "max_length": 256}
    model = Model(new_backbone(row, 16_000, 1, 0.1), {})
    use_packed(model.encoder)
    for module in attention_dropouts(model.encoder):
        module.p = dropout
    return model.train()


def batch_of(rows: int, shortest: int, longest: int) -> dict[str, torch.Tensor]:
    """Random sub-words, rows sorted by length as the training loop has them."""
    lengths = np.sort(np.random.default_rng(0).integers(shortest, longest + 1, rows))
    mask = torch.from_numpy((np.arange(lengths[-1]) < lengths[:, None]).astype(np.int64))
    ids = torch.randint(4, 16_000, mask.shape)
    return {"input_ids": torch.where(mask == 1, ids, 1), "attention_mask": mask}


def seconds(model: Model, packed: bool, batch: dict[str, torch.Tensor]) -> float:
    """CPU seconds of one step."""
    start = time.process_time()
    encoder = model.encoder
    hidden = packed_forward(encoder, batch) if packed else encoder(**batch).last_hidden_state
    hidden[:, 0].pow(2).mean().backward()
    model.zero_grad(set_to_none=True)
    return time.process_time() - start


def main() -> None:
    """Print a table."""
    torch.set_num_threads(1)
    print("| layers | rows | padding | attention dropout | padded | packed | ratio |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for size, shape in SIZES.items():
        for dropout in (0.1, 0.0):
            model = encoder_of(*shape, dropout)
            for name, rows in LENGTHS.items():
                batch = batch_of(*rows)
                times = [[seconds(model, way, batch) for way in (False, True)] for _ in range(RUNS)]
                padded, packed = (1e3 * min(column) for column in zip(*times, strict=True))
                padding = 1 - float(batch["attention_mask"].float().mean())
                shown = f"{padded:.0f} ms | {packed:.0f} ms | {padded / packed:.2f}"
                print(f"| {size} | {name} | {padding:.0%} | {dropout} | {shown} |")


if __name__ == "__main__":
    main()
