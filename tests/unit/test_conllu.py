"""Treebanks as XTREME makes them: the official converter's outputs, and cases worked by hand."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from hub_samples import row, write_files
from hub_server import Hub, serving, set_runtime, sha256, use
from xstilts.artifacts.publish import publishing
from xstilts.data.conllu import Tagged, fused, read_conllu, sentences_of
from xstilts.data.fetch import run as fetch
from xstilts.data.lock import Lock
from xstilts.data.prepare import run as prepare
from xstilts.data.resolve import resolve
from xstilts.errors import InputError
from xstilts.runtime import runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xstilts.registry.rows import DatasetRow


def word(number: int, form: str, tag: str, head: int, deps: str = "_") -> str:
    return f"{number}\t{form}\t_\t{tag}\t_\t_\t{head}\tdep\t{deps}\t_"


def span(ids: str, form: str) -> str:
    return f"{ids}\t{form}" + "\t_" * 8


def text(*lines: str) -> str:
    return "\n".join(lines) + "\n\n"


@pytest.fixture
def convert(tmp_path: Path) -> Any:
    """Sentences of a text as surface tokens, before XTREME's filters."""

    def converted(content: str, language: str = "de") -> tuple[list[list[Tagged]], Counter[str]]:
        path, notes = tmp_path / "x-ud-dev.conllu", Counter[str]()
        path.write_text(content, encoding="utf-8")
        return [fused(sentence, language, notes) for sentence in sentences_of(path)], +notes

    return converted


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """Sentences of a text as XTREME has them."""

    def rows(content: str, language: str = "de") -> tuple[list[list[Tagged]], Counter[str]]:
        path, notes = tmp_path / "x-ud-dev.conllu", Counter[str]()
        path.write_text(content, encoding="utf-8")
        return rows_of([path], language, notes), +notes

    return rows


def rows_of(paths: list[Path], language: str, notes: Counter[str]) -> list[list[Tagged]]:
    table = read_conllu(paths, language, notes).table
    pairs = zip(table["tokens"].to_pylist(), table["tags"].to_pylist(), strict=True)
    return [list(zip(tokens, tags, strict=True)) for tokens, tags in pairs]


# ---- the official outputs


def lines_of(rows: list[list[Tagged]], *, tagged: bool = True) -> list[str]:
    sentences = (
        "\n".join(f"{form}\t{tag}" if tagged else form for form, tag in row) for row in rows
    )
    return "\n\n".join(sentences).split("\n")


