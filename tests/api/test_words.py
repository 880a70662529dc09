"""A sentence that names options names keywords in Python, and a command stays one."""

import pytest

from louder.api.words import in_python

SENTENCES = {
    "Pass --time-unit ms.": "Pass time_unit='ms'.",
    "Say what form they have (--time-format '%d/%m/%Y %H:%M'), or name another column: --column timestamp=NAME.": (
        "Say what form they have (time_unit='%d/%m/%Y %H:%M'), or name another column: time='NAME'."
    ),
    "Pass --column user_id=NAME --column item_id=NAME.": "Pass user='NAME' item='NAME'.",
    "Write: --action 'like=rating >= 4'.": "Write: actions={'like': 'rating >= 4'}.",
    "if they only say which came first: --no-times.": "if they only say which came first: time=False.",
    "Go on with it: --resume. Start anew: --overwrite. Or choose another: -o NAME.": (
        "Go on with it: resume=True. Start anew: overwrite=True. Or choose another: folder='NAME'."
    ),
    "Choose another name, or add --overwrite to replace it.": "Choose another name, or add overwrite=True to replace it.",
    "warm up (--set training.warmup_steps=1000) or clip (--set training.clip_norm=1).": (
        "warm up (settings={'training.warmup_steps': 1000}) or clip (settings={'training.clip_norm': 1})."
    ),
    "Lower the rate (--set training.learning_rate=1e-4): --set model.time_bias=false.": (
        "Lower the rate (settings={'training.learning_rate': 1e-4}): settings={'model.time_bias': False}."
    ),
    "Lower --k-core, --min-user-events or --min-item-events.": "Lower k_core, min_user_events or min_item_events.",
    "Give at least one item: --items 1,2,3.": "Give at least one item: items=[1, 2, 3].",
    "Pass --table FOLDER. Make one: louder etl SOURCE -o FOLDER.": (
        "Pass table='FOLDER'. Make one: louder etl SOURCE -o FOLDER."
    ),
    "Measure it: louder evaluate runs/a.b --seen none. Or: --seen none.": (
        "Measure it: louder evaluate runs/a.b --seen none. Or: seen='none'."
    ),
    "A text such as a-b or x -- y has no option.": "A text such as a-b or x -- y has no option.",
}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_options_become_keywords(sentence: str) -> None:
    assert in_python(sentence) == SENTENCES[sentence]


def test_every_option_that_a_sentence_may_name_is_a_keyword() -> None:
    """Of louder.log and louder.train: what a sentence says can be written."""
    import inspect
    import re
    from pathlib import Path

    import louder

    keywords = {*inspect.signature(louder.log).parameters, *inspect.signature(louder.train).parameters}
    texts = "".join(file.read_text(encoding="utf-8") for file in Path(louder.__file__).parent.glob("etl/**/*.py"))
    options = set(re.findall(r"(?<=[ (`'\"])--[a-z-]+[a-z]", texts))
    assert len(options) > 12
    unknown = {flag for flag in options if re.split("[= ]", in_python(f"{flag} user_id=b"))[0] not in keywords}
    assert unknown == {"--memory"}, unknown  # Python asks the engine for what it needs
