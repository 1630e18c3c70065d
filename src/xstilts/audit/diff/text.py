"""What `xstilts audit diff` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xstilts.analysis.numbers import counted
from xstilts.audit.changes import Change

#: Entries of a list that are shown.
MOST = 12
_MORE = "see --json"


def _cut(lines: Sequence[str], most: int = MOST) -> list[str]:
    rest = len(lines) - most
    return [*lines[:most], *([f"… and {rest} more: {_MORE}"] if rest > 0 else [])]


def _part(title: str, lines: Sequence[str], most: int = MOST) -> str:
    """A heading with its lines below; nothing without lines."""
    return (
        "\n".join([title, *(f"  {line}" for line in _cut(lines, most))]) + "\n\n" if lines else ""
    )


def _change(content: Mapping[str, Any]) -> str:
    sides = {
        name: content[side]
        for name, side in (("old", "first"), ("new", "second"))
        if side in content
    }
    return str(Change(content["key"], **sides))


def _signed(value: float) -> str:
    return f"{value:+.4f}"


# ---- artifacts


def artifacts_text(found: Mapping[str, Any]) -> str:
    """How two artifacts differ."""
    made = _part("Made with", [_change(change) for change in found["made_with"]])
    if found["equal"]:
        return f"The same: spec, inputs and files.\n\n{made}".rstrip() + "\n"
    own = _part("They differ by themselves", found["reasons"])
    names = _part("Inputs of other names", [_change(change) for change in found["names"]])
    inputs = [
        f"{entry['role']}: {_pair(entry['artifacts'])}, "
        f"manifest {' -> '.join(sha256[:12] or '?' for sha256 in entry['manifests'])}"
        for entry in found["inputs"]
    ]
    begins = []
    for entry in found["begins"]:
        first = "" if entry["is_first"] else "  (its inputs differ too)"
        begins.append(f"{_pair(entry['artifacts'])}{first}")
        begins += [f"  {reason}" for reason in _cut(entry["reasons"], 6)]
    parts = [
        own,
        names,
        _part("Inputs that differ", inputs),
        _part("Where the difference begins", begins, 4 * MOST),
        made,
        _part("How far apart", _files(found), 5 * MOST),
    ]
    return "".join(parts).rstrip() + "\n"


def _pair(names: Sequence[str]) -> str:
    return names[0] if names[0] == names[1] else f"{names[0]} -> {names[1]}"


def _files(found: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, entry in found["files"].items():
        teller = _TOLD.get(entry.get("what", ""))
        before, after = entry["bytes"]
        sizes = f"{before} bytes" if before == after else f"{before} -> {after} bytes"
        said = teller(entry) if teller else [f"other bytes ({sizes})"]
        said = [f"cannot be compared: {entry['unknown']}"] if "unknown" in entry else said
        lines += [f"{name}: {said[0]}", *(f"  {line}" for line in _cut(said[1:]))]
    for side in ("first", "second"):
        lines += [f"{name}: only in the {side}" for name in found[f"files_only_in_{side}"]]
    return lines


def _scores(entry: Mapping[str, Any]) -> list[str]:
    mean = entry["mean"]
    changed = [
        value for value in entry["values"] if value["difference"] or len(set(value["n"])) > 1
    ]
    head = f"{len(changed)} of {counted(len(entry['values']), 'value')} differ"
    if mean:
        head += (
            f"; {mean['metric']}, mean over {counted(mean['languages'], 'language')}: "
            f"{mean['first']:.4f} -> {mean['second']:.4f} ({_signed(mean['difference'])})"
        )
    changed.sort(key=lambda value: -abs(value["difference"]))
    return [head, *(_value(value) for value in changed)]


def _value(value: Mapping[str, Any]) -> str:
    before, after = value["n"]
    count = before if before == after else f"{before} -> {after}"
    return (
        f"{value['language']} {value['metric']}: {value['first']:.4f} -> {value['second']:.4f} "
        f"({_signed(value['difference'])}), n {count}"
    )


def _predictions(entry: Mapping[str, Any]) -> list[str]:
    return [f"{entry['differ']} of {counted(entry['examples'], 'example')} differ{_sides(entry)}"]


def _sides(entry: Mapping[str, Any]) -> str:
    return "".join(
        f", {entry[f'only_in_{side}']} only in the {side}"
        for side in ("first", "second")
        if entry[f"only_in_{side}"]
    )


def _tensors(entry: Mapping[str, Any]) -> list[str]:
    head = f"{entry['differ']} of {counted(entry['tensors'], 'tensor')} differ"
    if entry["largest"] is not None:
        head += f", by {entry['largest']:.3g} at most ({entry['in']})"
    lists = {
        "only in the first": entry["only_in_first"],
        "only in the second": entry["only_in_second"],
        "of another shape or type": entry["other_shape"],
    }
    return [
        head,
        *(f"{what}: {', '.join(_cut(names, 6))}" for what, names in lists.items() if names),
    ]


def _rows(entry: Mapping[str, Any]) -> list[str]:
    before, after = entry["rows"]
    count = counted(before, "row") if before == after else f"{before} -> {after} rows"
    return [f"{count}, {entry['differ']} differ{_sides(entry)}"]


def _table(entry: Mapping[str, Any]) -> list[str]:
    lines = _rows(entry)
    for row in entry["changed"][:3]:
        names = " ".join(str(value) for value in row["row"].values() if value)
        values = (f"{key} {old} -> {new}" for key, (old, new) in row["columns"].items())
        lines.append(f"{names}: {', '.join(_cut(list(values), 4))}")
    if len(entry["changed"]) > 3:
        lines.append(f"… and {len(entry['changed']) - 3} more rows: {_MORE}")
    return lines


_TOLD = {
    "scores": _scores,
    "predictions": _predictions,
    "tensors": _tensors,
    "rows": _rows,
    "table": _table,
}

# ---- studies


def studies_text(found: Mapping[str, Any]) -> str:
    """How two results folders differ."""
    parts = [_same(found), _causes(found), _only(found), _stages(found), _moved(found)]
    study = [_change(change) for change in found["study"]]
    parts.append(_part("Content of the studies", study, 2 * MOST))
    made = [
        f"{entry['key']}: {', '.join(entry['first']) or '-'} -> {', '.join(entry['second']) or '-'}"
        for entry in found["made_with"]
    ]
    parts.append(_part("Made with", made, 2 * MOST))
    absent = [f"the {side} has none that can be used" for side in found["without_root"]]
    parts.append(_part("Root manifest, with the content of the study", absent))
    return "".join(parts).rstrip() + "\n"


def _same(found: Mapping[str, Any]) -> str:
    if not found["equal"]:
        return ""
    count = sum(counts.get("same", 0) for counts in found["stages"].values())
    return f"The same: all {counted(count, 'artifact')}.\n\n"


def _causes(found: Mapping[str, Any]) -> str:
    lines = []
    for cause in found["causes"]:
        lines += _cut(cause["reasons"], 6)
        for title, outs in (("begins at", cause["begins"]), ("and at", cause["further"])):
            lines += [f"  {title} {out}" for out in _cut(outs, 6)]
    text = _part("Why", lines, 6 * MOST)
    if found["following"]:
        count = counted(len(found["following"]), "artifact differs", "artifacts differ")
        text = text.rstrip("\n") + f"\n  {count} only because inputs do\n\n"
    return text


def _only(found: Mapping[str, Any]) -> str:
    parts = [
        _part(f"Only in the {side} ({len(outs)})", outs)
        for side in ("first", "second")
        if (outs := found[f"only_in_{side}"])
    ]
    return "".join(parts)


def _stages(found: Mapping[str, Any]) -> str:
    if found["equal"]:
        return ""
    width = max((len(stage) for stage in found["stages"]), default=0)
    lines = [
        f"{stage:<{width}}  " + ", ".join(f"{count} {what}" for what, count in counts.items())
        for stage, counts in found["stages"].items()
    ]
    return _part("Artifacts by stage", lines, len(lines))


def _moved(found: Mapping[str, Any]) -> str:
    lines = [
        f"{row['model']}, {row['recipe']}, {row['target']}: {row['first']:.4f} -> "
        f"{row['second']:.4f} ({_signed(row['difference'])}), {counted(row['seeds'], 'seed')}, "
        f"{counted(row['languages'], 'language')}"
        for row in found["moved"]
    ]
    return _part("Scores that moved", lines, 2 * MOST)
