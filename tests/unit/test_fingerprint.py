"""Fingerprints: what changes one and what does not, for every stage of a study."""

import ast
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from xstilts import plan
from xstilts.artifacts import fingerprint as fingerprints
from xstilts.artifacts.fingerprint import fingerprint, modules_of, tree_sha256
from xstilts.session import Session

SOURCE = """
'''Docstring.'''
import os  # why

class Dog:
    '''A dog.'''
    legs: int = 4
    '''How many.'''

    def bark(self, times=1):
        '''Bark.'''
        text = "wuff é \\u0378"
        return [text] * times if times else {**{}, "x": None}
"""


def sha(source: str) -> str:
    return tree_sha256(ast.parse(source))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("'''Docstring.'''", "'''Another.'''"),
        ("'''Docstring.'''", ""),
        ("'''A dog.'''\n", "'''A cat.\n\n    Attributes: none.\n    '''\n"),
        ("'''How many.'''", "'''Number of legs.'''"),
        ("'''Bark.'''\n", "\n\n"),
        ("  # why", "  # because"),
        ("legs: int = 4", "legs :int=4"),
        ("[text] * times", "(\n            [text]\n            * times\n        )"),
    ],
)
def test_words_and_white_space_change_nothing(old, new):
    assert old in SOURCE
    assert sha(SOURCE.replace(old, new)) == sha(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("= 4", "= 5"),
        ("= 4", "= 4.0"),
        ("times=1", "times=None"),
        ("times=1", "*, times=1"),
        ("text] * times", "text] + times"),
        ("wuff", "wau"),
        ('"x": None', '"x": 0'),
        ("{**{}, ", "{"),
        ("class Dog:", "class Dog(str):"),
        ("import os", "import sys"),
        ("def bark", "@staticmethod\n    def bark"),
        ("if times else", "if not times else"),
    ],
)
def test_code_changes_it(old, new):
    assert old in SOURCE
    assert sha(SOURCE.replace(old, new)) != sha(SOURCE)


def test_a_function_of_a_docstring_only_equals_pass():
    assert sha("def f():\n    '''Words.'''") == sha("def f():\n    pass") != sha("def f(): 1")


def _runs(name: str) -> bool:
    call = [name, "-c", "pass"]
    return bool(shutil.which(name)) and subprocess.run(call, capture_output=True).returncode == 0


def test_it_is_equal_across_python_versions():
    """The same hash from every interpreter of the machine; only the standard library is needed."""
    others = [name for minor in range(9, 16) if _runs(name := f"python3.{minor}")]
    if not others:
        pytest.skip("no versioned python3.x on the path")
    module = Path(__file__).parents[2] / "src/xstilts/artifacts/fingerprint.py"
    code = (
        f"import sys, ast; sys.path.insert(0, {str(module.parent)!r}); import fingerprint as f;"
        "print(f.tree_sha256(ast.parse(sys.stdin.read())))"
    )
    for python in others:
        call = [python, "-c", code]
        done = subprocess.run(call, input=SOURCE, capture_output=True, text=True, check=False)
        assert done.stdout.strip() == sha(SOURCE), (python, done.stderr)


def test_a_tree_does_not_depend_on_what_a_python_version_knows():
    """Newer versions add empty fields, and print characters that older ones escape."""
    tree = ast.parse('def f():\n    return "\\u0378é"')
    function = tree.body[0]
    function.type_params = []  # Python 3.12
    function.new_field = None
    function._fields = (*ast.FunctionDef._fields, "type_params", "new_field")
    assert tree_sha256(tree) == sha('def f():\n    return "\\u0378é"')


