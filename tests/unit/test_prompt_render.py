"""Templates: what they render, word for word, and what is refused before any training."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from xstilts.errors import InputError
from xstilts.prompting.render import (
    Renderer,
    check_prompt,
    detokenized,
    lowered,
    opened,
    shared_beginning,
)
from xstilts.registry import load_registry
from xstilts.toyworld.languages import LANGUAGES, vocabulary

REGISTRY = load_registry()


def renderer(dataset: str, language: str | None = None) -> Renderer:
    """The built-in prompt of a data set, with the words of one language."""
    row = REGISTRY.prompt_of(dataset, "here")
    words = row.words[language] if language else next(iter(row.words.values()), {})
    data = REGISTRY.datasets[dataset]
    return Renderer(data.format, row.model_dump() | {"words": words}, data.labels or (), "place")


# ---- the harness's own wording, written by hand

XNLI = {
    "ar": ["P, صحيح? نعم, H", "P, صحيح? لذا, H", "P, صحيح? رقم, H"],
    "bg": ["P, правилно? да, H", "P, правилно? така, H", "P, правилно? не, H"],
    "de": ["P, richtig? Ja, H", "P, richtig? Auch, H", "P, richtig? Nein, H"],
    "el": ["P, σωστός? Ναί, H", "P, σωστός? Έτσι, H", "P, σωστός? όχι, H"],
    "en": ["P, right? Yes, H", "P, right? Also, H", "P, right? No, H"],
    "es": ["P, correcto? Sí, H", "P, correcto? Asi que, H", "P, correcto? No, H"],
    "fr": ["P, correct? Oui, H", "P, correct? Aussi, H", "P, correct? Non, H"],
    "hi": ["P, सही? हाँ, H", "P, सही? इसलिए, H", "P, सही? नहीं, H"],
    "ru": ["P, правильно? Да, H", "P, правильно? Так, H", "P, правильно? Нет, H"],
    "sw": ["P, sahihi? Ndiyo, H", "P, sahihi? Hivyo, H", "P, sahihi? Hapana, H"],
    "th": ["P, ถูกต้อง? ใช่, H", "P, ถูกต้อง? ดังนั้น, H", "P, ถูกต้อง? ไม่, H"],
    "tr": ["P, doğru? Evet, H", "P, doğru? Böylece, H", "P, doğru? Hayır, H"],
    "ur": ["P, صحیح? جی ہاں, H", "P, صحیح? اس لئے, H", "P, صحیح? نہیں, H"],
    "vi": ["P, đúng? Vâng, H", "P, đúng? Vì vậy, H", "P, đúng? Không, H"],
    "zh": ["P, 正确? 是的, H", "P, 正确? 所以, H", "P, 正确? 不是的, H"],
}


@pytest.mark.parametrize("language", REGISTRY.datasets["xnli"].languages)
def test_xnli(language: str) -> None:
    found = renderer("xnli", language)
    row = {"id": "1", "text_a": "P", "text_b": "H", "label": 1}
    assert (found.context(row), found.delimiter) == ("", " ")
    assert found.choices(row) == XNLI[language]
    assert found.answer(row) == XNLI[language][1]


#: Sentences whose marks stand apart come together in four of the languages.
PAWSX = {
    "de": 'Er ging (nicht), richtig? Nein, sie isn\'t"da".',
    "en": 'Er ging (nicht), right? No, sie isn\'t"da".',
    "es": 'Er ging (nicht), verdad? No, sie isn\'t"da".',
    "fr": "Er ging (nicht), n'est-ce pas? Non, sie isn't\"da\".",
    "ja": 'Er ging ( nicht ) ., ですね? いいえ, Sie is n\'t "da" . ',
    "ko": 'Er ging ( nicht ) ., 맞죠? 아니요, Sie is n\'t "da" . ',
    "zh": 'Er ging ( nicht ) ., 对吧? 不是, Sie is n\'t "da" . ',
}
YES = {"de": "Ja", "en": "Yes", "es": "Sí", "fr": "Oui", "ja": "はい", "ko": "예", "zh": "是"}


@pytest.mark.parametrize("language", REGISTRY.datasets["pawsx"].languages)
def test_pawsx(language: str) -> None:
    found = renderer("pawsx", language)
    row = {"id": "1", "text_a": "Er ging ( nicht ) .", "text_b": 'Sie is n\'t "da" . ', "label": 0}
    assert (found.context(row), found.delimiter) == ("", "")
    no, yes = found.choices(row)
    assert no == PAWSX[language]
    question, _, rest = no.partition("? ")
    assert yes == f"{question}? {YES[language]},{rest.partition(',')[2]}"


XCOPA = {
    "et": ("sest", "seetõttu"),
    "ht": ("poukisa", "donk sa"),
    "id": ("karena", "maka"),
    "it": ("perché", "quindi"),
    "qu": ("imataq", "chaymi"),
    "sw": ("kwa sababu", "kwa hiyo"),
    "ta": ("காரணமாக", "எனவே"),
    "th": ("เพราะ", "ดังนั้น"),
    "tr": ("çünkü", "bu yüzden"),
    "vi": ("bởi vì", "vì vậy"),
    "zh": ("因为", "所以"),
}


@pytest.mark.parametrize("language", REGISTRY.datasets["xcopa"].languages)
def test_xcopa(language: str) -> None:
    found = renderer("xcopa", language)
    row = {
        "id": "1",
        "prompt": "",
        "premise": "It fell. ",
        "choices": ["It hit.", "Été"],
        "label": 1,
    }
    for question, word in zip(("cause", "effect"), XCOPA[language], strict=True):
        asked = row | {"question": question}
        assert found.context(asked) == f"It fell {word}"
        assert found.free(asked) == word
        assert found.choices(asked) == ["it hit.", "été"]
        assert (found.answer(asked), found.delimiter) == ("été", " ")


def test_the_harness_takes_a_letter_off_where_there_is_no_full_stop() -> None:
    row = {"id": "1", "premise": "ฝน", "question": "cause", "choices": ["a", "b"], "label": 0}
    assert renderer("xcopa", "th").context(row) == "ฝ เพราะ"


def test_copa_in_english() -> None:
    row = {"id": "1", "premise": "The cup broke.", "choices": ["I fell.", "He ran."], "label": 0}
    found = renderer("copa", "en")
    assert found.context(row | {"question": "cause"}) == "The cup broke because"
    assert found.context(row | {"question": "effect"}) == "The cup broke therefore"
    with pytest.raises(InputError, match=r"place: row 1: a template cannot .*'reason'"):
        found.context(row | {"question": "reason"})


# ---- our own wording


def test_questions_with_and_without_an_answer() -> None:
    gold = [{"text": "Rhine", "start": 4}, {"text": "the Rhine", "start": 0}]
    row = {"id": "q", "context": "the Rhine flows", "question": "What flows?", "answers": gold}
    asked = "the Rhine flows\n{}: What flows?\n{}:"
    for name, language, words in (
        ("squad", "en", ("Question", "Answer")),
        ("xquad", "de", ("Frage", "Antwort")),
        ("tydiqa", "sw", ("Swali", "Jibu")),
        ("squad_v2", "en", ("Question", "Answer")),
    ):
        found = renderer(name, language)
        assert found.context(row) == asked.format(*words)
        assert found.answer(row) == "Rhine"
    assert renderer("squad_v2", "en").answer(row | {"answers": []}) == "unanswerable"
    with pytest.raises(InputError, match=r"row q: the question has no answer.*`none`"):
        renderer("squad", "en").answer(row | {"answers": []})


def test_tags_are_written_by_name() -> None:
    row = REGISTRY.prompts["ccg"]
    prompt = row.model_dump() | {"words": row.words["en"]}
    found = Renderer("token_classification", prompt, ("N", "NP\\N"), "place")
    words = {"id": "1", "tokens": ["a", "dog"], "tags": [1, 0]}
    assert found.context(words) == "a dog\nCategories:"
    assert found.answer(words) == "NP\\N N"


def test_duplicates_and_what_follows() -> None:
    pair = {"id": "1", "text_a": "How?", "text_b": "In what way?", "label": 1}
    found = renderer("qqp")
    assert found.context(pair) == "How?\nIn what way?\nDo these questions mean the same?"
    assert (found.choices(pair), found.answer(pair)) == (["No", "Yes"], "Yes")
    row = {"id": "1", "prompt": "He sits. Why?", "choices": ["He", "It"], "label": 0}
    for name in ("cosmos_qa", "commonsense_qa", "siqa"):
        assert renderer(name).context(row) == "He sits. Why?\nAnswer:"
        assert renderer(name).free(row) == "Answer:"
    assert renderer("hellaswag").context(row) == "He sits. Why?"


def test_the_toy_worlds_words_are_its_own() -> None:
    meant = {"entailed": "is", "open": "will", "excluded": "not", "yes": "is", "no": "not"}
    for name in ("toy_nli", "toy_paraphrase"):
        words = REGISTRY.prompts[name].words
        assert words.keys() == LANGUAGES.keys()
        for code, own in words.items():
            assert own == {key: vocabulary(code)[meant[key]] for key in own}


# ---- filters


def test_filters() -> None:
    assert [opened(text) for text in ("Go. ", "去。", "जा।", "Go", "", "Go .,")] == [
        *("Go", "去", "जा", "Go", "", "Go ."),
    ]
    assert [opened(text, ".,;") for text in ("Go!", "Go;")] == ["Go!", "Go"]
    assert [lowered(text) for text in ("Été", "", "ΑΒ", "今天")] == ["été", "", "αΒ", "今天"]
    assert detokenized(" He did n't ( go ) , \" no \" 's ' . ") == "He didn't (go),\"no\"'s'."


def test_the_shared_beginning_ends_with_white_space() -> None:
    assert shared_beginning(["a b, Yes, c", "a b, Yet, c"]) == "a b, "
    assert shared_beginning(["Yes", "Yet"]) == ""
    assert shared_beginning(["a b", "a b c"]) == "a "
    assert shared_beginning(["x, 正确? 是的, y", "x, 正确? 所以, y"]) == "x, 正确? "


# ---- what is refused

NLI: dict[str, Any] = {
    "title": "My inference",
    "version": 1,
    "source": "ours",
    "datasets": ["my_nli"],
    "context": "{{ text_a }}",
    "choice": {"entailment": "a", "neutral": "b", "contradiction": "c"},
}
QA = {
    **NLI,
    "datasets": ["my_qa"],
    "choice": None,
    "answer": "{{ answer }}",
    "context": "{{ question }}",
}
CHOICE = {**NLI, "datasets": ["my_choice"], "choice": "{{ choice }}", "context": "{{ prompt }}"}
WORDS = {"en": {"right": "right"}, "de": {"right": "richtig"}}

BAD = [
    (NLI, {"context": "{{ label }}"}, "context: leaks the answer: it names 'label'"),
    (NLI, {"free": "{{ label }}"}, "free: leaks the answer: it names 'label'"),
    (NLI, {"choice": {**NLI["choice"], "neutral": "{{ label }}"}}, "choice.neutral: leaks"),
    (QA, {"context": "{{ answers[0].text }}"}, "context: leaks the answer: it names 'answers'"),
    (QA, {"context": "{% if answer %}{% endif %}"}, "context: leaks the answer: it names 'answer'"),
    (CHOICE, {"context": "{{ choice }}"}, "context: leaks the answer: it names 'choice'"),
    (CHOICE, {"context": "{{ choices[label] }}"}, "context: leaks the answer: it names 'label'"),
    (NLI, {"context": "{{ text_c }}"}, "unknown variable 'text_c'. Did you mean 'text_"),
    (CHOICE, {"context": "{{ premise }}"}, "unknown variable 'premise'"),
    (NLI, {"context": "{{ words.right }}"}, "the word 'right' is in no language"),
    (NLI, {"context": "{{ words['rihgt'] }}", "words": WORDS}, "Did you mean 'right'?"),
    (NLI, {"context": "{{ text_a"}, "context: is no Jinja template: "),
    (NLI, {"context": "{{ text_a | shorter }}"}, "context: is no Jinja template: No filter"),
    (NLI, {"choice": "{{ text_b }}"}, "choice: every label needs its own"),
    (NLI, {"choice": {"entailment": "a"}}, "has not the labels of the data set 'my_nli'"),
    (NLI, {"choice": None, "answer": "a"}, "a sequence_classification data set has no answer"),
    (QA, {"choice": "a", "answer": None}, "a question_answering data set has no choice"),
    (CHOICE, {"choice": {"0": "a"}}, "choice: the choices are the data set's own"),
    (
        NLI,
        {"words": {"en": {"a": "b"}, "de": {"c": "d"}}},
        "words.en: the languages have different words; expected c; found a",
    ),
    (NLI, {"words": {"xx": {"a": "b"}}}, "words: unknown language 'xx'"),
    (NLI, {"datasets": ["my_nli", "my_qa"]}, "differ in format, and they share one prompt"),
    (NLI, {"datasets": ["mnli"]}, "'nli' renders the data set 'mnli' already. A row of the same"),
    (NLI, {"datasets": ["my_text"]}, "no prompt can render a masked_lm data set"),
    (NLI, {"datasets": ["my_nil"]}, "unknown data set 'my_nil'. Did you mean 'my_nli'?"),
    (NLI, {"answer": "a"}, "a prompt has either a choice or an answer"),
]


def user_file(path: Path, prompt: dict[str, Any]) -> Path:
    """A user's registry file with a prompt and a data set of each kind, copies of built-in ones."""
    kinds = {"nli": "mnli", "qa": "squad", "choice": "siqa", "text": "wikipedia"}
    rows = {
        f"my_{kind}": REGISTRY.datasets[name].model_dump(mode="json", exclude={"name"})
        for kind, name in kinds.items()
    }
    content = {k: v for k, v in prompt.items() if v is not None}
    path.write_text(yaml.safe_dump({"datasets": rows, "prompts": {"mine": content}}))
    return path


