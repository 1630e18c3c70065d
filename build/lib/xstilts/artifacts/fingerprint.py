"""Code fingerprints: which project code decides a stage's bytes.

The fingerprint of a stage is the sha256 over the syntax trees of the modules it imports, directly or
through others. Comments, docstrings, white space and line numbers are not in it. Imports inside
functions count; modules loaded by name (a format's) are named by the caller.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_PACKAGE = _ROOT.name


def _path_of(module: str) -> Path | None:
    base = _ROOT.parent.joinpath(*module.split("."))
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
    """A tree as text; empty fields are left out, so that it is equal across Python versions."""
    if isinstance(node, ast.AST):
        fields = (
            f"{name}={_canonical(value)}"
            for name, value in ast.iter_fields(node)
            if value is not None and value != []
        )
        return f"{type(node).__name__}({','.join(fields)})"
    if isinstance(node, list):
        return f"[{','.join(_canonical(item) for item in node)}]"
    return repr(node)


def tree_sha256(source: str) -> str:
    """Hex sha256 of a source text's syntax tree without its docstrings."""
    tree = ast.parse(source)
    _strip_docstrings(tree)
    return hashlib.sha256(_canonical(tree).encode()).hexdigest()


def _imports(source: str) -> set[str]:
    """Names of project modules that a source text imports, in functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name for name in found if name.split(".")[0] == _PACKAGE}


@cache
def _module(name: str) -> tuple[str, frozenset[str]] | None:
    path = _path_of(name)
    if path is None:
        return None
    source = path.read_text(encoding="utf-8")
    imports = frozenset(_imports(source)) if _PACKAGE in source else frozenset()
    return tree_sha256(source), imports


#: Modules that carry messages and records but decide no byte of an artifact.
_NEUTRAL = frozenset(
    {
        f"{_PACKAGE}.errors",
        f"{_PACKAGE}.progress",
        f"{_PACKAGE}.artifacts.publish",
        f"{_PACKAGE}.artifacts.record",
        f"{_PACKAGE}.artifacts.manifest",
        f"{_PACKAGE}.artifacts.spec",
    }
)


def modules_of(roots: Iterable[str]) -> dict[str, str]:
    """Sha256 of each project module that the roots import, transitively, by module name."""
    found: dict[str, str] = {}
    waiting = sorted(roots)
    while waiting:
        name = waiting.pop()
        if name in found or name in _NEUTRAL:
            continue
        module = _module(name)
        if module is None:
            continue
        found[name] = module[0]
        waiting.extend(module[1])
    return found


@cache
def fingerprint(*roots: str) -> str:
    """The first 16 hex digits of the sha256 over all modules that the roots import."""
    lines = (f"{name} {sha}" for name, sha in sorted(modules_of(roots).items()))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
