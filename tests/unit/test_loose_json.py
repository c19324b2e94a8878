"""JSON as models write it is read as it is meant; valid JSON as json.loads reads it; nothing raises or takes long."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.contracts.loose_json import LONGEST, members, values, without_reasoning

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
SIGNS = st.text(alphabet="{}[]:,'\"“”`\\/*#-+eE.0129truefalsnoy \n\t<>k|｛｝：é\ud800", max_size=300)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{'correct': True, 'critique': None}", {"correct": True, "critique": None}),
        ("{'critique': 'It's wrong', 'correct': False,}", {"critique": "It's wrong", "correct": False}),
        ("{correct: yes, critique: look at the sign}", {"correct": "yes", "critique": "look at the sign"}),
        ("{“correct”: false, “critique”: “Use “ls” again.”}", {"correct": False, "critique": "Use “ls” again."}),
        ('{"correct": false, "critique": "say "no", then"}', {"correct": False, "critique": "say \"no\", then"}),
        ('{"correct": true, // sure\n /* yes */ "critique": "" # none\n}', {"correct": True, "critique": ""}),
        ('{"correct": false, "critique": "The sign."', {"correct": False, "critique": "The sign."}),
        ('{"correct": false, "critique": "The sign.}', {"correct": False, "critique": "The sign."}),
        ('{"correct": true\n "critique": "x"}', {"correct": True, "critique": "x"}),
        ('{"correct": true;; "critique": "x"}', {"correct": True, "critique": "x"}),
        ('{"critique": "a\nb\\d\\n\\u00e9"}', {"critique": "a\nb\\d\né"}),
        ('{"url": "http://x.y/z", "n": [1, 2.5, ], }', {"url": "http://x.y/z", "n": [1, 2.5]}),
        ("｛\"correct\"：true，\"critique\"：\"好\"｝", {"correct": True, "critique": "好"}),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('Sure, here: {"a": {"b": 1}} Hope it helps {smile}', {"a": {"b": 1}}),
        ('\ufeff{"a": 1}', {"a": 1}),
        ('{"accuracy": 8/10}', {"accuracy": "8/10"}),
    ],
)  # fmt: skip
def test_the_usual_slips_are_read_as_they_are_meant(text: str, expected: Any):
    assert values(text)[0] == expected


def test_all_top_level_objects_are_read_in_order():
    text = 'The student wrote {"a": 1, "b": {"c": 2}}; {not this} so {\'a\': 3} and {"d": "{\\"e\\": 4}"}.'
    assert values(text) == [{"a": 1, "b": {"c": 2}}, {"a": 3}, {"d": '{"e": 4}'}]
    assert values("Here:\n[\"a?\", 'b?',]\nDone [x", "[")[0] == ["a?", "b?"]


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("<think>a {1}</think> b", "b"),
        ("a </think> b", "b"),
        ("<think>never ends", ""),
        ("<THINKING>a</THINKING>\n<think>b</think>\nc", "c"),
        ("[THINK]a[/THINK]c", "c"),
        ("The tags <think> and </think> are words here.", "The tags <think> and </think> are words here."),
        ("no tag", "no tag"),
    ],
)
def test_reasoning_before_the_answer_is_left_out(text: str, rest: str):
    assert without_reasoning(text) == rest


def test_what_the_token_limit_cut_off_does_not_count():
    assert values('{"a": 1, "b": 1', cut_off=True) == [{"a": 1}]
    assert values('{"a": "half a sen', cut_off=True) == [{"a": "half a sen"}]
    assert values('{"a": 1} and I think', cut_off=True) == []
    assert values('{"a": 1}\n```', cut_off=True) == [{"a": 1}]


def test_fields_without_braces():
    assert members('"correct": true, "critique": "x"}') == {"correct": True, "critique": "x"}
    assert members("correct: no\ncritique: look again") == {"correct": "no", "critique": "look again"}
    assert members("I cannot help with that.") == {}


@settings(deadline=None)
@given(JSON)
def test_valid_json_is_read_as_json_loads_reads_it(value: Any):
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert values(text) == [json.loads(text)]


@settings(deadline=None)
@given(st.dictionaries(st.text(), JSON, min_size=1, max_size=3), st.text(alphabet="abc .,\n", max_size=20))
def test_a_valid_object_in_prose_is_read_as_json_loads_reads_it(value: Any, prose: str):
    assert values(f"{prose}\n```json\n{json.dumps(value)}\n```\n{prose}")[0] == value


@settings(max_examples=500, deadline=None)
@given(SIGNS, st.booleans())
def test_nothing_raises(text: str, cut_off: bool):
    for opener in "{[":
        for value in values(text, opener, cut_off):
            json.dumps(value)
    members(text)


@pytest.mark.parametrize(
    "part", ['{"a":', '{"a":"', "[", "{{", '{"a": " " ', "{a:1,", "{a:", "/*", "{x ", '{"x', "{'a': '',\n'", "\\", "{a:b\n", "<think>"]
)  # fmt: skip
def test_nothing_takes_long(part: str):
    text = ("{" + part * LONGEST)[: 2 * LONGEST]
    began = time.process_time()
    for opener in "{[":
        values(text, opener)
    members(text)
    assert time.process_time() - began < 4
