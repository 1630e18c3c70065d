"""The lock file: which bytes a study's data sets and models are.

Revisions are resolved once (`xstilts.data.resolve`) and written down with the size and sha256 of
every file; every later fetch takes those bytes or fails.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from xstilts.data.patience import short
from xstilts.errors import InputError
from xstilts.validation import parse

if TYPE_CHECKING:
    from pathlib import Path


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LockedFile(_Strict):
    """One file.

    Attributes:
        size: Bytes.
        sha256: Hex sha256 of its bytes.
        split: The source's split that it belongs to; null where a source has no splits.
    """

    size: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    split: Annotated[str, Field(pattern=r"^\w[\w.]*$")] | None = None


class Entry(_Strict):
    """The files of one configuration of a data set, or of a model.

    Attributes:
        source: ``hf:<owner>/<name>`` (the Hub or a mirror of it), URLs, or ``files``.
        revision: Commit on the Hub; null where there is none.
        files: By path in the source.
        absent: Splits that were looked for and that the configuration does not have.
    """

    source: str
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{7,64}$")] | None
    files: dict[str, LockedFile]
    absent: tuple[str, ...] = ()

    def spec(self) -> dict[str, Any]:
        """What a stage's spec holds of it: ``{"revision", "files"}``."""
        return self.model_dump(mode="json", include={"revision", "files"})


class Lock(_Strict):
    """All that is locked for a study.

    Attributes:
        version: Version of the file's layout.
        datasets: By ``<data set>/<configuration>``.
        models: By model.
    """

    version: Literal[1] = 1
    datasets: dict[str, Entry] = {}
    models: dict[str, Entry] = {}

    def dataset(self, name: str, config: str) -> dict[str, Any] | None:
        """A configuration's entry as a spec holds it; None if it is not locked."""
        entry = self.datasets.get(f"{name}/{config}")
        return entry.spec() if entry else None

    def model(self, name: str) -> dict[str, Any] | None:
        """A model's entry as a spec holds it; None if it is not locked."""
        entry = self.models.get(name)
        return entry.spec() if entry else None


def read_lock(path: Path) -> Lock:
    """Read a lock file; one that does not exist locks nothing.

    Raises:
        InputError: If it is no lock file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Lock()
    except (ValueError, OSError) as error:
        hint = "Restore it from version control, or delete it and run `xstilts lock`"
        raise InputError(str(path), f"cannot be read ({short(error)})", hint=hint) from error
    return parse(Lock, content, str(path))


def write_lock(path: Path, lock: Lock) -> None:
    """Write a lock file: sorted, indented, all of it or nothing."""
    content = lock.model_dump(mode="json")
    for entry in (*content["datasets"].values(), *content["models"].values()):
        if not entry["absent"]:
            del entry["absent"]
    text = json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
