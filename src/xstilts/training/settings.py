"""Hyper-parameters of one training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from xstilts.validation import Strict

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Lora(Strict):
    """Low-rank adapters (Hu et al. 2022, arXiv 2106.09685) instead of training all weights; peft's.

    Attributes:
        rank: Rank of the updates.
        alpha: Updates are scaled by alpha / rank.
        dropout: Dropout before the updates.
        targets: Names of the linear layers that get one; `all-linear` for all but the output layer.
        base: Precision in which the frozen weights are held while training.
    """

    rank: Positive = 16
    alpha: Annotated[float, Field(gt=0)] = 32.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Literal["all-linear"] | Annotated[tuple[str, ...], Field(min_length=1)] = "all-linear"
    base: Literal["fp32", "bf16"] = "fp32"


class Training(Strict):
    """Hyper-parameters of one training.

    Attributes:
        learning_rate: Peak learning rate of AdamW.
        batch_size: Examples of one optimiser step (effective batch).
        epochs: Passes over the training data; ignored where ``max_steps`` is given.
        max_steps: Optimiser steps.
        warmup: Share of the steps over which the learning rate rises linearly from 0; ignored
            where ``warmup_steps`` is given.
        warmup_steps: The same as a number of steps; a training no longer than that never reaches
            the peak.
        weight_decay: Decay of all weights but biases and LayerNorms.
        adam_epsilon: AdamW's epsilon.
        adam_beta2: AdamW's second beta.
        max_grad_norm: Gradients are clipped to this norm.
        dropout: Dropout of the heads; the encoder keeps its own configuration.
        attention_dropout: Dropout of the encoder's attention probabilities; null for the model's
            own value (0.1 in XLM-R and mBERT). The attention kernel that needs no padding has no
            dropout: with 0 and ``precision: bf16``, training on CUDA computes no padding.
        gradient_checkpointing: Compute the activations of a layer a second time in the backward
            pass instead of keeping them: less memory, more time, the same results.
        compile: Compile what stands between the attention kernels with torch.compile; needs a C++
            compiler, or Triton on CUDA. Dropout draws other numbers than without it.
        evaluate_every: Steps between evaluations on the source language's dev set.
        evaluate_examples: Only the first so many dev examples are used; null for all.
        patience: Evaluations without improvement before training stops; null for never.
        select: Which weights are published: the best on dev, or the last.
        micro_batch_tokens: Most tokens, padding included, in one forward pass of one process; a
            batch above it is accumulated.
        negatives: Pairs of a batch among which a query of a retrieval task has to find its own
            candidate; null for the whole batch. So many go through the model at once, and must fit
            into ``micro_batch_tokens``. XTREME-R has 4 of 16 for LAReQA, 64 of 256 (mBERT) or 8 of
            32 (XLM-R Large) for Mewsli-X. Other tasks have no use for it.
        precision: Computation in 32-bit floats or bfloat16 autocast.
        restarts: How often a training that collapses is begun again with another data order; what
            then happens is the study's `on_collapse`.
        lora: Adapters instead of training all weights (decoders only); null for all weights.
        threads: CPU threads; more of them change the order of sums and so the bytes.
    """

    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    batch_size: Positive = 32
    epochs: Annotated[float, Field(gt=0)] = 3.0
    max_steps: Positive | None = None
    warmup: Share = 0.1
    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    adam_epsilon: Annotated[float, Field(gt=0)] = 1e-8
    adam_beta2: Annotated[float, Field(gt=0, lt=1)] = 0.999
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    dropout: Share = 0.1
    attention_dropout: Share | None = None
    gradient_checkpointing: bool = False
    compile: bool = False
    evaluate_every: Positive = 1000
    evaluate_examples: Positive | None = 500
    patience: Positive | None = 30
    select: Literal["best", "last"] = "best"
    micro_batch_tokens: Positive = 8192
    negatives: Positive | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    restarts: Annotated[int, Field(ge=0)] = 0
    lora: Lora | None = None
    threads: Positive = 1
