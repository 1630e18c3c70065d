"""Code fingerprints: which project code decides a stage's bytes.

The fingerprint of a stage is the sha256 over the syntax trees of the modules it imports, directly
or through others. Comments, docstrings, white space and line numbers are not in it. Imports inside
functions count; modules loaded by name (a format's) are named by the caller. The `__init__` of a
package counts where the package itself is imported: those of this project hold a docstring only.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

_SOURCE = Path(__file__).resolve().parents[2]
_PACKAGE = "xstilts"


def _path_of(module: str, source: Path) -> Path | None:
    base = source.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _strip_docstrings(tree: ast.AST) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            # Attribute docstrings are bare strings too: no bare string constant does anything.
            node.body = [item for item in node.body if not _is_bare_string(item)] or [ast.Pass()]


def _is_bare_string(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _canonical(node: object) -> str:
    """A tree as text, equal across Python versions.

    A new version adds fields that are empty in older code, and knows more characters as printable:
    empty fields are left out, and only ASCII is written as it is.
    """
    if isinstance(node, ast.AST):
        fields = (
            f"{name}={_canonical(value)}"
            for name, value in ast.iter_fields(node)
            if value is not None and value != []
        )
        return f"{type(node).__name__}({','.join(fields)})"
    if isinstance(node, list):
        return f"[{','.join(_canonical(item) for item in node)}]"
    return ascii(node)


def tree_sha256(tree: ast.AST) -> str:
    """Hex sha256 of a syntax tree; its docstrings are taken out of it."""
    _strip_docstrings(tree)
    return hashlib.sha256(_canonical(tree).encode()).hexdigest()


def _imports(tree: ast.AST, package: str) -> set[str]:
    """Names of project modules that a module of a package imports, in functions too."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            found.add(base)
            found.update(f"{base}.{alias.name}" for alias in node.names)
    return {name for name in found if name.split(".")[0] == _PACKAGE}


@cache
def _module(name: str, source: Path) -> tuple[str, frozenset[str]] | None:
    path = _path_of(name, source)
    if path is None:
        return None
    content = path.read_bytes()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    key = hashlib.sha256(b"\n".join([_own_code(), package.encode(), content])).hexdigest()
    place = path.parent / "__pycache__" / f"{path.stem}.tree.json"
    found = _remembered(place, key)
    if found is None:
        tree = ast.parse(content.decode("utf-8"))
        imports = frozenset(_imports(tree, package))
        found = tree_sha256(tree), imports
        _remember(place, key, *found)
    return found


@cache
def _own_code() -> bytes:
    return Path(__file__).read_bytes()


def _remembered(place: Path, key: str) -> tuple[str, frozenset[str]] | None:
    """What was found in these very bytes before, by this very code; every plan asks for it."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        kept = json.loads(place.read_bytes())
        if kept["key"] == key:
            return str(kept["sha256"]), frozenset(map(str, kept["imports"]))
    return None


def _remember(place: Path, key: str, sha256: str, imports: frozenset[str]) -> None:
    """Keep it beside the compiled module, in one step; where that cannot be, it is done without."""
    content = {"key": key, "sha256": sha256, "imports": sorted(imports)}
    draft = place.with_suffix(f".{os.getpid()}.tmp")
    try:
        place.parent.mkdir(exist_ok=True)
        draft.write_text(json.dumps(content), encoding="utf-8")
        draft.replace(place)
    except OSError:
        with suppress(OSError):
            draft.unlink()


#: Modules that carry messages, records and settings of the process but decide no byte of an
#: artifact. A resumed training ends with the same bytes as one that ran through, so `state` decides
#: none either, nor does the cache of translations; a spec holds its settings in full, so
#: `validation` decides none.
_NEUTRAL = frozenset(
    {
        f"{_PACKAGE}.errors",
        f"{_PACKAGE}.progress",
        f"{_PACKAGE}.runtime",
        f"{_PACKAGE}.validation",
        f"{_PACKAGE}.training.deadline",
        f"{_PACKAGE}.training.state",
        f"{_PACKAGE}.data.translation_cache",
        f"{_PACKAGE}.artifacts.publish",
        f"{_PACKAGE}.artifacts.record",
        f"{_PACKAGE}.artifacts.manifest",
        f"{_PACKAGE}.artifacts.spec",
        f"{_PACKAGE}.artifacts.store",
    }
)


def modules_of(roots: Iterable[str], source: Path = _SOURCE) -> dict[str, str]:
    """Sha256 of each project module that the roots import, transitively, by module name.

    Args:
        roots: Names of modules.
        source: The folder that the package lies in.
    """
    found: dict[str, str] = {}
    waiting = sorted(roots)
    while waiting:
        name = waiting.pop()
        if name in found or name in _NEUTRAL:
            continue
        module = _module(name, source)
        if module is None:
            continue
        found[name] = module[0]
        waiting.extend(module[1])
    return found


@cache
def fingerprint(*roots: str, source: Path = _SOURCE) -> str:
    """The first 16 hex digits of the sha256 over all modules that the roots import.

    Args:
        roots: Names of modules.
        source: The folder that the package lies in.
    """
    lines = (f"{name} {sha}" for name, sha in sorted(modules_of(roots, source).items()))
    found = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    _ROOTS[found] = roots
    return found


#: What was asked for, by the answer.
_ROOTS: dict[str, tuple[str, ...]] = {}


def roots_of(value: object) -> tuple[str, ...] | None:
    """Modules that a fingerprint was worked out from in this process; None if it was not."""
    return _ROOTS.get(value) if isinstance(value, str) else None
