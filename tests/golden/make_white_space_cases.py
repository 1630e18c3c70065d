"""Makes unit/data/white_space_cases.json: answers as transformers' SQuAD code returns them.

The texts are our own; every expected answer is what `compute_predictions_logits` of transformers
4.57.6 gives for scores that point at one span. That version does not fit into this project's
environment, so the script has one of its own, and needs two tokenizers that agree in their slow
form (`sentencepiece.bpe.model`, `vocab.txt`) and their fast one (`tokenizer.json`):

    python -m venv old
    old/bin/pip install transformers==4.57.6 sentencepiece protobuf numpy pyarrow pydantic pyyaml
    PYTHONPATH=src old/bin/python tests/golden/make_white_space_cases.py FOLDER

where FOLDER holds `xlmr/` and `bert/`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from transformers import BertTokenizer, XLMRobertaTokenizer
from transformers.data.metrics.squad_metrics import compute_predictions_logits
from transformers.data.processors import squad
from transformers.data.processors.squad import SquadExample, SquadResult

from xstilts.data.subwords import SubwordTokenizer, load_tokenizer
from xstilts.formats.question_answering.encode import answer_span

# XLM-R's pairs have two separators in the middle. XTREME's own copy of this code counts both, that
# of transformers 4 does not know the class any more and places every span one sub-word too early.
squad.MULTI_SEP_TOKENS_TOKENIZERS_SET.add("xlmroberta")

SPECIALS = {
    "xlmr": ("<s>", "</s>", "<pad>", "<unk>", "<mask>"),
    "bert": ("[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"),
}
#: Contexts, each with the characters that the scores point at.
TEXTS: dict[str, tuple[str, ...]] = {
    "The ferry (built 1911) left Oslo's harbour at 9:45 a.m., bound for Kiel.": (
        *("Oslo", "1911", "9:45", "Kiel", "(built 1911)", "harbour at 9:45", "ferry"),
    ),
    "Prices rose by 12.5% - to $3,40 - in May/June; bread-and-butter items cost more.": (
        *("12.5%", "12.5", "$3,40", "May", "June", "bread", "butter items"),
    ),
    "Two  spaces\tand a tab\r\nand a line end.": ("spaces", "spaces\tand a tab", "tab\r\nand"),
    "No-break\u00a0space and narrow\u202fspace, em\u2003space.": (
        *("space and", "No-break\u00a0space", "narrow", "narrow\u202fspace", "em\u2003space"),
    ),
    "Zero\u200bwidth and soft\u00adhyphen stay hidden.": ("Zero", "width", "soft\u00adhyphen"),
    "Caf\u00e9 Zo\u00eb opened; Cafe\u0301 Zoe\u0308 closed.": (
        *("Caf\u00e9", "Zo\u00eb", "Cafe\u0301", "closed", "Zoe\u0308 closed"),
    ),
    "Die Brücke über den Fluss heißt »Lange Brücke« und wurde 1906 erbaut.": (
        *("Lange Brücke", "Fluss", "»Lange", "1906"),
    ),
    "افتتح المتحف، في عام ١٩٥٣، على ضفة النهر.": ("المتحف", "عام ١٩٥٣", "١٩٥٣", "النهر"),
    "पुल की लंबाई ५०० मीटर है। यह नदी पर बना है।": ("५०० मीटर", "नदी", "है"),
    "สะพานนี้สร้างในปี 1932 โดยคนงานและทำด้วยเหล็ก": (*("สะพาน", "1932", "คนงาน", "เหล็ก", "ทำด้วยเหล็ก"),),
    "这座桥建于1906年，长五百米。桥在河上。": ("1906年", "1906", "五百米", "桥", "河"),
    "今天天氣很好。明天下雨": ("天氣", "明天", "今天天氣很好。明天下雨"),
    "北京 是 首都。 上海 在 南方。": ("北京", "首都", "上海 在", "南方。"),
    "東京タワーは１９５８年に完成した。高さは３３３メートルです。": (
        *("東京", "タワー", "１９５８年", "３３３", "完成"),
    ),
    "ｱｲｽ and ＡＢＣ Ｃｏ．, Ltd.": ("ｱｲｽ", "ＡＢＣ", "Ｃｏ．, Ltd"),
    "다리는 1970년에 지어졌다. 서울에 있다.": ("1970년", "서울", "다리"),
    "① First ½ of 10\u2009km², No. 5": ("First", "½", "10", "km²", "No. 5"),
    "Мост построен в 1850 году (Киев).": ("1850 году", "Киев", "Мост"),
    "  Leading and trailing  ": ("Leading", "trailing", "Leading and trailing"),
    'She said: "Go!" and "Go" again, U.S.A.': ("Go", "again", "U.S.A", '"Go" again'),
    "A smile 🙂 here and 👍🏽, too.": ("smile 🙂", "👍🏽", "here", "too"),
}


class Pieces(NamedTuple):
    """Sub-words of a context, and the characters of each."""

    texts: list[str]
    starts: list[int]
    ends: list[int]


def fast_pieces(folder: Path, kind: str, context: str) -> Pieces:
    """As this project's stage `tokens` makes them."""
    raw = load_tokenizer(folder / kind / "tokenizer.json")
    names = ("cls_token", "sep_token", "pad_token", "unk_token", "mask_token")
    tokenizer = SubwordTokenizer(raw, dict(zip(names, SPECIALS[kind], strict=True)), kind)
    ids, starts, ends = (found.values.tolist() for found in tokenizer.located([context]))
    return Pieces([raw.id_to_token(number) for number in ids], starts, ends)