def official(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\n").split("\n")


def test_every_converted_file_is_the_official_one(shared: Path) -> None:
    folder = shared / "golden" / "ud"
    paths = sorted(folder.glob("input/*/*.conllu"))
    assert paths
    for path in paths:
        language, name = path.parent.name, path.with_suffix(".tsv").name
        rows = [fused(sentence, language, Counter()) for sentence in sentences_of(path)]
        assert lines_of(rows) == official(folder / "expected/converted" / language / name), path


def test_every_final_file_is_the_official_one(shared: Path) -> None:
    folder = shared / "golden" / "ud"
    paths = sorted(folder.glob("expected/final/*.tsv"))
    assert paths
    for path in paths:
        split, language = path.stem.split("-")
        files = sorted((folder / "input" / language).glob(f"*-ud-{split}.conllu"))
        rows = rows_of(files, language, Counter())
        # Test files hold the words only.
        assert lines_of(rows, tagged=split != "test") == official(path), path


def test_prepared_tags_are_those_of_the_official_files(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the registry's row, whose label set has room for the tag `_` that stays in them."""
    from xstilts.registry import load_registry

    monkeypatch.chdir(tmp_path)
    dataset = load_registry().datasets["udpos"]
    labels, folder = dataset.labels or (), shared / "golden" / "ud"
    for path in sorted((folder / "expected/final").glob("dev-*.tsv")):
        language = path.stem.removeprefix("dev-")
        raw = Path("data/raw/udpos", language)
        with publishing(raw, {"stage": "fetch"}) as draft:
            shutil.copytree(folder / "input" / language, draft.folder / "files")
        prepared(dataset.model_copy(update={"splits": {"dev": "dev"}}), raw, language)
        table = pq.read_table(f"data/prepared/udpos/{language}/dev.parquet").to_pylist()
        rows = [
            [(form, labels[tag]) for form, tag in zip(item["tokens"], item["tags"], strict=True)]
            for item in table
        ]
        assert lines_of(rows) == official(path), path


def test_where_the_official_converter_raises_the_listed_tag_is_taken(shared: Path) -> None:
    """It looks each tied tag up in the language's list and breaks off at one that is not there.

    Such a tag is lawful in Universal Dependencies, so here it comes after those of the list, and
    the report counts it; of tags without a rank the first stands.
    """
    folder = shared / "golden" / "ud" / "errors"
    for case in json.loads((folder / "expected.json").read_text(encoding="utf-8")):
        assert case["error"] == "ValueError"
        notes: Counter[str] = Counter()
        for sentence in sentences_of(folder / case["file"]):
            tokens = fused(sentence, case["lang"], notes)
            assert len(tokens) == len(sentence.words) - sum(
                item.last - item.first for item in sentence.spans
            )
        assert notes["fused tokens whose head was chosen among tags without a rank"] > 0


# ---- fused tokens, by hand


@pytest.mark.parametrize(
    ("language", "form", "parts", "tag"),
    [
        # The case marker and the article hang from the noun: a tie.
        ("es", "del", [("de", "ADP", 3), ("el", "DET", 3)], "ADP"),
        ("fr", "du", [("de", "ADP", 3), ("le", "DET", 3)], "ADP"),
        ("it", "della", [("di", "ADP", 3), ("la", "DET", 3)], "ADP"),
        ("de", "im", [("in", "ADP", 3), ("dem", "DET", 3)], "ADP"),
        # The order of the list decides, not the order of the words.
        ("es", "x", [("x", "DET", 3), ("y", "ADP", 3)], "ADP"),
        ("es", "x", [("x", "PRON", 3), ("y", "AUX", 3)], "AUX"),
        ("fr", "x", [("x", "ADV", 3), ("y", "NOUN", 3)], "NOUN"),
        # ADV is before PRON in Italian, behind it elsewhere; AUX is behind PRON by default.
        ("it", "x", [("x", "PRON", 3), ("y", "ADV", 3)], "ADV"),
        ("de", "x", [("x", "PRON", 3), ("y", "ADV", 3)], "PRON"),
        ("de", "x", [("x", "AUX", 3), ("y", "PRON", 3)], "PRON"),
        # One highest word: the list has no say.
        ("es", "x", [("x", "DET", 2), ("y", "SCONJ", 3)], "SCONJ"),
        ("de", "x", [("x", "PUNCT", 3), ("y", "VERB", 1)], "PUNCT"),
        # Tags without a rank come last; among themselves the first.
        ("es", "x", [("x", "NOUN", 3), ("y", "DET", 3)], "DET"),
        ("fr", "x", [("x", "CCONJ", 3), ("y", "SYM", 3)], "CCONJ"),
    ],
)
def test_a_contraction_has_its_heads_tag(
    convert: Any, language: str, form: str, parts: list[tuple[str, str, int]], tag: str
) -> None:
    content = text(
        span("1-2", form),
        *(word(i, *part) for i, part in enumerate(parts, start=1)),
        word(3, "n", "NOUN", 0),
    )
    rows, notes = convert(content, language)
    assert rows == [[(form, tag), ("n", "NOUN")]]
    assert notes["fused tokens"] == 1
    assert notes["words inside fused tokens"] == 2


def test_the_highest_word_of_three_need_not_be_the_first(convert: Any) -> None:
    content = text(
        word(1, "a", "ADV", 4),
        span("2-4", "bcd"),
        *(word(2, "b", "PRON", 4), word(3, "c", "PRON", 4), word(4, "d", "VERB", 0)),
        word(5, ".", "PUNCT", 4),
    )
    assert convert(content)[0] == [[("a", "ADV"), ("bcd", "VERB"), (".", "PUNCT")]]


def test_enhanced_heads_count_as_heads(convert: Any) -> None:
    """By the basic tree 2 and 3 are equally high; the enhanced edge 3 -> 2 puts 2 below 3."""
    tree = [span("2-3", "bc"), word(3, "c", "ADP", 1), word(1, "a", "VERB", 0)]
    plain = text(tree[2], tree[0], word(2, "b", "NOUN", 1), tree[1])
    assert convert(plain)[0] == [[("a", "VERB"), ("bc", "NOUN")]]
    enhanced = text(tree[2], tree[0], word(2, "b", "NOUN", 1, "1:obl|3:x"), tree[1])
    assert convert(enhanced)[0] == [[("a", "VERB"), ("bc", "ADP")]]
    # An empty node above is none of the converter's nodes.
    through_empty = text(tree[2], tree[0], word(2, "b", "NOUN", 1, "1:obl|3.1:x"), tree[1])
    assert convert(through_empty)[0] == [[("a", "VERB"), ("bc", "NOUN")]]


def test_enhanced_cycles_end(convert: Any) -> None:
    content = text(
        word(1, "a", "VERB", 0),
        span("2-3", "bc"),
        word(2, "b", "NOUN", 1, "1:obj|3:x"),
        word(3, "c", "ADP", 2, "2:case"),
    )
    # Above 2: root, 1, 3. Above 3: root, 1, 2.
    assert convert(content)[0] == [[("a", "VERB"), ("bc", "NOUN")]]


def test_a_fused_token_without_a_root_loses_no_word(convert: Any) -> None:
    """The official converter numbers such a sentence from 0 and loses its first word."""
    content = text(
        word(1, "a", "VERB", 2), span("2-3", "bc"), word(2, "b", "NOUN", 1), word(3, "c", "ADP", 2)
    )
    assert convert(content)[0] == [[("a", "VERB"), ("bc", "NOUN")]]


def test_empty_nodes_are_no_words(convert: Any) -> None:
    content = text(
        "# text = a b",
        word(1, "a", "NOUN", 0),
        "1.1\tgone\tgo\tVERB\t_\t_\t_\t_\t1:conj\t_",
        word(2, "b", "ADV", 1, "1.1:advmod"),
    )
    assert convert(content) == ([[("a", "NOUN"), ("b", "ADV")]], {"empty nodes left out": 1})


# ---- XTREME's filters, by hand


@pytest.mark.parametrize(
    ("forms", "kept"),
    [
        ("a", True),
        ("_", False),
        ("a _", False),
        ("a b", True),
        ("a _ _", False),
        ("a b _", True),
        ("a b _ _", True),
        ("_ _ _", False),
    ],
)
def test_sentences_of_underscores_are_left_out(read: Any, forms: str, kept: bool) -> None:
    words = [(form, "X" if form != "_" else "_") for form in forms.split()]
    lines = [word(i, *item, 0) for i, item in enumerate(words, start=1)]
    rows, notes = read(text(*lines))
    assert rows == ([words] if kept else [])
    assert notes["sentences without text left out"] == (not kept)


def test_what_hides_in_a_fused_token_counts_once(read: Any) -> None:
    """Three words, two of them fused: one of two forms is hidden, so that none is left."""
    content = text(
        span("1-2", "_"),
        *(word(1, "a", "ADP", 3), word(2, "b", "DET", 3), word(3, "c", "NOUN", 0)),
    )
    assert read(content)[0] == []


def test_blanks_in_forms(read: Any) -> None:
    forms = {
        "می\u200cروم": "میروم",
        "10 000": "10000",
        "a\u00a0b": "a\u00a0b",
        "\u00a0c\u00a0": "c",
        "\u200c \u200c": "",
    }
    lines = [word(i, form, "X", 0) for i, form in enumerate(forms, start=1)]
    rows, notes = read(text(*lines))
    assert rows == [[(form, "X") for form in forms.values()]]
    assert notes == {
        "tokens stripped of white space": 1,
        "tokens with zero-width non-joiners taken out": 2,
        "tokens with spaces taken out": 2,
    }


def test_line_ends_and_empty_lines_change_nothing(read: Any) -> None:
    content = text(word(1, "a", "X", 0)) + text("# no words") + "\n" + text(word(1, "b", "X", 0))
    rows = [[("a", "X")], [("b", "X")]]
    assert read(content)[0] == rows
    assert read(content.replace("\n", "\r\n"))[0] == rows
    assert read("")[0] == []


# ---- bad files


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1\ta"], r"line 1: is no line of CoNLL-U; expected 10 columns.*found 2 in '1\\ta'"),
        ([word(1, "a", "X", 0) + "\tmore"], "found 11"),
        (["#", word(2, "a", "X", 0)], r"line 2: .*expected the word 1; found the id 2"),
        ([word(1, "a", "X", 0), word(1, "b", "X", 0)], "line 2: .*expected the word 2"),
        (["x" + word(1, "a", "X", 0)], "expected an id such as 8, 8-9 or 8.1; found 'x1'"),
        (["1\ta\t_\tX\t_\t_\t_\tdep\t_\t_"], "head in column 7; found '_'"),
        ([word(1, "a", "X", 2)], "line 1: a head is no word.*expected 0 to 1; found the head 2"),
        ([word(1, "a", "X", 0, "5:x")], "the head 5 of word 1"),
        (["#", span("1-2", "ab"), word(1, "a", "X", 0)], "line 2: .*words of 1 to 1; found 1-2"),
        ([span("2-1", "ab"), word(1, "a", "X", 0), word(2, "b", "X", 1)], "found 2-1"),
        (
            [
                *(span("1-2", "ab"), word(1, "a", "X", 0), span("2-3", "bc")),
                *(word(2, "b", "X", 1), word(3, "c", "X", 1)),
            ],
            "belong to another one too; expected words of 3 to 3; found 2-3",
        ),
        ([span("1-2", "ab")], "the sentence has no words"),
    ],
)
def test_a_malformed_line_is_refused(read: Any, lines: list[str], message: str) -> None:
    with pytest.raises(InputError, match=rf"x-ud-dev\.conllu: .*{message}"):
        read(text(*lines))


