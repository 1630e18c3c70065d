"""What `xstilts audit explain` prints: numbers, the chain as a tree, then each kind of artifact."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xstilts.analysis.numbers import counted, size
from xstilts.artifacts.spec import spec_sha256
from xstilts.audit.ancestry import Link
from xstilts.audit.explain.facts import surroundings, title_of
from xstilts.audit.explain.grid import Term
from xstilts.report.lineage import STAGES

if TYPE_CHECKING:
    from xstilts.audit.ancestry import Ancestry
    from xstilts.audit.explain.main import Explanation
    from xstilts.audit.results import Artifact

#: Artifacts of a kind, and inputs of a role, that are shown each.
MOST = 6
_MORE = "see --json"
_CUT = 160


def text_of(explanation: Explanation) -> str:
    """The whole text."""
    parts = [
        _head(explanation),
        _numbers(explanation),
        _cells(explanation),
        _example(explanation),
        ["Chain", *_tree(explanation.ancestry)],
        *_kinds(explanation),
        _environments(explanation),
        _problems(explanation),
    ]
    return "\n".join("\n".join(lines) + "\n" for lines in parts if lines)


def short(sha256: str) -> str:
    """The first twelve digits of a sha256."""
    return sha256[:12] or "?"


# ---- the place


def _head(explanation: Explanation) -> list[str]:
    artifact = explanation.describer.reader.read(explanation.out)
    lines = [explanation.place]
    if explanation.row:
        pairs = (f"{key} {value}" for key, value in explanation.row.items() if value)
        lines.append("  " + ", ".join(pairs))
    file = artifact.manifest.files.get(explanation.file) if artifact.manifest else None
    if file:
        lines.append(f"  {explanation.file}: sha256 {short(file['sha256'])}, {size(file['size'])}")
    if explanation.out not in explanation.ancestry.artifacts:
        lines.append(f"  {explanation.out}: {_hashes(artifact)}")
        lines += [f"  {line}" for line in _making(explanation, explanation.out)]
    return lines


def _numbers(explanation: Explanation) -> list[str]:
    lines = []
    for number in explanation.story.numbers if explanation.story else ():
        if not number.cell and number.gives is None and not number.says.startswith("blank"):
            continue
        lines.append(f"{number.column} {number.cell or '(blank)'}: {number.says}")
        for term in number.terms:
            inner = "  "
            if term.name.startswith("`"):
                lines.append(f"  {term.name} {term.value:.4f}: {term.says()}")
                inner = "    "
            lines += [inner + line for line in _terms(term)]
        if number.agrees is not None:
            verdict = "the number in the cell" if number.agrees else "NOT the number in the cell"
            lines.append(f"  gives {number.gives}: {verdict}")
    return lines


def _terms(term: Term) -> Iterator[str]:
    """What a number is made from; scores in one line."""
    if not term.terms:
        yield f"{term.name} {term.value:.4f}  {term.scores}"
    for part in term.terms:
        if part.terms and part.over == "languages":
            yield f"{part.name} {part.value:.4f}: {_listed(part.terms)}  {part.scores}"
        elif part.terms:
            yield f"{part.name} {part.value:.4f}"
            yield from (f"  {line}" for line in _terms(part))
        else:
            yield f"{part.name} {part.value:.4f}  {part.scores}"


def _listed(terms: Sequence[Term]) -> str:
    shown = ", ".join(f"{term.name} {term.value:.2f}" for term in terms[: 2 * MOST])
    return shown + (f" … and {len(terms) - 2 * MOST} more" if len(terms) > 2 * MOST else "")


def _cells(explanation: Explanation) -> list[str]:
    story = explanation.story
    if story is None:
        return []
    lines = list(story.notes)
    for why in dict.fromkeys(why for _, why in story.cells):
        cells = [cell for cell, own in story.cells if own == why]
        lines.append(f"{counted(len(cells), 'cell')} {why}")
        lines += [
            f"  {cell.model}, {cell.recipe}, seed {cell.seed}, {cell.target}: {cell.scores}"
            for cell in cells[: 2 * MOST]
        ]
        if len(cells) > 2 * MOST:
            lines.append(f"  … and {len(cells) - 2 * MOST} more: {_MORE}")
    if not story.cells and not story.starts:
        lines.append("No cell of the study matches this row.")
    return lines


def _example(explanation: Explanation) -> list[str]:
    example = explanation.example
    if example is None:
        return []
    if score := example.get("score"):
        lines = [f"{score['metric']} {score['value']} in {score['language']}, n {score['n']}"]
        lines.append(f"  predictions {score['predictions']}")
        return [*lines, f"  gold rows   {score['gold']}"]
    lines = ["Example", f"  prediction  {_cut(example['line'])}"]
    prepared = example.get("prepared", {})
    for file, row in prepared.get("rows", {}).items():
        lines.append(f"  answers     {prepared['artifact']}/{file}, row {row['row']}")
        lines += [f"    {key}: {_cut(value)}" for key, value in row["content"].items()]
    if source := example.get("source"):
        for file, sha256 in source["files"].items():
            lines.append(f"  source file {source['artifact']}/{file}  sha256 {short(sha256)}")
    if unknown := example.get("unknown"):
        lines.append(f"  not found   {unknown}")
    return lines


def _cut(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    return text if len(text) <= _CUT else text[: _CUT - 1] + "…"


# ---- the chain


def _tree(ancestry: Ancestry) -> Iterator[str]:
    """Artifacts with what they were made from, indented; each but once."""
    shown: set[str] = set()
    waiting: list[tuple[int, Link | str]] = [
        (1, Link("", out, "")) for out in reversed(ancestry.starts)
    ]
    while waiting:
        depth, item = waiting.pop()
        if isinstance(item, str):
            yield "  " * depth + item
            continue
        again = item.out in shown
        yield "  " * depth + _line(ancestry, item, again)
        if again:
            continue
        shown.add(item.out)
        below = list(_below(ancestry, item.out, shown))
        waiting += [(depth + 1, part) for part in reversed(below)]


def _below(ancestry: Ancestry, out: str, shown: set[str]) -> Iterator[Link | str]:
    """Inputs of an artifact; of many in one role the first, and those with something wrong."""
    links = ancestry.links[out]
    for role in dict.fromkeys(link.role for link in links):
        same = [link for link in links if link.role == role]
        if len(same) <= 2:
            yield from same
            continue
        wrong = [
            link
            for link in same[1:]
            if ancestry.mismatch(out, link) or link.out in ancestry.troubled
        ]
        yield from (same[0], *wrong)
        rest = [link.out for link in same[1:] if link not in wrong]
        shown.update(rest)
        if rest:
            yield f"{role}: … and {len(rest)} more: {_names(rest)}"


def _names(outs: Sequence[str]) -> str:
    """Folders in short: their common beginning is left out."""
    names = [out.rpartition("/")[2] for out in outs]
    names = names if len(set(names)) == len(names) else list(outs)
    return ", ".join(names[:MOST]) + (" …" if len(names) > MOST else "")


def _line(ancestry: Ancestry, link: Link, again: bool) -> str:
    there = ancestry.artifacts[link.out]
    role = f"{link.role.replace('_', ' ')}: " if link.role else ""
    said = f"{role}{link.out}  {short(there.sha256)}" if there.sha256 else f"{role}{link.out}"
    notes = [finding.kind for finding in ancestry.problems[link.out] if finding.kind != "input"]
    if link.recorded and there.sha256 and there.sha256 != link.recorded:
        notes.append(f"other manifest than recorded: {short(link.recorded)}")
    notes += ["above"] if again else []
    return said + "".join(f"  ({note})" for note in notes)


# ---- kinds of artifacts


def _kinds(explanation: Explanation) -> Iterator[list[str]]:
    ancestry = explanation.ancestry
    stages: dict[str, list[Artifact]] = {}
    for artifact in ancestry.artifacts.values():
        if artifact.manifest is not None:
            stages.setdefault(title_of(artifact), []).append(artifact)
    order = list(STAGES.values())
    for title in sorted(stages, key=lambda name: order.index(name) if name in order else -1):
        found = stages[title]
        lines = [f"{title} ({len(found)})"]
        for group in _groups(found):
            lines += [f"  {line}" for line in _group(explanation, group)]
        yield lines


def _groups(found: Sequence[Artifact]) -> list[list[Artifact]]:
    """Data of one data set together; everything else by itself, the rest of many together."""
    groups: dict[str, list[Artifact]] = {}
    for artifact in found:
        is_data = artifact.out.startswith("data/")
        key = artifact.out.rpartition("/")[0] if is_data else artifact.out
        key = "" if not is_data and len(groups) >= MOST else key
        groups.setdefault(key, []).append(artifact)
    return list(groups.values())


def _group(explanation: Explanation, group: Sequence[Artifact]) -> list[str]:
    """One artifact in full, and those like it in a line each."""
    first = group[0]
    about = explanation.describer.about
    own = [_hashes(first), *about_lines(about(first.out)), *_making(explanation, first.out)]
    lines = [first.out, *(f"  {line}" for line in own)]
    for artifact in group[1:MOST]:
        known = about(artifact.out)
        said = [f"manifest {short(artifact.sha256)}"]
        said += [_rows(known["rows"])] if "rows" in known else []
        said += [f"at {known['revision']}"] if "revision" in known else []
        lines.append(f"{artifact.out}: {'; '.join(said)}")
    if len(group) > MOST:
        lines.append(f"… and {len(group) - MOST} more: {_MORE}")
    return lines


def _hashes(artifact: Artifact) -> str:
    if artifact.manifest is None:
        return f"manifest {short(artifact.sha256)}, that cannot be used: {artifact.error}"
    parts = [f"manifest {short(artifact.sha256)}", f"spec {short(spec_sha256(artifact.spec))}"]
    parts += [f"code {code}" for code in (artifact.spec.get("fingerprint"),) if code]
    parts += [f"seed {seed}" for seed in (artifact.spec.get("seed"),) if seed is not None]
    return ", ".join(parts)


def about_lines(about: Mapping[str, Any]) -> list[str]:
    """What an artifact stands for, in a few lines."""
    lines = [about["unknown"]] if "unknown" in about else []
    if "tasks" in about:
        lines.append(_tasks(about))
    names = [f"{key} {about[key]}" for key in ("target", "metric", "name") if key in about]
    if "dataset" in about:
        names.append("/".join(filter(None, [about["dataset"], about.get("language")])))
    names += [f"{key} {_pairs(about[key])}" for key in ("decode", "encoding") if about.get(key)]
    lines += [", ".join(names)] if names else []
    if prompt := about.get("prompt"):
        shots = f", {about['shots']} examples before a question" if about.get("shots") else ""
        lines.append(f"prompt {prompt['name']}, version {prompt['version']}{shots}")
    if "adapter" in about:
        lines.append(f"the adapter {about['adapter']} put into {about['into']}")
    if "source" in about:
        at = f" at {about['revision']}" if about.get("revision") else ""
        config = f", {about['config']}" if about.get("config") else ""
        lines.append(f"from {about['source']}{config}{at}")
    if world := about.get("toyworld"):
        lines.append(f"toy world: {_pairs(world)}")
    if corpora := about.get("made_here_from"):
        shown = ", ".join(corpora[:MOST])
        rest = f" … and {len(corpora) - MOST} more" if len(corpora) > MOST else ""
        lines.append(f"made here from {shown}{rest}")
    if licence := about.get("licence"):
        lines.append(f"licence {licence['name']} ({licence['from']})")
    if rows := about.get("rows"):
        lines.append(_rows(rows))
    if "architecture" in about or "files" in about:
        lines += _files(about.get("files") or {})
    return lines


def _tasks(about: Mapping[str, Any]) -> str:
    steps = f", {about['steps']} steps" if about.get("steps") is not None else ""
    fallen = ", learnt nothing" if about.get("collapsed") else ""
    lora = (about.get("settings") or {}).get("lora")
    alone = f", adapters of rank {lora['rank']} alone" if lora else ""
    return f"trained on {', '.join(about['tasks']) or 'no task'}{steps}{alone}{fallen}"


def _rows(rows: Mapping[str, int]) -> str:
    return "rows " + ", ".join(f"{split} {count}" for split, count in rows.items())


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} ({_pairs(value)})" if isinstance(value, Mapping) else f"{key} {value}"
        for key, value in values.items()
    )


def _files(files: Mapping[str, Any]) -> list[str]:
    names = list(files)
    lines = [
        f"{name}: sha256 {short(files[name]['sha256'])}, {size(files[name]['size'])}"
        for name in names[:MOST]
    ]
    rest = [f"… and {len(names) - MOST} more files: {_MORE}"] if len(names) > MOST else []
    return lines + rest


# ---- how they were made


def _making(explanation: Explanation, out: str) -> list[str]:
    """Commit, attempts, memory and environment of an artifact's making."""
    made = explanation.describer.reader.provenance(out)
    if not made:
        return ["no record of its making"]
    git = made.get("git", {})
    commit = str(git.get("commit") or "unknown")[:12]
    parts = [
        f"commit {commit}" + (" with changes that are not committed" if git.get("dirty") else "")
    ]
    if "peak_bytes" in made:
        parts.append(f"peak {size(made['peak_bytes'])}")
    parts.append(f"environment {explanation.environments[surroundings(made)]}")
    runs = made.get("attempts", [])
    said = [_attempt(run) for run in runs[-MOST:]]
    if len(runs) > MOST:
        said.insert(0, f"… {len(runs) - MOST} attempts before: {_MORE}")
    return [", ".join(parts), *said]


def _attempt(run: Mapping[str, Any]) -> str:
    text = f"made {run.get('start')} to {run.get('end')} on {run.get('host')}"
    if job := run.get("SLURM_JOB_ID"):
        task = run.get("SLURM_ARRAY_TASK_ID")
        text += f", SLURM job {job}" + (f" ({task})" if task else "")
    return text


def _environments(explanation: Explanation) -> list[str]:
    known = explanation.environments.items()
    return ["Environments", *(f"  {number}  {text}" for text, number in known)] if known else []


def _problems(explanation: Explanation) -> list[str]:
    found = explanation.findings
    return [f"Problems ({len(found)})", *(f"  {finding}" for finding in found)] if found else []