def write(folder: Path, **modules: str) -> Path:
    for name, text in modules.items():
        path = folder / "xstilts" / Path(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for above in path.parent.relative_to(folder).parents:
            (folder / above).mkdir(exist_ok=True)
        (path.parent / "__init__.py").touch()
    (folder / "xstilts/__init__.py").touch()
    return folder


def test_imports_are_followed_wherever_they_stand(tmp_path):
    source = write(
        tmp_path,
        a="from xstilts import b\nimport json, xstilts.sub.c as c",
        b="def f():\n    from xstilts.sub.d import x",
        sub__c="from . import e\nfrom ..g import y",
        sub__d="if TYPE_CHECKING:\n    import xstilts.h",
        sub__e="",
        g="",
        h="",
        lonely="",
    )
    names = {name.removeprefix("xstilts.") for name in modules_of(["xstilts.a"], source)}
    assert names - {"xstilts", "sub"} == {"a", "b", "sub.c", "sub.d", "sub.e", "g", "h"}


# ---- what was found before


def seen(source: Path) -> dict[str, str]:
    """What another process would find."""
    fingerprints._module.cache_clear()
    return modules_of(["xstilts.a"], source)


@pytest.fixture
def kept(tmp_path):
    """A package, and the file beside its compiled module `a` in which its tree is kept."""
    write(tmp_path, a="from xstilts import b", b="x = 1", c="y = 2")
    first = seen(tmp_path)
    place = tmp_path / "xstilts/__pycache__/a.tree.json"
    assert json.loads(place.read_text())["sha256"] == first["xstilts.a"]
    return tmp_path, place, first


def test_what_was_found_in_the_same_bytes_is_not_looked_for_again(kept):
    source, place, first = kept
    content = json.loads(place.read_text())
    place.write_text(json.dumps(content | {"sha256": "known", "imports": ["xstilts.c"]}))
    assert seen(source) == {"xstilts.a": "known", "xstilts.c": sha("y = 2")}
    # Other bytes of the same meaning are looked at, and so they are from then on.
    (source / "xstilts/a.py").write_text("from xstilts import b  # why")
    assert seen(source) == first
    assert seen(source) == first


def test_an_edit_is_seen_whatever_the_times_of_files_say(kept):
    source, _, first = kept
    path = source / "xstilts/a.py"
    before = path.stat()
    path.write_text("from xstilts import c")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert seen(source).keys() - first.keys() == {"xstilts.c"}


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"key": 1}', "\x00\xff"])
def test_a_broken_note_is_ignored_and_replaced(kept, content):
    source, place, first = kept
    good = place.read_text()
    place.write_text(content, encoding="latin-1")
    assert seen(source) == first
    assert place.read_text() == good


def test_it_is_done_without_where_nothing_can_be_written(tmp_path):
    write(tmp_path, a="from xstilts import b", b="x = 1")
    (tmp_path / "xstilts/__pycache__").write_text("no folder")
    assert seen(tmp_path).keys() == {"xstilts.a", "xstilts.b", "xstilts"}