def slow_tokenizer(folder: Path, kind: str) -> Any:
    """As the reference uses it."""
    if kind == "bert":
        return BertTokenizer(str(folder / kind / "vocab.txt"), do_lower_case=False)
    return XLMRobertaTokenizer(str(folder / kind / "sentencepiece.bpe.model"))


def places_in_reference(
    feature: Any, pieces: Pieces, context: str, span: tuple[int, int]
) -> tuple[int, int] | None:
    """The span in the reference's sequence; None where the sub-words cannot be told apart.

    The slow BERT class composes letters and the fast one does not; a whole chunk is a whole chunk.
    """
    inside = sorted(feature.token_to_orig_map)
    reference = [feature.tokens[place] for place in inside]
    if reference == pieces.texts:
        return inside[span[0]], inside[span[1]]
    chunk = [chunk_of(context, start) for start in pieces.starts]
    first, last = chunk[span[0]], chunk[span[1]]
    if chunk.index(first) != span[0] or len(chunk) - 1 - chunk[::-1].index(last) != span[1]:
        return None
    owner = feature.token_to_orig_map
    return (
        min(place for place in inside if owner[place] == first),
        max(place for place in inside if owner[place] == last),
    )


def chunk_of(context: str, place: int) -> int:
    """Number of the reference's white-space chunk that holds a character."""
    white = [True, *(character in " \t\r\n\u202f" for character in context)]
    return sum(white[n] and not white[n + 1] for n in range(place + 1)) - 1


def reference_answer(
    tokenizer: Any, context: str, pieces: Pieces, span: tuple[int, int]
) -> str | None:
    """The reference's answer to scores that point at a span."""
    example = SquadExample("q", "?", context, None, None, "")
    squad.squad_convert_example_to_features_init(tokenizer)
    features = squad.squad_convert_example_to_features(example, 384, 128, 64, "max_length", False)
    (feature,) = features
    feature.example_index, feature.unique_id = 0, 1
    places = places_in_reference(feature, pieces, context, span)
    if places is None:
        return None
    scores = [[0.0] * 384 for _ in places]
    for row, place in zip(scores, places, strict=True):
        row[place] = 9.0
    found = compute_predictions_logits(
        *([example], [feature], [SquadResult(1, *scores)], 20, 30, False),
        *(None, None, None, False, False, 0.0, tokenizer),
    )
    return str(found["q"])


def cases(folder: Path, kind: str) -> list[dict[str, Any]]:
    """All cases of a kind of tokenizer."""
    tokenizer, found = slow_tokenizer(folder, kind), []
    for context, wanted in TEXTS.items():
        pieces, answers = fast_pieces(folder, kind, context), []
        for text in wanted:
            answer = [{"text": text, "start": context.index(text)}]
            span = answer_span(answer, *map(_array, (pieces.starts, pieces.ends)))
            assert span is not None, (context, text)
            expected = reference_answer(tokenizer, context, pieces, span)
            if expected is None:
                print(f"left out ({kind}): {text!r} in {context!r}")
                continue
            answers.append({"span": span, "white_space": expected})
        row = {"kind": kind, "context": context, **pieces._asdict(), "answers": answers}
        row["pieces"] = row.pop("texts")
        found.append(row)
    return found


def _array(values: list[int]) -> Any:
    import numpy as np

    return np.array(values)


if __name__ == "__main__":
    source = Path(sys.argv[1])
    out = Path(__file__).parents[1] / "unit" / "data" / "white_space_cases.json"
    lines = [
        json.dumps(case, ensure_ascii=True) for kind in SPECIALS for case in cases(source, kind)
    ]
    out.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    print(f"{sum(line.count('white_space') for line in lines)} answers")
