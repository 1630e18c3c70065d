"""The stage prompts: sub-words of contexts and answers, worked out by hand with a few pieces."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from xstilts.artifacts.manifest import read_manifest
from xstilts.artifacts.publish import publishing
from xstilts.data.prepare import ANSWERS
from xstilts.errors import InputError
from xstilts.prompting import tokens as stage
from xstilts.prompting.encoding import PromptTokenizer
from xstilts.prompting.render import Renderer
from xstilts.prompting.tokens import Encoder, chosen_shots
from xstilts.registry import load_registry

PIECES = ["<s>", "</s>", "<pad>", *"abcdXYN", " ", "\n", ",", " b", "a b"]
IDS = {piece: number for number, piece in enumerate(PIECES)}
CONFIG = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": {"content": "<pad>"}}


def raw(begins: bool = True) -> Tokenizer:
    """Letters, and the merges ` b` and `a b`, which crosses from a context into an answer."""
    tokenizer = Tokenizer(models.BPE(IDS, [(" ", "b"), ("a", " b")]))
    tokenizer.add_special_tokens(PIECES[:3])
    if begins:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A $B", special_tokens=[("<s>", 0), ("</s>", 1)]
        )
    return tokenizer


def tokenizer(begins: bool = True, **config: Any) -> PromptTokenizer:
    return PromptTokenizer(raw(begins), CONFIG | config, "tokenizer")


def ids(*pieces: str) -> list[int]:
    return [IDS[piece] for piece in pieces]


# ---- the rule


def test_the_context_and_what_is_left_of_the_whole_text() -> None:
    pair, apart = tokenizer().pairs([("c", " d"), ("c ", "d")])
    assert (pair.context, pair.answer, pair.fixed) == (ids("<s>", "c"), ids(" ", "d"), 1)
    # White space at the end of a context belongs to the answer.
    assert (apart.context, apart.answer) == (pair.context, pair.answer)


def test_a_piece_that_crosses_into_the_answer() -> None:
    """The context is tokenised alone; the answer lacks what the crossing piece took of it."""
    pair, nothing = tokenizer().pairs([("a", " bd"), ("a", " b")])
    assert (pair.context, pair.answer) == (ids("<s>", "a"), ids("d"))
    assert nothing.answer == []


def test_an_empty_context_is_the_beginning_of_a_text() -> None:
    (pair,) = tokenizer().pairs([("", " ba")])
    assert (pair.context, pair.answer) == (ids("<s>"), ids(" b", "a"))
    (blank,) = tokenizer().pairs([(" ", "ba")])
    assert (blank.context, blank.answer) == (ids("<s>"), ids(" b", "a"))


def test_a_tokenizer_that_begins_texts_with_nothing() -> None:
    begun = tokenizer(begins=False)
    context, empty = begun.pairs([("c", "d"), ("", "d")])
    assert (context.context, context.fixed, empty.context) == (ids("c"), 0, ids("<s>"))
    # As Qwen's: the end of a text stands for its beginning.
    unbegun = tokenizer(begins=False, bos_token=None)
    assert (unbegun.bos_id, unbegun.prefix_id) == (None, 1)
    assert unbegun.pairs([("", "d")])[0].context == ids("</s>")


def test_a_tokenizer_that_does_not_know_the_letter_a() -> None:
    made = Tokenizer(models.BPE({"<s>": 0, "</s>": 1, "<pad>": 2, "今": 3}, []))
    made.post_processor = raw().post_processor
    assert PromptTokenizer(made, CONFIG, "").before == [0]
    specials = Tokenizer(models.BPE())
    specials.add_special_tokens(PIECES[:3])
    with pytest.raises(InputError, match=r"tokenizer: the tokenizer knows no text"):
        PromptTokenizer(specials, CONFIG, "tokenizer")


@pytest.mark.parametrize("token", ["pad_token", "eos_token"])
def test_tokens_that_a_decoder_needs(token: str) -> None:
    for missing in (None, "<none>", {"content": "<none>"}):
        with pytest.raises(InputError, match=rf"tokenizer: {token}: the tokenizer has no such"):
            tokenizer(**{token: missing})
    with pytest.raises(InputError, match=r"Name one under pad_token of the model's registry row"):
        tokenizer(pad_token=None)


# ---- examples of every kind

CHOICE = {
    "name": "mine",
    "version": 3,
    "context": "{{ prompt }}",
    "delimiter": " ",
    "choice": "{{ choice }}",
    "answer": None,
    "free": "",
    "words": {},
}
NLI = CHOICE | {
    "context": "",
    "choice": {"yes": "{{ text_a }}, Y {{ text_b }}", "no": "{{ text_a }}, N {{ text_b }}"},
    "free": "X",
}
QA = CHOICE | {"context": "{{ context }}\n{{ question }}", "choice": None, "answer": "{{ answer }}"}
FORMAT = {"choice": "multiple_choice", "nli": "sequence_classification", "qa": "question_answering"}


def encoder(kind: str, prompt: dict[str, Any], length: int = 64, **config: Any) -> Encoder:
    labels = ("yes", "no") if kind == "nli" else ()
    renderer = Renderer(FORMAT[kind], prompt, labels, "mine (en)")
    return Encoder(tokenizer(**config), renderer, length, "mine (en)")


def encoded(
    found: Encoder, rows: list[dict[str, Any]], split: str = "test", shots: str = ""
) -> tuple[dict[str, Any], dict[str, int]]:
    """A split with its arrays as lists, rows cut apart."""
    arrays, counts = found.encoded(list(found.examples(rows, split, shots)), split)
    for name in ("input_ids", "free_ids"):
        if name in arrays:
            offsets = arrays.pop("offsets" if name == "input_ids" else "free_offsets")
            assert (offsets.dtype, arrays[name].dtype) == (np.int64, np.int32)
            arrays[name] = np.split(arrays[name], offsets[1:-1])
    return {
        name: [np.asarray(x).tolist() for x in values] for name, values in arrays.items()
    }, counts


QUESTION = {"id": "q1", "prompt": "ca", "choices": ["d", "cX"], "label": 1}


def test_a_row_for_each_choice_of_a_test_question() -> None:
    arrays, counts = encoded(encoder("choice", CHOICE), [QUESTION, QUESTION])
    rows = [ids("<s>", "c", "a", " ", "d"), ids("<s>", "c", "a", " ", "c", "X")]
    assert arrays["input_ids"] == rows * 2
    assert arrays["starts"] == [3] * 4
    assert arrays["choice_offsets"] == [0, 2, 4]
    assert arrays["labels"] == [1, 1]
    assert arrays["bytes"] == [1, 2, 1, 2]
    # Without a question: the beginning of a text.
    assert arrays["free_ids"] == [ids("<s>", " ", "d"), ids("<s>", " ", "c", "X")] * 2
    assert arrays["free_starts"] == [1] * 4
    assert counts == {"examples": 2, "truncated": 0}


def test_bytes_are_those_of_the_choice_as_it_is_written() -> None:
    prompt = CHOICE | {"choice": "{{ choice | lowered }}"}
    row = QUESTION | {"choices": ["a今", "aé"]}
    arrays, _ = encoded(encoder("choice", prompt), [row])
    assert arrays["bytes"] == [4, 3]


def test_a_training_row_is_the_right_answer_with_an_end() -> None:
    for split in ("train", "dev"):
        arrays, _ = encoded(encoder("choice", CHOICE), [QUESTION], split)
        assert arrays["input_ids"] == [ids("<s>", "c", "a", " ", "c", "X", "</s>")]
        assert (arrays["starts"], arrays["labels"], arrays["choice_offsets"]) == ([3], [0], [0, 1])
        assert arrays.keys() == {"input_ids", "starts", "labels", "choice_offsets"}


PAIR = {"id": "p1", "text_a": "d", "text_b": "c", "label": 1}


def test_what_all_choices_begin_with_is_no_answer_in_training() -> None:
    """In an evaluation it is, as the harness has it: likelihoods are those of whole texts."""
    found = encoder("nli", NLI)
    yes = ids("<s>", " ", "d", ",", " ", "Y", " ", "c")
    no = ids("<s>", " ", "d", ",", " ", "N", " ", "c")
    arrays, _ = encoded(found, [PAIR])
    assert (arrays["input_ids"], arrays["starts"]) == ([yes, no], [1, 1])
    # Without the question its choices would be of equal likelihood: they lack the premise.
    assert arrays["free_ids"] == [ids("<s>", "X", *" Y c"), ids("<s>", "X", *" N c")]
    trained, _ = encoded(found, [PAIR], "train")
    assert (trained["input_ids"], trained["starts"]) == ([[*no, 1]], [4])


def test_a_decoder_that_writes() -> None:
    gold = [{"text": "d", "start": 0}]
    row = {"id": "q", "context": "c", "question": "a ", "answers": gold}
    arrays, _ = encoded(encoder("qa", QA), [row])
    assert arrays == {"input_ids": [ids("<s>", "c", "\n", "a")], "starts": [4]}
    trained, _ = encoded(encoder("qa", QA), [row], "train")
    assert trained["input_ids"] == [ids("<s>", "c", "\n", "a", " ", " ", "d", "</s>")]
    assert trained["starts"] == [4]


# ---- lengths


def test_a_long_context_loses_its_beginning() -> None:
    row = QUESTION | {"prompt": "abcdc"}
    arrays, counts = encoded(encoder("choice", CHOICE, 6), [row, QUESTION])
    # Both choices lose as much, so that they answer one question; what begins a text stays.
    assert arrays["input_ids"][:2] == [ids("<s>", "d", "c", " ", "d"), ids(*["<s>", *"dc cX"])]
    assert arrays["starts"] == [3] * 4
    assert counts["truncated"] == 1
    bare, _ = encoded(encoder("choice", CHOICE, 4, begins=False), [row])
    assert (bare["input_ids"], bare["starts"]) == ([ids("c", " ", "d"), ids(*"c cX")], [1, 1])


def test_a_long_premise_is_cut_where_it_stands_in_the_choices() -> None:
    row = PAIR | {"text_a": "dcda"}
    arrays, counts = encoded(encoder("nli", NLI, 7), [row])
    assert arrays["input_ids"] == [ids("<s>", "a", *", Y c"), ids("<s>", "a", *", N c")]
    assert (arrays["starts"], counts["truncated"]) == ([1, 1], 1)
    trained, _ = encoded(encoder("nli", NLI, 7), [row], "train")
    assert trained["input_ids"] == [[*ids("<s>", *", N c"), 1]]
    assert trained["starts"] == [2]


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_an_answer_longer_than_the_context_is_refused(split: str) -> None:
    row = QUESTION | {"choices": ["d", "cdcdcdc"]}
    place = rf"mine \(en\): {split}: row q1: its answer leaves no room for a context; "
    with pytest.raises(
        InputError, match=rf"{place}expected at most 7 sub-words; found (8|9)\. Raise"
    ):
        encoded(encoder("choice", CHOICE, 8), [row], split)
    pair = PAIR | {"text_b": "dcdcdc"}
    with pytest.raises(InputError, match=rf"{split}: row p1: its answer leaves no room"):
        encoded(encoder("nli", NLI, 6), [pair], split)


def test_a_context_that_is_cut_keeps_a_sub_word() -> None:
    """Where a tokenizer puts nothing before a text, one sub-word of the context stays."""
    found = encoder("choice", CHOICE, 3, begins=False)
    with pytest.raises(InputError, match=r"expected at most 2 sub-words; found 3"):
        encoded(found, [QUESTION])
    arrays, _ = encoded(found, [QUESTION | {"choices": ["d", "c"]}])
    assert arrays["input_ids"] == [ids("a", " ", "d"), ids("a", " ", "c")]


# ---- what is refused


def test_bad_choices_are_refused() -> None:
    found = encoder("choice", CHOICE)
    for choices, split in ((["d", " "], "test"), (["d", ""], "train")):
        row = QUESTION | {"choices": choices}
        with pytest.raises(
            InputError, match=rf"mine \(en\): {split}: row q1: an answer is rendered"
        ):
            encoded(found, [row], split)
    with pytest.raises(InputError, match=r"row q1: an answer has no sub-word; found .*'b'"):
        encoded(found, [QUESTION | {"prompt": "a", "choices": ["d", "b"]}])
    with pytest.raises(InputError, match=r"row q1: two choices are rendered alike; found 'd'"):
        encoded(found, [QUESTION | {"choices": ["d", "c", "d"]}])


def test_a_variable_that_is_not_there() -> None:
    for template in ("{{ premise }}", "{{ prompt.stem.text }}", "{{ words.right }}", "{{ 1 / 0 }}"):
        with pytest.raises(InputError, match=r"mine \(en\): row q1: a template cannot be rendered"):
            encoded(encoder("choice", CHOICE | {"context": template}), [QUESTION])


def test_templates_run_in_a_sandbox() -> None:
    template = "{{ prompt.__class__.__mro__[1].__subclasses__() }}"
    with pytest.raises(InputError, match=r"a template cannot be rendered: .*unsafe"):
        encoded(encoder("choice", CHOICE | {"context": template}), [QUESTION])


# ---- examples before a question


def test_shots_are_the_same_whatever_the_order_of_the_rows() -> None:
    rows = [{"id": str(number)} for number in range(20)]
    chosen = chosen_shots(rows, 3, 7, "here")
    assert chosen == chosen_shots(rows[::-1], 3, 7, "here")
    assert chosen == chosen_shots(rows, 4, 7, "here")[:3]
    assert chosen != chosen_shots(rows, 3, 8, "here")
    with pytest.raises(InputError, match=r"here: has too few rows.*expected 21 or more; found 20"):
        chosen_shots(rows, 21, 7, "here")


def test_shots_stand_before_test_questions_only() -> None:
    found = encoder("choice", CHOICE, 9)
    arrays, counts = encoded(found, [QUESTION], shots="c d\n\n")
    # The example is cut first; white space before an empty context is the answer's.
    assert arrays["input_ids"][0] == ids("<s>", "d", "\n", "\n", *"ca d")
    assert (arrays["starts"], counts["truncated"]) == ([6, 6], 1)
    trained, _ = encoded(found, [QUESTION], "train", shots="c d\n\n")
    assert trained["input_ids"] == [ids("<s>", *"ca cX", "</s>")]
    arrays, _ = encoded(encoder("nli", NLI), [PAIR], shots="c d\n\n")
    assert arrays["input_ids"][0] == ids("<s>", *"c d", *"\n\n", *" d, Y c")
    assert arrays["starts"] == [4, 4]


# ---- the stage


def prepared(folder: Path, splits: dict[str, list[dict[str, Any]]], labels: Any = None) -> str:
    with publishing(folder, {}) as draft:
        for split, rows in splits.items():
            pq.write_table(pa.Table.from_pylist(rows), draft.folder / f"{split}.parquet")
        (draft.folder / "report.json").write_text(json.dumps({"labels": labels}))
    return str(folder)


def tokenizer_folder(folder: Path, made: Tokenizer) -> str:
    with publishing(folder, {}) as draft:
        made.save(str(draft.folder / "tokenizer.json"))
        (draft.folder / "tokenizer_config.json").write_text(json.dumps(CONFIG))
    return str(folder)


def spec_of(kind: str, prompt: dict[str, Any], **inputs: str) -> dict[str, Any]:
    return {
        "stage": "prompts",
        "format": FORMAT[kind],
        "dataset": "mine",
        "language": "en",
        "splits": ["train", "dev", "test"],
        "prompt": prompt,
        "encoding": {"max_length": 32},
        "shots": {"number": 2, "seed": 1, "words": {"same": "="}} if "shots" in inputs else None,
        "inputs": inputs,
    }


def test_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    others = [QUESTION | {"id": f"t{n}", "choices": ["Y" * n, "N"], "label": 0} for n in (1, 2, 3)]
    inputs = {
        "prepared": prepared(Path("prepared"), {"dev": [QUESTION], "test": [QUESTION] * 3}),
        "shots": prepared(Path("train"), {"train": others}),
        "tokenizer": tokenizer_folder(Path("tokenizer"), raw()),
    }
    words = {"context": "{{ prompt }}{{ words.same }}", "words": {"same": "~"}}
    spec = spec_of("choice", CHOICE | words, **inputs)
    for out in ("one", "two"):
        stage.run(spec, Path(out))
    one, two = (read_manifest(Path(out)).files for out in ("one", "two"))
    assert one == two
    names = {"dev.safetensors", "test.safetensors", "meta.json", "shots.json", "examples.json"}
    assert one.keys() == names
    shots = json.loads(Path("one/shots.json").read_text())
    chosen = chosen_shots(others, 2, 1, "")
    assert shots == [{"id": r["id"], "text": "ca= " + r["choices"][0]} for r in chosen]
    shown = json.loads(Path("one/examples.json").read_text())
    assert shown["dev"] == [{"id": "q1", "context": "ca~", "answer": "cX"}]
    before = "".join(shot["text"] + "\n\n" for shot in shots)
    asked = {"id": "q1", "context": before + "ca~", "choices": ["d", "cX"], "label": 1}
    assert shown["test"] == [asked, asked]
    meta = json.loads(Path("one/meta.json").read_text())
    wanted = {"format": "prompted", "kind": "choice", "template_version": 3, "max_length": 32}
    wanted |= {"pad_id": 2, "eos_id": 1, "bos_id": 0, "vocab_size": len(PIECES), "labels": None}
    assert wanted.items() <= meta.items()
    arrays = load_file("one/test.safetensors")
    tokens = {"sequences": 6, "tokens": len(arrays["input_ids"])}
    assert meta["splits"]["test"] == {"examples": 3, "truncated": 0} | tokens


def test_the_stage_without_shots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    row = {"id": "q", "context": "c", "question": "a", "answers": []}
    table = pa.Table.from_pylist([row]).set_column(3, "answers", pa.array([[]], ANSWERS))
    prepared(Path("prepared"), {"test": table.to_pylist()})
    made = tokenizer_folder(Path("tokenizer"), raw())
    stage.run(spec_of("qa", QA, prepared="prepared", tokenizer=made), Path("out"))
    assert json.loads(Path("out/shots.json").read_text()) == []
    assert json.loads(Path("out/meta.json").read_text())["kind"] == "answer"
    shown = json.loads(Path("out/examples.json").read_text())
    assert shown == {"test": [{"id": "q", "context": "c\na"}]}


# ---- real rows


@pytest.mark.parametrize(
    ("dataset", "language"),
    [
        *(("xcopa", code) for code in ("et", "qu", "ta", "th", "tr", "zh")),
        *(("xnli", code) for code in ("ar", "en", "hi", "th", "zh")),
        *(("pawsx", code) for code in ("de", "fr", "ja", "ko")),
    ],
)
def test_real_rows_come_back_as_they_were_rendered(
    dataset: str, language: str, shared: Path
) -> None:
    """Byte-level sub-words lose nothing: what is decoded is the rendered text."""
    registry = load_registry()
    row = registry.datasets[dataset]
    folder = shared / "hub" / row.source.hub / row.config(language)  # type: ignore[union-attr]
    table = pq.read_table(next(folder.glob("test-*.parquet"))).to_pylist()
    examples = [canonical(dataset, number, item) for number, item in enumerate(table[:60])]
    prompt = registry.prompt_of(dataset, "")
    values = prompt.model_dump() | {"words": prompt.words[language]}
    renderer = Renderer(row.format, values, row.labels or (), dataset)
    made = byte_level(str(value) for example in examples for value in example.values())
    tokens = PromptTokenizer(made, CONFIG, "tokenizer")
    found = Encoder(tokens, renderer, 4096, dataset)
    arrays, counts = encoded(found, examples)
    assert counts == {"examples": len(examples), "truncated": 0}
    rows = iter(zip(arrays["input_ids"], arrays["starts"], strict=True))
    for example in examples:
        for choice in renderer.choices(example):
            row_ids, start = next(rows)
            # A merge across the boundary would take sub-words of the answer; byte-level words begin
            # with their space.
            assert made.decode(row_ids[start:]) == renderer.delimiter + choice
            assert made.decode(row_ids[:start]) == renderer.context(example)
    assert next(rows, None) is None


def canonical(dataset: str, number: int, row: dict[str, Any]) -> dict[str, Any]:
    base = {"id": str(number), "label": row["label"]}
    if dataset == "xcopa":
        texts = {"premise": row["premise"], "question": row["question"]}
        return base | texts | {"choices": [row["choice1"], row["choice2"]]}
    names = ("premise", "hypothesis") if dataset == "xnli" else ("sentence1", "sentence2")
    return base | dict(zip(("text_a", "text_b"), (row[name] for name in names), strict=True))


def byte_level(texts: Any) -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=PIECES[:3],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    return made