@pytest.mark.parametrize(("prompt", "change", "message"), BAD, ids=[message for *_, message in BAD])
def test_a_bad_prompt_is_refused(
    tmp_path: Path, prompt: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    load_registry([user_file(tmp_path / "good.yaml", prompt)])
    with pytest.raises(InputError, match=rf"mine.yaml: prompts.mine.*{re.escape(message)}"):
        load_registry([user_file(tmp_path / "mine.yaml", prompt | change)])


def test_the_built_in_templates_are_good() -> None:
    """Loading reads templates of users' files only."""
    for row in REGISTRY.prompts.values():
        check_prompt(row, [REGISTRY.datasets[name] for name in row.datasets], row.name)


def test_a_users_data_set_must_fit_a_built_in_prompt(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    row = REGISTRY.datasets["copa"].model_dump(mode="json", exclude={"name"})
    del row["fields"]["premise"]
    path.write_text(yaml.safe_dump({"datasets": {"copa": row}}))
    with pytest.raises(InputError, match=r"prompts.copa: context: unknown variable 'premise'"):
        load_registry([path])


def test_every_task_and_target_that_can_be_asked_has_a_prompt() -> None:
    kinds = {"sequence_classification", "multiple_choice", "question_answering"}
    for row in REGISTRY.datasets.values():
        if row.format in kinds or row.name == "ccg":
            assert REGISTRY.prompt_of(row.name, "here").words or row.name in (
                *("hellaswag", "toy_qa", "toy_choice"),
            )
    with pytest.raises(InputError, match=r"here: no prompt renders the data set 'xnil'.*'xnli'"):
        REGISTRY.prompt_of("xnil", "here")


def test_every_target_language_has_words_of_its_own() -> None:
    for name in ("xnli", "pawsx", "xcopa", "xquad", "mlqa", "tydiqa"):
        assert REGISTRY.datasets[name].languages.keys() <= REGISTRY.prompt_of(name, "").words.keys()


def test_a_label_without_a_choice() -> None:
    prompt = {**NLI, "delimiter": " ", "free": "", "words": {}}
    with pytest.raises(InputError, match=r"place: no choice for label 'maybe'"):
        Renderer("sequence_classification", prompt, ("entailment", "maybe"), "place")
