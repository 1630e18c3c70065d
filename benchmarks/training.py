"""Training here beside Hugging Face's Trainer: examples per second, peak memory, dev scores.

The data are the slices of MNLI and SQuAD v1.1 at `../shared/hub`, taken through our own stages
(fetch, prepare, tokenizer, tokens); the model is an XLM-R of random weights. All ways get the same
module, initial weights, loss, fused AdamW with its groups, schedule, effective batch and threads;
Trainer gets our collation too, which is faster than its own. Each run is a process of its own, the
ways in turn. The first epoch is warm-up. Timed are whole epochs after it: batches differ much in
length, and only whole epochs hold the same rows in every way. Dev is read from the weights at the
end. So few rows teach a random model next to nothing: `--quality results/toy` compares dev scores
after equal steps on the tasks of a finished toy study instead, from its pretrained model.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
SLICES = {"mnli": "nyu-mll/glue/mnli", "squad": "rajpurkar/squad/plain_text"}
WAYS = {
    "xstilts": "xstilts",
    "a": "Trainer, padded to the full length",
    "b": "Trainer, padded to the batch",
    "c": "Trainer, grouped by length in 50s",
    "d": "Trainer, grouped as for few rows",
}
ROWS = {"mnli": 1536, "squad": 320}
#: Tasks of the toy study that dev scores are compared on.
TOY = ("toy_nli", "toy_qa")
BATCH = {"mnli": 32, "squad": 16}
#: So few rows teach a random model little; the guard against that is to say so and no more.
REPORT = {"XSTILTS_RUNTIME": json.dumps({"on_collapse": "report"})}
TRAINING = {
    "learning_rate": 5e-4,
    "warmup": 0.1,
    "evaluate_every": 1_000_000,
    "evaluate_examples": 1,
    "select": "last",
    "patience": None,
    "dropout": 0.1,
}


def registry_rows(size: dict[str, int]) -> dict[str, Any]:
    """The model, and the slices once more as the raw text that its tokenizer is made from."""

    def text(hub: str, config: str, field: str) -> dict[str, Any]:
        return {
            "title": "Text of a slice",
            "format": "masked_lm",
            "source": {"hub": hub, "config": config},
            "languages": ["en"],
            "splits": {"train": "train"},
            "fields": {"text": field},
            "licence": "see the data set",
        }

    return {
        "datasets": {
            "mnli_text": text("nyu-mll/glue", "mnli", "premise"),
            "squad_text": text("rajpurkar/squad", "plain_text", "context"),
        },
        "models": {
            "bench-xlmr": {
                "title": "XLM-R of random weights",
                "architecture": "xlm-roberta",
                "scratch": size,
                "layers": size["layers"],
                "max_length": 384,
                "retrieval_layer": 1,
                "licence": "CC0-1.0",
            }
        },
    }


def study(mirror: Path, rows: Path, threads: int) -> dict[str, Any]:
    """A study whose fine-tunings are the trainings to be measured."""
    return {
        "study": "bench",
        "registry": [str(rows)],
        "mirror": str(mirror),
        "models": ["bench-xlmr"],
        "recipes": ["none"],
        "targets": ["xnli", "xquad"],
        "languages": ["en"],
        "seeds": [1],
        "encoding": {
            "default": {"max_length": 128},
            "datasets": {
                "question_answering": {
                    "max_length": 384,
                    "doc_stride": 128,
                    "max_query_length": 64,
                },
            },
        },
        # One step of nearly no length: the weights are random.
        "pretraining": {
            "corpus": ["mnli_text", "squad_text"],
            "training": {"max_steps": 1, "learning_rate": 1e-12, "dropout": 0.1},
        },
        "training": {
            "default": {**TRAINING, "threads": threads},
            "tasks": {name: {"batch_size": BATCH[name]} for name in SLICES},
        },
    }


# ---------------------------------------------------------------- the world


def write_mirror(source: Path, place: Path, rows: dict[str, int]) -> None:
    """The slices in the Hub's layout; of the training rows so many, evenly spaced."""
    import pyarrow.parquet as pq

    for name, path in SLICES.items():
        (place / path).mkdir(parents=True)
        readme = Path(path).parent / "README.md"
        (place / readme).write_bytes((source / readme).read_bytes())
        for file in (source / path).glob("*.parquet"):
            table = pq.read_table(file)
            if file.name.startswith("train"):
                wanted = min(rows[name], len(table))
                table = table.take([row * len(table) // wanted for row in range(wanted)])
            pq.write_table(table, place / path / file.name)
    for other in ("facebook", "google"):  # the targets whose trainings these are
        (place / other).symlink_to((source / other).resolve())


def make_world(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run our stages up to tokens and model; the specs of the trainings, by task."""
    import yaml

    from xstilts.session import Session

    keys = ("layers", "hidden", "heads", "intermediate")
    size = dict(zip(keys, options.size, strict=True)) | {"vocab_size": 16000}
    rows_of = dict(zip(SLICES, options.rows, strict=True))
    write_mirror(options.hub, folder / "hub", rows_of)
    (folder / "studies").mkdir()
    rows = folder / "rows.yaml"
    rows.write_text(yaml.safe_dump(registry_rows(size)), encoding="utf-8")
    session = Session.of_config(study(folder / "hub", rows, options.threads), "benchmark", folder)
    session.export()
    session.results.mkdir(parents=True)
    made: set[str] = set()

    def make_inputs(spec: Any) -> None:
        for value in spec.get("inputs", {}).values():
            for out in [value] if isinstance(value, str) else value:
                if out not in made:
                    made.add(out)
                    job = session.plan.jobs[out]
                    make_inputs(job.spec)
                    stage(session.results, job.stage, out, job.text)

    specs = {}
    for job in session.plan.of("finetune"):
        make_inputs(job.spec)
        specs[job.spec["tasks"][0]["name"]] = dict(job.spec)
    return {"folder": str(session.results), "specs": specs}


def stage(folder: Path, name: str, out: str, spec: str) -> None:
    """Make one artifact."""
    command = [sys.executable, "-m", "xstilts.cli", "stage", name, "--out", out, "--spec", spec]
    subprocess.run(command, cwd=folder, check=True, stderr=subprocess.DEVNULL)


# ---------------------------------------------------------------- one run, in its own process


class Clock:
    """Seconds between two steps of a training.

    Args:
        first: Steps before the clock starts.
        steps: Steps that it measures.
    """

    def __init__(self, first: int, steps: int) -> None:
        self.first, self.last = first, first + steps
        self.started = self.seconds = 0.0

    def step(self, done: int) -> None:
        """A step is done."""
        if done == self.first:
            self.started = time.perf_counter()
        elif done == self.last:
            self.seconds = time.perf_counter() - self.started


def run_ours(spec: dict[str, Any], out: Path, clock: Clock) -> Any:
    """The stage itself, whole; its published model."""
    from xstilts.progress import Progress
    from xstilts.training.model import Model, load_backbone, load_head
    from xstilts.training.stages import fine_tune

    def step(self: Progress, done: int, note: str = "") -> None:
        clock.step(done)

    Progress.step = step  # type: ignore[method-assign]
    fine_tune(spec, out)
    backbone = load_backbone(out, language_model=False)
    head = spec["tasks"][0]["head"]
    return Model(backbone, {head: load_head(out, head, backbone.config, 0.0)[0]})


def run_trainer(spec: dict[str, Any], way: str, workers: int, clock: Clock) -> Any:
    """Hugging Face's Trainer on the same module, data, loss, optimiser and schedule."""
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments
    from transformers.trainer_pt_utils import LengthGroupedSampler, get_length_grouped_indices

    from xstilts.training.loop import learning_rate, make_optimizer
    from xstilts.training.settings import Training

    settings = Training.model_validate(spec["settings"])
    torch.set_num_threads(settings.threads)
    torch.manual_seed(spec["seed"])
    data = Data(spec, meta_of(Path(), spec)["max_length"] if way == "a" else 0)
    model = data.new_model(settings.dropout)
    steps = int(settings.max_steps or 0)

    class Grouping(Trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            if way not in "cd":
                return super()._get_train_sampler(train_dataset)
            return Grouped(settings.batch_size, lengths=data.store.lengths.tolist())

    class Grouped(LengthGroupedSampler):
        def __iter__(self) -> Any:
            # 50 batches are sorted together on data of full size, by default fewer of so few rows.
            batches = 50 if way == "c" else None
            return iter(get_length_grouped_indices(self.lengths, self.batch_size, batches))

    class Marks(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            clock.step(state.global_step)

    arguments = TrainingArguments(
        output_dir="trainer",
        max_steps=steps,
        per_device_train_batch_size=settings.batch_size,
        max_grad_norm=settings.max_grad_norm,
        dataloader_num_workers=workers,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        save_strategy="no",
        eval_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        seed=spec["seed"],
    )
    optimizer = make_optimizer(model, settings)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate(settings, step, steps) / settings.learning_rate
    )
    Grouping(
        model=data.with_loss(model),
        args=arguments,
        train_dataset=data,
        data_collator=data.collate,
        callbacks=[Marks()],
        optimizers=(optimizer, schedule),
    ).train()
    return model


class Data:
    """A task's training rows as Trainer takes them: one by one, padded when they are joined.

    Args:
        spec: Spec of the training.
        width: Length that every batch is padded to; 0 for its longest row.
    """

    def __init__(self, spec: dict[str, Any], width: int) -> None:
        from xstilts.data.token_store import read_store
        from xstilts.formats.head import trained_format

        entry = spec["tasks"][0]
        self.spec, self.head, self.width = spec, entry["head"], width
        self.format_name = entry["format"]
        self.format = trained_format(self.format_name)
        self.store = read_store(Path(entry["tokens"][0]), "train")

    def __len__(self) -> int:
        return int(self.store.sequences)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index >= len(self):
            raise IndexError(index)  # the end, for those who ask one by one
        first, last = self.store.arrays["offsets"][index : index + 2]
        return {"index": index, "input_ids": self.store.arrays["input_ids"][first:last]}

    def collate(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """A batch, from our own collation."""
        import numpy as np
        import torch
        from torch.nn.functional import pad

        ids = np.array([row["index"] for row in rows])
        arrays = self.format.collate(self.store, ids, np.random.default_rng(0))
        batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
        fill = {"input_ids": self.store.meta.pad_id}
        for name, value in batch.items():
            if value.dim() == 2 and self.width:
                batch[name] = pad(value, (0, self.width - value.shape[1]), value=fill.get(name, 0))
        return batch

    def new_model(self, dropout: float) -> Any:
        """The model that a training of ours starts from."""
        from xstilts.training.model import Model, load_backbone, make_heads

        backbone = load_backbone(Path(self.spec["inputs"]["model"]), language_model=False)
        wanted = {self.head: (self.format_name, self.store.meta.labels)}
        return Model(backbone, make_heads(wanted, backbone.config, dropout))

    def with_loss(self, model: Any) -> Any:
        """The model with the format's loss behind it, as Trainer wants it."""
        import torch

        head, format_ = self.head, self.format

        class WithLoss(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(
                self,
                input_ids: Any,
                attention_mask: Any,
                labels: Any = None,
                start: Any = None,
                end: Any = None,
                allowed: Any = None,
            ) -> dict[str, Any]:
                given = {"input_ids": input_ids, "attention_mask": attention_mask}
                given |= {"labels": labels, "start": start, "end": end, "allowed": allowed}
                batch = {key: value for key, value in given.items() if value is not None}
                outputs = self.model(batch, head)
                # A term a row, in both formats.
                return {"loss": format_.loss(outputs, batch) / len(input_ids), "logits": outputs}

        return WithLoss()


def dev_scores(spec: dict[str, Any], model: Any) -> tuple[float, float]:
    """Score and mean loss on the whole dev split."""
    import numpy as np
    import torch

    from xstilts.data.token_store import read_store
    from xstilts.formats.head import trained_format

    entry = spec["tasks"][0]
    format_, store = trained_format(entry["format"]), read_store(Path(entry["tokens"][0]), "dev")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).eval()
    sums, loss, count = torch.zeros(2, dtype=torch.float64), 0.0, 0
    order = np.argsort(format_.unit_lengths(store), kind="stable")
    with torch.inference_mode():
        for ids in np.array_split(order, max(1, len(order) // 16)):
            arrays = format_.collate(store, ids, np.random.default_rng(0))
            batch = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
            outputs = model(batch, entry["head"])
            sums += format_.dev_sums(outputs, batch, store.meta.labels)
            loss += float(format_.loss(outputs, batch))
            count += format_.terms(arrays)
    return float(sums[0] / sums[1]), loss / count


def child(order: dict[str, Any]) -> None:
    """Run one training as it was ordered and print what was measured."""
    spec, way = order["spec"], order["way"]
    settings = spec["settings"]
    clock = Clock(order["first"], settings["max_steps"] - order["first"] - 1)
    if way == "xstilts":
        model = run_ours(spec, Path(order["out"]), clock)
    else:
        model = run_trainer(spec, way, order["workers"], clock)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    score, loss = dev_scores(spec, model)
    speed = order["units"] / clock.seconds
    print(json.dumps({"speed": speed, "peak": peak, "score": score, "loss": loss}))


# ---------------------------------------------------------------- all runs


def meta_of(folder: Path, spec: dict[str, Any]) -> dict[str, Any]:
    """What the tokens of a training say of themselves."""
    path = folder / spec["tasks"][0]["tokens"][0] / "meta.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def finished_world(results: Path) -> dict[str, Any]:
    """The trainings of a finished toy study, without selection on dev."""
    specs = {}
    for task in TOY:
        (path,) = results.glob(f"checkpoints/*/none/seed-1/{task}/manifest.json")
        specs[task] = json.loads(path.read_text(encoding="utf-8"))["spec"]
        specs[task]["settings"] |= {name: TRAINING[name] for name in ("select", "evaluate_every")}
    return {"folder": str(results.resolve()), "specs": specs}


def run_one(folder: Path, order: dict[str, Any], threads: int) -> dict[str, float]:
    """One training in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), "--child", json.dumps(order)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": str(threads), **REPORT},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def quality(results: Path, options: argparse.Namespace) -> None:
    """Print dev scores after equal steps, every way with every seed."""
    world, folder = finished_world(results), results.resolve()
    try:
        for task, spec in world["specs"].items():
            print(f"\n{task}: {spec['settings']['max_steps']} steps, dev score by seed and mean")
            for way in options.ways:
                orders = [
                    {"spec": {**spec, "seed": seed}, "way": way, "workers": 0, "units": 1}
                    | {"out": f"bench/{task}-{seed}", "first": 1}
                    for seed in range(1, options.runs + 1)
                ]
                scores = [run_one(folder, order, options.threads)["score"] for order in orders]
                shown = " ".join(f"{score:.3f}" for score in scores)
                print(f"{WAYS[way]:<36} {shown}  {statistics.fmean(scores):.3f}", flush=True)
    finally:
        for name in ("bench", "state/bench", "trainer"):
            shutil.rmtree(folder / name, ignore_errors=True)


def measure(world: dict[str, Any], options: argparse.Namespace) -> dict[str, dict[str, list[Any]]]:
    """Every task and way `runs` times, in turn; each run has a seed of its own."""
    folder = Path(world["folder"])
    found: dict[str, dict[str, list[Any]]] = {}
    for seed in range(1, options.runs + 1):
        for task in options.tasks:
            spec = world["specs"][task]
            units = meta_of(folder, spec)["splits"]["train"]["sequences"]
            per_epoch = -(-units // BATCH[task])
            steps = per_epoch * (1 + options.epochs) + 1
            spec = {**spec, "seed": seed, "settings": {**spec["settings"], "max_steps": steps}}
            for way in options.ways:
                order = {"spec": spec, "way": way, "workers": options.workers}
                order |= {"out": f"bench/{task}-{seed}", "units": units * options.epochs}
                order["first"] = per_epoch
                one = run_one(folder, order, options.threads)
                print(f"  {task} seed {seed} {way}: {one}", file=sys.stderr, flush=True)
                found.setdefault(task, {}).setdefault(way, []).append(one)
    return found


def report(found: dict[str, dict[str, list[Any]]]) -> None:
    """Print medians, and the median of the runs' ratios."""
    for task, ways in found.items():
        print(f"\n{task}: batch {BATCH[task]}")
        print(f"{'':<36} examples/s  ours is   peak MiB  dev score by seed         dev loss")
        for way, runs in ways.items():
            ours = ways.get("xstilts", runs)
            ratios = [a["speed"] / b["speed"] for a, b in zip(ours, runs, strict=True)]
            scores = " ".join(f"{run['score']:.3f}" for run in runs)
            losses = " ".join(f"{run['loss']:.3f}" for run in runs)
            print(
                f"{WAYS[way]:<36} {statistics.median(run['speed'] for run in runs):10.1f}"
                f"  {statistics.median(ratios):6.2f} x  {max(run['peak'] for run in runs):8.0f}"
                f"  {scores:<24} {losses}"
            )


def main() -> None:
    """Measure, or run one training for a parent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hub", type=Path, default=REPOSITORY.parent / "shared" / "hub")
    parser.add_argument("--runs", type=int, default=3, help="runs of each way, a seed each")
    parser.add_argument("--rows", type=int, nargs=2, default=list(ROWS.values()), metavar="N")
    parser.add_argument("--epochs", type=int, default=1, help="epochs timed, after one of warm-up")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0, help="Trainer's dataloader workers")
    parser.add_argument("--size", type=int, nargs=4, default=(4, 192, 4, 768), metavar="N")
    parser.add_argument("--tasks", nargs="+", choices=SLICES, default=list(SLICES))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--quality", type=Path, metavar="RESULTS", help="of a finished toy study")
    parser.add_argument("--folder", type=Path, help="keep the data and models here for a next time")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(json.loads(options.child))
        return
    if options.quality:
        quality(options.quality, options)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        kept = folder / "world.json"
        if not kept.exists():
            folder.mkdir(exist_ok=True)
            kept.write_text(json.dumps(make_world(options, folder)), encoding="utf-8")
        report(measure(json.loads(kept.read_text("utf-8")), options))


if __name__ == "__main__":
    main()
