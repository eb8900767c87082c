"""An error is one line that a terminal, a page and JSON can show, whatever its parts hold."""

import json

from hypothesis import given
from hypothesis import strategies as st

from taesd_ext import errors
from taesd_ext.errors import TaesdError, log_once

PARTS = st.text(st.characters(categories=None), max_size=40)


def test_parts_make_sentences_and_cannot_steer_a_terminal() -> None:
    assert str(TaesdError("It broke.", "a\nreason", "Mend it.")) == "It broke: a reason. Mend it."
    assert str(TaesdError("It broke")) == "It broke."
    assert str(TaesdError("key \x1b[31m\x07\u202e here")) == "key ?[31m?? here."


@given(what=PARTS, why=PARTS, cure=PARTS)
def test_any_text_becomes_one_printable_line(what: str, why: str, cure: str) -> None:
    line = str(TaesdError(what, why, cure))
    assert line.isprintable()
    assert json.loads(json.dumps(line)) == line
    line.encode()


def test_what_was_said_is_remembered_within_a_bound() -> None:
    assert [log_once("bounded", "once") for _ in range(2)] == [True, False]
    for number in range(2 * errors._MOST_SAID):
        log_once(f"bounded {number}", "a name from outside")
    assert len(errors._said) <= errors._MOST_SAID
