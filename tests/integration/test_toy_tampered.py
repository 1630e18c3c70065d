"""`audit verify` on the finished toy study: random changes, each found, and no false alarm.

XSTILTS_CHANGES is how many of each of the ten kinds; 30 take three minutes.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from xstilts.artifacts.manifest import MANIFEST, sha256_file
from xstilts.artifacts.record import PROVENANCE
from xstilts.artifacts.spec import spec_sha256
from xstilts.audit.results import Results
from xstilts.audit.verify.listing import prefixes
from xstilts.audit.verify.main import Options, Report, verify

pytestmark = pytest.mark.slow

SEED, EACH = 7, int(os.environ.get("XSTILTS_CHANGES", "10"))
#: What a change of a manifest may be called: it is damaged, or another than the known one.
OF_MANIFESTS = frozenset({"manifest", "version", "outside", "root"})
SCORES = "scores.json"


@dataclass
class Change:
    """A change that was made.

    Attributes:
        paths: Where it must be found: at least at one of them, and nowhere else.
        kinds: What it must be called.
        hint: What the text must name as well.
        level: Whether it is a fault.
    """

    paths: set[str]
    kinds: frozenset[str]
    hint: str = ""
    level: str = "fault"
    every: bool = field(default=False, kw_only=True)


class Study:
    """A copy of the study in which changes are made, and undone."""

    def __init__(self, results: Path) -> None:
        self.results, self.dice = results, random.Random(SEED)
        found = Results(results).artifacts
        self.outs = sorted(found)
        self.scores = [out for out in self.outs if found[out].stage == "score" and "/" in out]
        self.scores = [out for out in self.scores if not out.startswith("bundles/")]
        self.listed = {out: dict(found[out].manifest.files) for out in self.outs}
        self.data = [f"{out}/{name}" for out in self.outs for name in self.listed[out]]
        self.files = sorted(
            [*self.data, *(f"{out}/{name}" for out in self.outs for name in (MANIFEST, PROVENANCE))]
        )

    def path(self, name: str) -> Path:
        return self.results / name

    def artifact_of(self, name: str) -> str:
        return next(part for part in prefixes(name) if part in self.listed)

    def of_file(self, name: str, kind: str, **more: Any) -> Change:
        """A change of one file; that of a manifest has several names."""
        kinds = OF_MANIFESTS if name.endswith(f"/{MANIFEST}") else frozenset({kind})
        return Change({name}, kinds, **more)

    @contextmanager
    def kept(self, *names: str) -> Iterator[None]:
        """Put files back as they were: bytes and times."""
        before = {name: (self.path(name).read_bytes(), self.path(name).stat()) for name in names}
        yield
        for name, (content, status) in before.items():
            path = self.path(name)
            path.unlink(missing_ok=True)
            path.write_bytes(content)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    # ---- the changes of the issue

    @contextmanager
    def a_byte_flipped(self) -> Iterator[Change]:
        name = self.dice.choice(self.files)
        with self.kept(name):
            content = bytearray(self.path(name).read_bytes())
            content[self.dice.randrange(len(content))] ^= self.dice.randrange(1, 256)
            self.path(name).write_bytes(content)
            yield self.of_file(name, "changed")

    @contextmanager
    def a_file_truncated(self) -> Iterator[Change]:
        name = self.dice.choice(self.files)
        with self.kept(name):
            content = self.path(name).read_bytes()
            length = self.dice.randrange(len(content))
            if content[length - 1 : length] == b"\n":
                length -= 1  # lines that are missing as a whole are not told from a change
            os.truncate(self.path(name), length)
            yield self.of_file(name, "truncated")

    @contextmanager
    def a_file_removed(self) -> Iterator[Change]:
        name = self.dice.choice(self.files)
        with self.kept(name):
            self.path(name).unlink()
            yield Change({name}, frozenset({"missing"}))

    @contextmanager
    def two_files_swapped(self) -> Iterator[Change]:
        while True:
            one, two = self.dice.sample(self.files, 2)
            same = self.artifact_of(one) == self.artifact_of(two)
            # A manifest that says nothing of its own files cannot tell that it is one of them.
            if same and MANIFEST in (Path(one).name, Path(two).name):
                continue
            if self.path(one).read_bytes() != self.path(two).read_bytes():
                break
        with self.kept(one, two):
            first, second = self.path(one).read_bytes(), self.path(two).read_bytes()
            self.path(one).write_bytes(second)
            self.path(two).write_bytes(first)
            yield Change({one, two}, frozenset({"swapped"}))

    @contextmanager
    def a_file_or_folder_renamed(self) -> Iterator[Change]:
        name = self.dice.choice([*self.files, *self.outs])
        new = f"{name}{self.dice.choice(['2', '.bak', '~'])}"
        self.path(name).rename(self.path(new))
        yield Change({name}, frozenset({"renamed"}), new)
        self.path(new).rename(self.path(name))

    @contextmanager
    def a_score_edited(self) -> Iterator[Change]:
        name = f"{self.dice.choice(self.scores)}/{SCORES}"
        with self.kept(name):
            content = json.loads(self.path(name).read_text())
            row = self.dice.choice(content["rows"])
            row["value"] += self.dice.choice([-1, 1]) * self.dice.random()
            self.path(name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
            yield Change({name}, frozenset({"changed"}))

    @contextmanager
    def a_manifest_edited(self) -> Iterator[Change]:
        """With the sha256 of its own spec worked out again."""
        out = self.dice.choice(self.outs)
        name = f"{out}/{MANIFEST}"
        with self.kept(name):
            content = json.loads(self.path(name).read_text())
            if content["files"] and self.dice.random() < 0.5:
                file = self.dice.choice(sorted(content["files"]))
                content["files"][file]["sha256"] = f"{self.dice.getrandbits(256):064x}"
            else:
                content["spec"]["fingerprint"] = f"{self.dice.getrandbits(64):016x}"
            self.write_manifest(out, content)
            yield Change({name}, frozenset({"root"}))

    def write_manifest(self, out: str, content: dict[str, Any]) -> None:
        content["spec_sha256"] = spec_sha256(content["spec"])
        text = json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
        self.path(f"{out}/{MANIFEST}").write_text(text)

    @contextmanager
    def predictions_replaced_with_their_score(self) -> Iterator[Change]:
        """By those of another recipe or seed; half of the time with their manifests."""
        score = self.dice.choice(self.scores)
        target = score.rsplit("/", 1)[1]
        others = [out for out in self.scores if out != score and out.endswith(f"/{target}")]
        other = self.dice.choice(others)
        pairs = [(score, other), (_predictions(score), _predictions(other))]
        files = [f"{out}/{name}" for out, _ in pairs for name in self.listed[out]]
        with self.kept(*files, *(f"{out}/{MANIFEST}" for out, _ in pairs)):
            changed = {name for out, other in pairs for name in self.copy(other, out)}
            if self.dice.random() < 0.5:
                yield Change(changed, frozenset({"changed"}), every=True)
                return
            for out, other in reversed(pairs):  # the predictions first
                content = json.loads(self.path(f"{out}/{MANIFEST}").read_text())
                content["files"] = self.listed[other]
                known = content["inputs"].keys() & {_predictions(score)}
                for name in known:
                    content["inputs"][name] = sha256_file(self.path(f"{name}/{MANIFEST}"))
                self.write_manifest(out, content)
            paths = {f"{out}/{MANIFEST}" for out, _ in pairs}
            yield Change(paths, frozenset({"root"}), every=True)

    def copy(self, source: str, out: str) -> list[str]:
        """Replace an artifact's files by another's; those that are others now."""
        for name in self.listed[out]:
            self.path(f"{out}/{name}").write_bytes(self.path(f"{source}/{name}").read_bytes())
        return [
            f"{out}/{name}"
            for name, entry in self.listed[out].items()
            if entry["sha256"] != self.listed[source][name]["sha256"]
        ]

    @contextmanager
    def an_mtime_set_back(self) -> Iterator[Change]:
        # The report's stage copies the files of its style with their times.
        names = [name for name in self.files if not name.startswith("report/static/")]
        name = self.dice.choice(names)
        with self.kept(name):
            before = self.path(name).stat().st_mtime - self.dice.randrange(1, 1000) * 86400
            os.utime(self.path(name), (before, before))
            yield Change({name}, frozenset({"time"}), level="note")

    @contextmanager
    def a_link_in_its_place(self) -> Iterator[Change]:
        """To the very same bytes."""
        name = self.dice.choice([*self.files, *self.outs])
        away = self.results.parent / "elsewhere"
        self.path(name).rename(away)
        self.path(name).symlink_to(away)
        yield Change({name}, frozenset({"link"}))
        self.path(name).unlink()
        away.rename(self.path(name))


def _predictions(score: str) -> str:
    return score.replace("scores/", "predictions/", 1)


CHANGES: list[Callable[[Study], Any]] = [
    Study.a_byte_flipped,
    Study.a_file_truncated,
    Study.a_file_removed,
    Study.two_files_swapped,
    Study.a_file_or_folder_renamed,
    Study.a_score_edited,
    Study.a_manifest_edited,
    Study.predictions_replaced_with_their_score,
    Study.an_mtime_set_back,
    Study.a_link_in_its_place,
]


@pytest.fixture(scope="module")
def mine(toy: Path) -> Iterator[Path]:
    """A copy of the toy study, where everybody may look, to be changed."""
    with tempfile.TemporaryDirectory(prefix="xstilts-audit-") as folder:
        os.chmod(folder, 0o755)
        home = Path(folder) / "toy"
        ignore = shutil.ignore_patterns(".snakemake", "state", "logs")
        shutil.copytree(toy, home, copy_function=shutil.copy2, ignore=ignore)
        yield home


def wrong(change: Change, report: Report) -> str:
    """What of a report is not as it must be."""
    named = [one for one in report.findings if one.level == change.level]
    paths = {one.path for one in named}
    right = paths == change.paths if change.every else paths <= change.paths and len(paths) == 1
    right = right and all(one.kind in change.kinds for one in named)
    right = right and all(change.hint in str(one) for one in named)
    right = right and (change.level == "fault" or not report.faults)
    return "" if right else "\n".join([str(change), *map(str, report.findings)])


def test_random_changes_are_found_and_named(mine: Path) -> None:
    study, failed, times = Study(mine), [], []
    how = Options(again=())
    assert verify(mine, how).findings == []
    for make in CHANGES:
        for _ in range(EACH):
            with make(study) as change:
                start = time.perf_counter()
                report = verify(mine, how)
                times.append(time.perf_counter() - start)
            failed += [f"{make.__name__}: {text}"] if (text := wrong(change, report)) else []
    print(f"{len(times)} changes, {sum(times):.1f} s")
    assert not failed, f"{len(failed)}:\n" + "\n\n".join(failed)
    assert len(times) == len(CHANGES) * EACH > 0
    assert verify(mine, how).findings == []  # all is undone


def test_an_edited_score_is_named_with_both_values(mine: Path) -> None:
    study = Study(mine)
    study.dice = random.Random(1)
    with study.a_score_edited() as change:
        (finding,) = verify(mine, Options(again=("score",))).faults
    assert {finding.path} == change.paths
    assert ", at rows[" in finding.problem
    assert float(finding.expected or "") != float(finding.found or "")


def test_a_chain_that_was_rewritten_still_has_to_give_the_same_numbers(mine: Path) -> None:
    """Without a root manifest: a score, its manifest, and all that was made from it."""
    study = Study(mine)
    score = "scores/toy-xlmr/none/seed-1/toy_nli"
    below = [score, "bundles/score/toy-xlmr/none/seed-1", "tables", "analysis", "report"]
    manifests = [f"{out}/{MANIFEST}" for out in below]
    with study.kept("root.json", f"{score}/{SCORES}", *manifests):
        study.path("root.json").unlink()
        content = json.loads(study.path(f"{score}/{SCORES}").read_text())
        content["rows"][0]["value"] += 10
        study.path(f"{score}/{SCORES}").write_text(json.dumps(content, indent=1) + "\n")
        for out in below:
            manifest = json.loads(study.path(f"{out}/{MANIFEST}").read_text())
            for name in manifest["inputs"]:
                manifest["inputs"][name] = sha256_file(study.path(f"{name}/{MANIFEST}"))
            for name, entry in manifest["files"].items():
                path = study.path(f"{out}/{name}")
                entry |= {"size": path.stat().st_size, "sha256": sha256_file(path)}
            study.write_manifest(out, manifest)
        assert not verify(mine, Options(again=())).faults
        report = verify(mine, Options(again=("score", "aggregate")))
    (finding,) = report.faults
    assert (finding.kind, finding.path) == ("recomputed", f"{score}/{SCORES}")
    assert "at rows[0].value" in finding.problem
    assert report.made.skipped == ["tables"]


def test_no_false_alarm(mine: Path, tmp_path: Path) -> None:
    """Copied, moved, touched; at another path, by a user who may only read."""
    fast = Options(again=())
    home = mine.parent / "copy"
    shutil.copytree(mine, home / "one", copy_function=shutil.copy)
    assert verify(home / "one", fast).findings == []
    (home / "one").rename(home / "another name")
    home = home / "another name"
    assert verify(home, fast).findings == []
    for path in home.rglob("*"):
        path.touch()
    assert verify(home, fast).findings == []
    for path in (*home.rglob("*"), home):
        path.chmod(0o555 if path.is_dir() else 0o444)
        if os.geteuid() == 0:
            os.chown(path, 65534, 65534)
    command = [sys.executable, "-m", "xstilts.cli", "audit", "verify", str(home)]
    if os.geteuid() == 0:  # root may not do more than anybody
        none = ["--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
        command = ["setpriv", *none, *command]
    report = tmp_path / "report.json"
    done = subprocess.run(
        [*command, "--json", str(report)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    for path in (home, *home.rglob("*")):
        path.chmod(0o755)
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads(report.read_text())
    assert content["findings"] == []
    assert content["made"]["skipped"] == []
    assert content["made"]["counts"].keys() >= {"score", "aggregate", "analyse", "report"}
    assert content["made"]["counts"]["score"] == len(Study(mine).scores)