@pytest.fixture(scope="module")
def roots(repository, tmp_path_factory):
    """Roots of every kind of job in the default study and the paper's, by the job's name."""
    row = "{title: T, hub: a/b, source: qaa, target: qab, licence: MIT}"
    rows = tmp_path_factory.mktemp("rows") / "rows.yaml"
    rows.write_text(f"translators: {{tiny-mt: {row}}}")
    found: dict[str, tuple[str, ...]] = {}
    known: dict[str, tuple[str, ...]] = {}

    def noting(*names: str) -> str:
        digits = fingerprint(*names)
        known[digits] = names
        return digits

    content = {
        "study": "fingerprints",
        "models": ["toy-xlmr"],
        "registry": [str(rows)],
        "recipes": {
            "none": None,
            "toy_choice": None,
            "toy_pos": None,
            "translated": {"tasks": "toy_choice", "translate": "tiny-mt"},
        },
        "targets": ["toy_nli", "toy_pos", "toy_qa", "toy_retrieval"],
        "languages": ["qaa", "qab"],
        "source_language": "qaa",
        "pretraining": {"corpus": ["toy_corpus"]},
        "toyworld": {
            "sizes": {
                kind: {"train": 9, "dev": 9, "test": 9}
                for kind in ("corpus", "nli", "pos", "qa", "choice", "parallel")
            }
        },
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith(f"{plan.__name__}.") and hasattr(module, "fingerprint"):
                patch.setattr(module, "fingerprint", noting)
        session = Session.of_config(content, "test", repository, main=False)
    for job in session.plan.jobs.values():
        if "fingerprint" in job.spec:
            tasks = job.spec.get("tasks", ()) if job.stage != "report" else ()
            task = [entry["format"] for entry in tasks]
            kind = " ".join([job.stage, *task, *filter(None, [job.spec.get("format")])])
            found[kind] = known[job.spec["fingerprint"]]
    return found


STAGES = [
    "fetch",
    "prepare",
    "translate",
    "tokenizer",
    "testset",
    "check",
    "pretrain",
    "distances",
    "transferability",
    "aggregate",
    *[
        f"{stage} {name}"
        for stage in ("tokens", "finetune", "evaluate", "score")
        for name in ("sequence_classification", "token_classification", "question_answering")
    ],
    "tokens masked_lm",
    "tokens multiple_choice",
    "tokens sentence_retrieval",
    "intermediate multiple_choice",
    "evaluate sentence_retrieval",
    "score sentence_retrieval",
]


@pytest.fixture(scope="module")
def copy(repository, tmp_path_factory):
    """Makes a copy of the sources, once for each edit: in one module, or in all of them."""
    folder = tmp_path_factory.mktemp("source")
    ignore = shutil.ignore_patterns("*.yaml", "__pycache__")

    @cache
    def make(module: str, edit: str) -> Path:
        place = folder / f"{module}-{len(list(folder.iterdir()))}"
        shutil.copytree(repository / "src/xstilts", place / "xstilts", ignore=ignore)
        path = place / Path(*module.split(".")).with_suffix(".py")
        for edited in place.rglob("*.py") if module == "all" else [path]:
            edited.write_text(edited.read_text() + edit)
        return place

    return make


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_sees_code_and_no_words(roots, copy, stage):
    words = copy("all", '\n\n# A comment.\n"""Words."""\n')
    assert fingerprint(*roots[stage], source=words) == fingerprint(*roots[stage])
    for root in roots[stage]:
        code = copy(root, "\nANSWER = 42\n")
        assert fingerprint(*roots[stage], source=code) != fingerprint(*roots[stage])


def test_every_root_that_the_plan_names_exists(roots):
    for names in roots.values():
        assert set(names) <= set(modules_of(names))


def test_the_study_has_all_stages(roots):
    assert set(STAGES) <= set(roots)


@pytest.mark.parametrize(
    ("edited", "reruns"),
    [
        ("evaluation.metrics.squad", {"score", "aggregate", "analyse", "report"}),
        ("evaluation.mining", {"evaluate sentence_retrieval"}),
        ("training.loop", {"pretrain", "intermediate", "finetune"}),
        (
            "training.batches",
            {"pretrain", "intermediate", "finetune", "evaluate", "transferability"},
        ),
        ("training.state", set()),
        ("formats.masked_lm.head", {"pretrain"}),
        ("formats.token_classification.encode", {"tokens token_classification"}),
        (
            "formats.token_classification.head",
            {"finetune token", "intermediate token", "evaluate token", "transferability"},
        ),
        ("formats.token_classification.decode", {"evaluate token"}),
        ("data.prepare", {"prepare"}),
        ("data.subwords", {"tokenizer", "tokens", "distances"}),
        ("analysis.languages.segmentation", {"distances"}),
        ("data.translate", {"translate"}),
        ("data.translator", {"translate"}),
        ("data.translation_cache", set()),
        ("toyworld.grammar", {"fetch"}),
        ("analysis.tables", {"aggregate", "analyse", "report"}),
        ("artifacts.publish", set()),
        ("runtime", set()),
        ("errors", set()),
    ],
)
def test_an_edit_reruns_these_stages_and_no_others(roots, copy, edited, reruns):
    source = copy(f"xstilts.{edited}", "\nANSWER = 42\n")
    found = {
        stage
        for stage, names in roots.items()
        if fingerprint(*names, source=source) != fingerprint(*names)
    }
    if edited == "evaluation.metrics.squad":
        assert {stage.split()[0] for stage in found} == reruns
    else:
        assert found == {stage for stage in roots if stage.startswith(tuple(reruns))}


def test_it_needs_no_heavy_import():
    """Every cluster job parses the plan again."""
    code = "import sys, xstilts.plan; print({'torch', 'transformers', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
