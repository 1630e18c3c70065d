"""Tables of prepared rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from xstilts.artifacts.manifest import check_file


def read_rows(folder: Path, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A parquet file of an artifact, after checking its bytes.

    `pyarrow.parquet.read_table` would import pyarrow's data sets and with them pandas, which takes
    longer than most of these files.

    Raises:
        InputError: If the file is missing or is not what the manifest says.
    """
    columns = None if columns is None else list(columns)
    return pq.ParquetFile(check_file(folder, name)).read(columns=columns, use_threads=False)
