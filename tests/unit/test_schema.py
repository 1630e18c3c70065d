from pathlib import Path

from xstilts.schema import schema


def test_the_schema_in_the_repository_is_the_models_own(repository: Path) -> None:
    path = repository / "workflow" / "schemas" / "study.schema.json"
    assert path.read_text(encoding="utf-8") == schema(), "run `make schema`"
