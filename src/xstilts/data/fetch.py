"""Stage `fetch`: the raw files of a data set, exactly those that the lock file names.

It is the one stage of data that may need the network. Files come as ``<split>/<name>`` from the Hub
or a mirror and from the toy world, as ``files/<name>`` from URLs and from the user.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from xstilts.artifacts.publish import publishing
from xstilts.data import sources
from xstilts.data.patience import REFRESH, DamagedError
from xstilts.errors import InputError, nearest
from xstilts.runtime import runtime

Files = Mapping[str, Mapping[str, Any]]

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_CHANGED = f"The files have changed since they were locked: put the old ones back, or {REFRESH}"


def run(spec: Mapping[str, Any], out: Path) -> None:
    """Fetch the files of one configuration of a data set.

    Args:
        spec: ``dataset``, ``config``, ``source`` (dump of the row's source), and ``lock``
            (``{"revision", "files": {path: {"size", "sha256", "split"}}}``) or, for the toy world,
            ``toyworld`` (``{"kind", "language", "sizes": {split: rows}, "seed"}``).
        out: The artifact's folder.

    Raises:
        InputError: If nothing is locked, or the files cannot be had with the locked bytes.
    """
    with publishing(out, spec) as draft:
        if spec["source"]["kind"] == "toyworld":
            _toyworld(draft.folder, **spec["toyworld"])
            return
        lock = spec.get("lock")
        if lock is None:
            where = f"data set {spec['dataset']}/{spec['config']}"
            hint = "Run `xstilts lock` on a machine with network, then run again"
            raise InputError(where, "is not in the lock file", hint=hint)
        kinds = {"hub": _hub, "url": _url, "files": _user}
        kinds[spec["source"]["kind"]](spec, lock, draft.folder)
        draft.record.add(bytes_fetched=sum(file["size"] for file in lock["files"].values()))


def fetch_model_files(
    hub: str, lock: Mapping[str, Any] | None, folder: Path, patterns: Iterable[str]
) -> list[str]:
    """Fetch files of a model's repository into a folder, with the checks of `run`.

    Args:
        hub: Namespaced id.
        lock: The model's entry in the lock file.
        folder: Where to write them; it exists.
        patterns: Names wanted, e.g. ``*.safetensors``.

    Returns:
        Names of the files, sorted.

    Raises:
        InputError: If nothing is locked, no locked file is wanted, or the bytes differ.
    """
    if lock is None:
        hint = "Run `xstilts lock` on a machine with network, then run again"
        raise InputError(f"model {hub}", "is not in the lock file", hint=hint)
    wanted = list(patterns)
    files = {
        path: known
        for path, known in lock["files"].items()
        if any(fnmatch(path, pattern) for pattern in wanted)
    }
    if not files:
        raise InputError(
            f"model {hub}",
            "the lock file has no file that is wanted",
            expected=", ".join(wanted),
            found=", ".join(lock["files"]),
        )
    targets = {path: folder / sources.safe_path(path, hub) for path in files}
    _take(hub, "model", lock["revision"], files, targets)
    return sorted(files)


def run_model(spec: Mapping[str, Any], out: Path) -> None:
    """Stage `fetch_model`: the configuration and the weights of a pretrained model.

    Args:
        spec: ``model`` (name, hub, architecture, layers) and ``lock``, its entry in the lock file.
        out: The artifact's folder: ``config.json`` and ``model.safetensors``; where the weights
            are in several files, ``model.safetensors.index.json`` and the files that it names.

    Raises:
        InputError: If nothing is locked, the bytes differ, a file is missing or corrupt, or the
            model is not what its row says.
    """
    model, lock = spec["model"], spec["lock"]
    hub = model["hub"]
    with publishing(out, spec) as draft:
        whole = lock is None or _WEIGHTS in lock["files"]
        wanted = ["config.json", _WEIGHTS if whole else _INDEX]
        if fetch_model_files(hub, lock, draft.folder, wanted) != sorted(wanted):
            raise _lacking(hub, f"config.json and {_WEIGHTS} or {_INDEX}", lock)
        _check_config(draft.folder / "config.json", model)
        if whole:
            _check_weights(draft.folder / _WEIGHTS, hub)
        else:
            _parts(hub, lock, draft.folder)


def _lacking(hub: str, expected: str, lock: Mapping[str, Any]) -> InputError:
    where, found = f"model {hub}", ", ".join(lock["files"])
    return InputError(where, "the repository lacks a file", expected=expected, found=found)


def _parts(hub: str, lock: Mapping[str, Any], folder: Path) -> None:
    """Fetch weights in several files: those that the index names, each with what it says of it."""
    weights = _read_json(folder / _INDEX, hub).get("weight_map")
    if not isinstance(weights, dict) or not weights:
        raise InputError(f"{hub}: {_INDEX}", "names no weights", expected="a weight_map")
    names = sorted({str(name) for name in weights.values()})
    for name in names:
        if name not in lock["files"] or not name.endswith(".safetensors"):
            raise _lacking(hub, f"{name}, which {_INDEX} names", lock)
    fetch_model_files(hub, lock, folder, names)
    for name in names:
        there = _check_weights(folder / name, hub)
        if lost := sorted(key for key in weights if weights[key] == name and key not in there):
            where, problem = f"{hub}: {name}", f"has not the weights that {_INDEX} says"
            raise InputError(where, problem, expected=lost[0], found=f"{len(there)} others")


def run_translator(spec: Mapping[str, Any], out: Path) -> None:
    """Stage `fetch_translator`: everything that a translator is loaded from.

    Args:
        spec: ``translator`` (name, hub) and ``lock``, its entry in the lock file.
        out: The artifact's folder: configuration, weights and the files of the tokenizer.

    Raises:
        InputError: If nothing is locked, the bytes differ, the weights are corrupt, or the model
            is none that reads one text and writes another.
    """
    hub = spec["translator"]["hub"]
    with publishing(out, spec) as draft:
        names = fetch_model_files(hub, spec["lock"], draft.folder, ["*"])
        path = draft.folder / "config.json"
        config = _read_json(path, hub) if path.exists() else {}
        if not config.get("is_encoder_decoder"):
            raise InputError(
                f"{hub}: config.json",
                "describes no translator",
                expected="an encoder-decoder such as Marian, M2M100 or NLLB",
                found=repr(config.get("model_type")) if config else "no such file",
            )
        for name in names:
            if name.endswith(".safetensors"):
                _check_weights(draft.folder / name, hub)


def _read_json(path: Path, hub: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{hub}: {path.name}", f"is no JSON ({error})") from error
    return content


def _check_config(path: Path, model: Mapping[str, Any]) -> None:
    config = _read_json(path, model["hub"])
    layers = (
        "n_layer" if "n_layer" in config else "num_hidden_layers"
    )  # BLOOM's name, and all others'
    for row_key, config_key in (("architecture", "model_type"), ("layers", layers)):
        if config.get(config_key) != model[row_key]:
            raise InputError(
                f"{model['hub']}: config.json: {config_key}",
                f"is not the {row_key} of the registry's row {model['name']!r}",
                expected=repr(model[row_key]),
                found=repr(config.get(config_key)),
            )


def _check_weights(path: Path, hub: str) -> set[str]:
    """Look at the header, and whether all the bytes that it tells of are there.

    Returns:
        Names of the weights.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as weights:
            return set(weights.keys())
    except SafetensorError as error:
        raise InputError(
            f"{hub}: {path.name}",
            f"is no whole safetensors file ({error})",
            found=f"{path.stat().st_size} bytes",
            hint=f"Put a whole file into the repository or its mirror, then {REFRESH}",
        ) from error


# ---- the Hub and its mirror


def _hub(spec: Mapping[str, Any], lock: Mapping[str, Any], folder: Path) -> None:
    targets = {path: folder / name for path, name in _places(lock["files"]).items()}
    _take(spec["source"]["hub"], "dataset", lock["revision"], lock["files"], targets)


def _places(files: Files) -> dict[str, str]:
    """``<split>/<name>`` of each file; its whole path is in the name if names are equal."""
    places: dict[str, str] = {}
    for path in sorted(files):
        split = files[path]["split"] or "files"
        sources.safe_path(f"{split}/{path}", "the lock file")
        places[path] = f"{split}/{PurePosixPath(path).name}"
    names = list(places.values())
    return {
        path: f"{place.split('/')[0]}/{path.replace('/', '--')}"
        if names.count(place) > 1
        else place
        for path, place in places.items()
    }


def _take(
    repository: str,
    kind: sources.Kind,
    revision: str | None,
    files: Files,
    targets: Mapping[str, Path],
) -> None:
    mirror = runtime().mirror
    folder = sources.mirror_repository(mirror, repository) if mirror else None
    for path, known in files.items():
        targets[path].parent.mkdir(parents=True, exist_ok=True)
        if folder is not None:
            _from_mirror(folder, path, known, targets[path])
        else:
            _from_hub(repository, kind, revision, path, known, targets[path])


def _from_mirror(folder: Path, path: str, known: Mapping[str, Any], target: Path) -> None:
    problem = _copy(sources.mirror_file(folder, path), target, known)
    if problem:
        hint = f"The mirror has changed since it was locked: put the old file back, or {REFRESH}"
        raise InputError(str(folder / path), problem, hint=hint)


def _from_hub(
    repository: str,
    kind: sources.Kind,
    revision: str | None,
    path: str,
    known: Mapping[str, Any],
    target: Path,
) -> None:
    """Take a file through the Hub's cache; a damaged one is downloaded once more."""
    problem: str | None = None
    for force in (False, True):
        file = sources.hub_file(repository, kind, path, revision, force=force)
        problem = _copy(file, target, known)
        if problem is None:
            return
    url = sources.hub_url(repository, kind, path, revision)
    hint = f"If it goes on, the file has changed on the Hub since it was locked: {REFRESH}"
    raise InputError(url, f"has not the locked bytes, downloaded twice: {problem}", hint=hint)


def _copy(file: Path, target: Path, known: Mapping[str, Any]) -> str | None:
    with file.open("rb") as stream:
        return sources.difference(sources.copy_bytes(stream, target), known)


# ---- URLs and the user's files


def _url(spec: Mapping[str, Any], lock: Mapping[str, Any], folder: Path) -> None:
    source, files = spec["source"], lock["files"]
    problem, local = "", runtime().files.get(spec["dataset"])
    for force in (False,) if local else (False, True):
        try:
            found = sources.url_files(
                source["urls"],
                source["members"],
                spec["config"],
                folder / "files",
                local=local,
                force=force,
            )
        except DamagedError as error:
            problem = str(error)
            continue
        problem = _differences(found, files)
        if not problem:
            return
    if local:
        raise InputError(f"files.{spec['dataset']} ({local})", problem, hint=_CHANGED)
    where = ", ".join(sources.fill(url, spec["config"]) for url in source["urls"].values())
    hint = f"If it goes on, the files have changed since they were locked: {REFRESH}"
    raise InputError(where, f"{problem}; downloaded twice", hint=hint)


def _user(spec: Mapping[str, Any], lock: Mapping[str, Any], folder: Path) -> None:
    source = spec["source"]
    found = {}
    paths = sources.user_files(spec["dataset"], source["files"], source["hint"], spec["config"])
    for name, path in paths.items():
        target = sources.target_path(folder / "files", name, spec["dataset"])
        with path.open("rb") as stream:
            found[name] = sources.copy_bytes(stream, target)
    if problem := _differences(found, lock["files"]):
        raise InputError(f"files.{spec['dataset']}", problem, hint=_CHANGED)


def _differences(found: Files, known: Files) -> str:
    """The first file that is not as it was locked; empty if all are."""
    for name in sorted({*found, *known}):
        if name not in known:
            return f"{name} is not in the lock file"
        if name not in found:
            return f"{name} is in the lock file and not in the source"
        if problem := sources.difference(found[name], known[name]):
            return f"{name}: {problem}"
    return ""


# ---- the toy world


def _toyworld(folder: Path, kind: str, language: str, sizes: Mapping[str, int], seed: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from xstilts.toyworld.generate import generate

    schema = _schema(kind)
    for split, size in sizes.items():
        rows = generate(kind, language, split, size, seed)
        for row in rows:
            # pyarrow fills what is missing with nulls and drops what it does not know.
            assert row.keys() == set(schema.names), f"toy {kind}: columns {sorted(row)}"
        target = folder / split / "data.parquet"
        target.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows, schema), target)


def _schema(kind: str) -> Any:
    import pyarrow as pa

    text, label = pa.string(), pa.int32()
    pair = {"text_a": text, "text_b": text, "label": label}
    tagged = {"tokens": pa.list_(text), "tags": pa.list_(label)}
    answers = pa.list_(pa.struct({"text": text, "start": pa.int32()}))
    columns = {
        "corpus": {"text": text},
        "nli": pair,
        "paraphrase": pair,
        "qa": {"context": text, "question": text, "answers": answers},
        "choice": {"prompt": text, "choices": pa.list_(text), "label": label},
        "pos": tagged,
        "ner": tagged,
        "parallel": {"source": text, "target": text},
        "comparable": {"source": text, "target": text},
    }
    if kind not in columns:
        raise InputError("toyworld", f"there is no toy data {kind!r}", hint=nearest(kind, columns))
    return pa.schema({"id": text, **columns[kind]})