def test_a_file_that_was_cut_short_is_refused(read: Any, tmp_path: Path) -> None:
    """The official converter drops the last sentence of such a file without a word."""
    whole = text(word(1, "a", "X", 0)) + text(word(1, "b", "X", 0), word(2, "c", "X", 1))
    for end in (-1, -len(word(2, "c", "X", 1)) - 2):
        with pytest.raises(InputError, match="ends inside a sentence; expected an empty line"):
            read(whole[:end])
    (tmp_path / "x-ud-dev.conllu").write_bytes(b"# \xff\n\n")
    with pytest.raises(InputError, match="line 1: is no UTF-8 text"):
        list(sentences_of(tmp_path / "x-ud-dev.conllu"))


# ---- the whole way: by URL, from a folder, prepared


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.chdir(tmp_path)
    set_runtime(monkeypatch)
    with serving() as server:
        use(monkeypatch, server, tmp_path / "home")
        yield server
    runtime.cache_clear()


TREEBANKS = {
    "UD_Thai-Old/r1/th_b-ud-dev.conllu": text(word(1, "b", "NOUN", 0)),
    "UD_Thai-A/r1/th_a-ud-dev.conllu": text(word(1, "a", "VERB", 0))
    + text(word(1, "_", "VERB", 0)),
    "UD_Thai-A/r1/th_a-ud-test.conllu": text(
        span("1-2", "tt"), word(1, "t", "ADP", 0), word(2, "t", "DET", 0)
    ),
}


