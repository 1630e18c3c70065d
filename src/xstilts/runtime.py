"""What a stage may know that decides no byte: folders, batch size of evaluation, intervals."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

VARIABLE = "XSTILTS_RUNTIME"
#: Exit status of a stage that saved its state and needs more time.
EXIT_MORE_TIME = 75


class Runtime(BaseModel):
    """Settings of one process; passed in the environment as JSON (`XSTILTS_RUNTIME`).

    Attributes:
        mirror: Local folder in the Hub's layout, used instead of the Hub.
        files: Folders of user-supplied files, by data set or model.
        eval_batch_tokens: Tokens in one batch of evaluation, padding included.
        threads: Threads of torch in evaluation; 0 = one. Those of a training decide bytes and stand
            in its settings.
        log_seconds: Seconds between two progress lines.
        save_seconds: Seconds between two saved states of a training; None for two minutes, or a
            fiftieth of the training where that is longer.
        on_collapse: What becomes of a training that learns nothing and may not begin again: `fail`
            stops it, `report` goes on and says so.
        processes: Processes of one training, one GPU each.
        state: Folder of resumable states.
        store: Shared folder of finished artifacts, which are taken instead of made.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mirror: Path | None = None
    files: dict[str, Path] = {}
    eval_batch_tokens: int = 16384
    threads: int = 0
    log_seconds: float = 15.0
    save_seconds: float | None = None
    on_collapse: Literal["fail", "report"] = "fail"
    processes: int = 1
    state: Path = Path("state")
    store: Path | None = None


@cache
def runtime() -> Runtime:
    """The settings of this process."""
    return Runtime.model_validate_json(os.environ.get(VARIABLE, "{}"))
