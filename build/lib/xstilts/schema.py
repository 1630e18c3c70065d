"""The JSON schema of a study, written from its typed model: `python -m xstilts.schema FILE`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from xstilts.config import Study


def schema() -> str:
    """The schema as text; editors use it to complete and check a study."""
    return json.dumps(Study.model_json_schema(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(schema(), encoding="utf-8")