def udpos(**changes: Any) -> DatasetRow:
    source = {
        "ud": "r1",
        "base": "https://example.org",
        "treebanks": {"th": {"dev": ["B", "A"], "test": ["A"]}},
        "renamed": {"Thai-B": "Thai-Old"},
    }
    return row(
        source | changes.pop("source", {}),
        **{
            "name": "udpos",
            "format": "token_classification",
            "layout": "conllu",
            "languages": {"th": "Thai"},
            "splits": {"dev": "dev", "test": "test"},
            "fields": {"tokens": "tokens", "tags": "tags"},
            "labels": ["ADP", "NOUN", "VERB"],
            **changes,
        },
    )


def fetched(dataset: DatasetRow, lock: Lock) -> Path:
    out = Path("data/raw/udpos/Thai")
    source = dataset.source_of("th").model_dump(mode="json")
    spec = {"stage": "fetch", "dataset": "udpos", "config": "Thai", "layout": "conllu"}
    fetch(spec | {"source": source, "lock": lock.dataset("udpos", "Thai")}, out)
    return out


def prepared(dataset: DatasetRow, raw: Path, language: str = "th") -> dict[str, Any]:
    spec = {
        "stage": "prepare",
        "dataset": "udpos",
        "language": language,
        "code": dataset.languages[language],
        "row": dataset.reading(language),
        "expected": dataset.known_rows(language),
        "inputs": {"raw": raw.as_posix()},
    }
    out = Path("data/prepared/udpos", language)
    prepare(spec, out)
    report: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return report


def served(hub: Hub) -> DatasetRow:
    for path, content in TREEBANKS.items():
        hub.file(path, content.encode())
    return udpos(source={"base": f"{hub.url}/files"})


def test_treebanks_by_url(hub: Hub) -> None:
    dataset = served(hub)
    lock, _ = resolve([(dataset, "Thai", "th")], Lock())
    assert {name: file.sha256 for name, file in lock.datasets["udpos/Thai"].files.items()} == {
        Path(path).name: sha256(content.encode()) for path, content in TREEBANKS.items()
    }
    report = prepared(dataset, fetched(dataset, lock))
    assert len(hub.requests) == 3
    assert report["splits"]["dev"]["rows_in"] == report["splits"]["dev"]["rows"] == 2
    assert report["splits"]["dev"]["notes"] == {"sentences without text left out": 1}
    assert report["splits"]["test"]["notes"] == {"fused tokens": 1, "words inside fused tokens": 2}
    # The files' names give the order, not the row; ids count the sentences of the files.
    assert pq.read_table("data/prepared/udpos/th/dev.parquet").to_pylist() == [
        {"id": "dev-0", "tokens": ["a"], "tags": [2]},
        {"id": "dev-2", "tokens": ["b"], "tags": [1]},
    ]


def test_the_users_copies_take_the_place_of_urls(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = served(hub)
    locked, _ = resolve([(dataset, "Thai", "th")], Lock())
    hub.requests.clear()
    # Flat, and one in the folder of its treebank.
    flat = {Path(path).name: content.encode() for path, content in TREEBANKS.items()}
    deep = flat.pop("th_b-ud-dev.conllu")
    folder = write_files(tmp_path / "mine", flat | {"UD_Thai-B/th_b-ud-dev.conllu": deep})
    set_runtime(monkeypatch, files={"udpos": str(folder)})
    assert resolve([(dataset, "Thai", "th")], Lock())[0] == locked
    raw = fetched(dataset, locked)
    assert sorted(path.name for path in (raw / "files").iterdir()) == [
        *("th_a-ud-dev.conllu", "th_a-ud-test.conllu", "th_b-ud-dev.conllu")
    ]
    (folder / "th_a-ud-dev.conllu").write_bytes(b"")
    with pytest.raises(InputError, match=r"files.udpos \(.*mine\): th_a-ud-dev.*put the old ones"):
        fetched(dataset, locked)
    (folder / "th_a-ud-dev.conllu").unlink()
    with pytest.raises(InputError, match=r"th_a-ud-dev.conllu: .* missing.*copy of http://.*r1/th"):
        fetched(dataset, locked)
    for name in ("UD_1", "UD_2"):
        write_files(folder / name, {"th_a-ud-dev.conllu": b""})
    with pytest.raises(InputError, match=r"there twice; found .*UD_1.*UD_2"):
        resolve([(dataset, "Thai", "th")], Lock())
    assert hub.requests == []


def test_a_known_checksum_is_asked_of_the_users_copies_too(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {Path(path).name: content.encode() for path, content in TREEBANKS.items()}
    folder = write_files(tmp_path / "mine", files)
    set_runtime(monkeypatch, files={"udpos": str(folder)})
    dataset = udpos(source={"sha256": {"th_a-ud-dev.conllu": "0" * 64}})
    with pytest.raises(InputError, match=r"mine: th_a-ud-dev.conllu has sha256 .*the known 0000"):
        resolve([(dataset, "Thai", "th")], Lock())


def test_slices_of_real_treebanks_are_prepared(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xstilts.registry import load_registry

    monkeypatch.chdir(tmp_path)
    dataset = load_registry().datasets["udpos"]
    files = shared / "files" / "ud_conllu"
    for language, name in (("el", "Greek-GDT"), ("ta", "Tamil-TTB"), ("vi", "Vietnamese-VTB")):
        with publishing(Path("data/raw/udpos", name), {"stage": "fetch"}) as draft:
            shutil.copytree(files / f"UD_{name}", draft.folder / "files")
        report = prepared(dataset, Path("data/raw/udpos", name), language)
        for split, rows in (("dev", 80), ("test", 40)):
            found = report["splits"][split]
            assert found["rows"] == found["rows_in"] == rows
            assert found["expected"] == dataset.known_rows(language)[split]


def test_a_tag_that_the_row_does_not_have_is_named_with_its_sentence(
    hub: Hub, tmp_path: Path
) -> None:
    dataset = served(hub).model_copy(update={"labels": ("ADP", "VERB")})
    lock, _ = resolve([(dataset, "Thai", "th")], Lock())
    with pytest.raises(InputError, match=r"th_b-ud-dev.conllu: sentence 1: the label is unknown"):
        prepared(dataset, fetched(dataset, lock))


def test_a_split_that_was_not_fetched_is_named(tmp_path: Path) -> None:
    from xstilts.data.conllu import treebank_files

    with publishing(tmp_path / "raw", {"stage": "fetch"}) as draft:
        write_files(draft.folder / "files", {"th_a-ud-test.conllu": b""})
    with pytest.raises(InputError, match=r"has no split 'tests'\. Did you mean 'test'"):
        treebank_files(tmp_path / "raw", "tests")


# ---- rows


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"source": {"treebanks": {"th": {"dev": ["A"]}}}},
            "treebanks.th: expected treebanks with dev, test; found some with dev",
        ),
        ({"source": {"treebanks": {}}}, "treebanks.th: .*found some with nothing"),
        (
            {"source": {"treebanks": {"th": {"dev": ["A"], "test": ["A"]}, "ti": {}}}},
            "treebanks: 'ti' is not in this row. Valid names: th",
        ),
        ({"source": {"releases": {"tl": "r2"}}}, "releases: 'tl'"),
        (
            {"source": {"sha256": {"th_a-ud-def.conllu": "0" * 64}}},
            "sha256: .*'th_a-ud-dev.conllu'",
        ),
        ({"source": {"base": "https://example.org/"}}, "a URL without a slash"),
        ({"source": {"treebank": {}}}, "'treebank'.*'treebanks'"),
    ],
)
def test_a_bad_row_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        udpos(**changes)


def test_another_treebank_changes_no_other_language() -> None:
    two = {"th": {"dev": ["A"], "test": ["A"]}, "tl": {"dev": ["C"], "test": ["C"]}}
    more = two | {"tl": {"dev": ["C", "D"], "test": ["C"]}}
    languages = {"th": "Thai", "tl": "Tagalog"}
    before, after = (
        udpos(languages=languages, source={"treebanks": banks, "releases": {"tl": "r2"}})
        for banks in (two, more)
    )
    assert before.source_of("th") == after.source_of("th")
    assert list(after.source_of("tl").urls.values())[1] == (  # type: ignore[union-attr]
        "https://example.org/UD_Tagalog-D/r2/tl_d-ud-dev.conllu"
    )
