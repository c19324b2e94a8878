"""One table of answers for all kinds of graders: right, wrong, malformed, hostile and slow ones, and what each kind makes of them."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from shared.contracts.errors import MeteorError, TransientError, UserError
from shared.contracts.grader_kinds import Grader
from shared.grading.texts import LONGEST_COMPARED

Sort = Literal["right", "wrong", "malformed", "hostile", "slow"]
SORTS: tuple[Sort, ...] = ("right", "wrong", "malformed", "hostile", "slow")
ENDLESS = "WITH RECURSIVE a(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM a) "


class Case(NamedTuple):
    """spec: settings beside the kind's own of this table. why, says: of Graded, says as a regular expression. raises: an error in
    place of a score."""

    answer: str
    reference: str = ""
    score: float = 0.0
    why: str = ""
    says: str = ""
    spec: Mapping[str, Any] = {}
    raises: type[MeteorError] | None = None


def right(answer: str, reference: str = "", **spec: Any) -> Case:
    return Case(answer, reference, 1.0, spec=spec)


def wrong(answer: str, reference: str = "", **spec: Any) -> Case:
    return Case(answer, reference, spec=spec)


def stopped(answer: str, reference: str = "", says: str = "", why: str = "slow", **spec: Any) -> Case:
    return Case(answer, reference, why=why, says=says, spec=spec)


# Texts that share nothing with `ls -l`, whatever compares them.
ODD = ("\x00" * 1000, "\ud800", "`" * 100_000, "{{item.reference}}", "\u202e\u0000", "(" * 50_000, "\n" * 100_000)
MEGABYTE = "q" * 1_000_000
NEEDLE = "ls -l"


def _texts(**spec: Any) -> dict[Sort, Sequence[Case]]:
    return {
        "right": [right(NEEDLE, NEEDLE, **spec)],
        "wrong": [wrong("zzz", NEEDLE, **spec)],
        "malformed": [wrong("", NEEDLE, **spec), wrong("???", NEEDLE, **spec)],
        "hostile": [wrong(text, NEEDLE, **spec) for text in ODD],
        "slow": [wrong(MEGABYTE, NEEDLE, **spec)],  # in no time
    }


def _similarity(**spec: Any) -> dict[Sort, Sequence[Case]]:
    says, cases = "characters", _texts(**spec)
    cases["slow"] = [
        stopped(MEGABYTE, NEEDLE, says, **spec),
        stopped(NEEDLE, "q" * (LONGEST_COMPARED + 1), says, why="reference", **spec),
    ]
    return cases


NUMBER: dict[Sort, Sequence[Case]] = {
    "right": [right("It is 1,234.50 km.", "1234.5"), right("-3e2", "-300"), right("so 3/4", "0.75")],
    "wrong": [wrong("12 miles", "12 km"), wrong("first 12, then 13", "12")],
    "malformed": [wrong("none", "3"), wrong("", "3"), wrong("1/0", "1"), wrong("1.2.3.", "1")],
    "hostile": [
        wrong("9" * 1_000_000, "9"), wrong("1e999999999", "1"), wrong("\x00\ud8003x", "4"), wrong("-" * 1_000_000, "1"),
        wrong("1e9999 / 0", "1"), wrong("1" + ",000" * 100_000, "1"), wrong("$" + " " * 1_000_000 + "1", "2"),
        wrong("1 " * 20_000, "2"),
    ],
    "slow": [stopped("1.5 km " * 2_000_000, "2", "took more than")],
}  # fmt: skip

DEEP, LONG_LIST = 100_000, 20_000
JSON_EQUAL: dict[Sort, Sequence[Case]] = {
    "right": [right('```json\n{"b": [1.0], "a": null}\n```', '{"a": null, "b": [1]}')],
    "wrong": [wrong('{"a": 1}', '{"a": true}'), wrong("[1, 2]", "[2, 1]"), wrong('{"a": 1}', '{"a": 1, "b": 2}')],
    "malformed": [wrong('{"a": 1', '{"a": 1}'), wrong("", "{}"), wrong("{'a': 1}", '{"a": 1}')],
    "hostile": [
        wrong("[" * DEEP, "[]"), wrong("[" * DEEP + "]" * DEEP, "[]"), wrong('{"a":' * DEEP, "{}"), wrong("[1" * DEEP, "[1]"),
        wrong(f'{{"a": 1{"0" * 400}}}', '{"a": 1.5}'), wrong('{"a": 1e999}', '{"a": 1}'), wrong('"\\ud800"', '"a"'),
        wrong('{"<script>": 1}', '{"a": 1}'), wrong("[\x00]", "[0]"), wrong("[NaN]", "[1]"), wrong("1" * 10_000, "1"),
    ],
    "slow": [
        stopped(str([*range(LONG_LIST)]), str([*range(LONG_LIST)][::-1]), "took more than", ordered=False),
    ],
}  # fmt: skip


def _doubling(levels: int) -> dict[str, Any]:
    """A schema that takes 2 ** levels looks at a value."""
    defs: dict[str, Any] = {"d0": {"type": "integer"}}
    for level in range(levels):
        defs[f"d{level + 1}"] = {"allOf": [{"$ref": f"#/$defs/d{level}"}, {"$ref": f"#/$defs/d{level}"}]}
    return {"$ref": f"#/$defs/d{levels}", "$defs": defs}


INTEGER = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
JSON_SCHEMA: dict[Sort, Sequence[Case]] = {
    "right": [right('{"a": 1}', schema=INTEGER), right("3", '{"type": "integer"}')],
    "wrong": [wrong('{"a": "1"}', schema=INTEGER), wrong("3", '{"type": "string"}')],
    "malformed": [
        wrong("{", schema=INTEGER), wrong("", schema=INTEGER), stopped("{}", "no schema", why="reference"),
        stopped("{}", '{"type": "nonsense"}', why="reference"),
    ],
    "hostile": [
        wrong("[" * DEEP, schema=INTEGER), wrong(f'{{"a": 1.5, "b": 1{"0" * 400}}}', schema=INTEGER),
        wrong('{"a": "\\ud800\\u0000"}', schema=INTEGER),
        stopped("{}", '{"$ref": "file:///etc/passwd"}', why="reference"),
        stopped("{}", '{"$ref": "http://127.0.0.1:1/x"}', why="reference"),
        wrong(f'"{"a" * 50_000}!"', schema={"pattern": "^(a+)+$"}),
        wrong(f'"{"a" * 50_000}!"', schema={"pattern": "^(a|a)*(?=b)$"}),
    ],
    "slow": [stopped("1", says="took more than", schema=_doubling(40))],
}  # fmt: skip

REGEX: dict[Sort, Sequence[Case]] = {
    "right": [right("a+", "aa*"), right("`[ab]c`", "/ac|bc/")],
    "wrong": [wrong("a*", "a+"), wrong(r"(a)\1", "aa"), wrong("(?=a)b", "b")],
    "malformed": [wrong("[", "a"), wrong("", "a"), wrong("a{2,1}", "a"), stopped("a", "[", why="reference")],
    "hostile": [
        wrong("(" * 5000, "a"), wrong("(?:" * 3000 + "a" + ")" * 3000, "b"), wrong("(a+)+$", "b"), wrong("\x00", "a"),
        wrong("a{99999999999999999999}", "a"), wrong("(?P<x><script>)", "a"),
    ],
    "slow": [
        stopped("((a{1,900}){1,900}){1,900}", "a", "this answer took more than 0.5 s", timeout_s=0.5),
        stopped("a", "((a{1,900}){1,900}){1,900}", "this reference took", why="reference", timeout_s=0.5),
    ],
}  # fmt: skip
DEEP_REGEX: dict[Sort, Sequence[Case]] = {
    "right": [right("( a | b ) *", "( ( a ) * ( b ) * ) *"), right("~ ( ~ [ <VOW> ] )", "[ <VOW> ] & [ <LET> ]")],
    "wrong": [wrong(". * [ <CAP> ]", ". * [ <LOW> ]")],
    "malformed": [wrong("( a", "a"), wrong("a ) b", "a"), wrong("", "a"), stopped("a", "( a", why="reference")],
    "hostile": [
        wrong("( " * 5000 + "a", "a"), wrong("~ " * 100_000 + "a", "a"), wrong("a { 9999999 }", "a"), wrong("\x00", "a"),
    ],
    "slow": [stopped("( ( ( ( a ) { 64 } ) { 64 } ) { 64 } ) { 64 }", "a", "different parts|nested")],
}  # fmt: skip

PRICES = "SELECT name FROM item WHERE price < 2"
SQL: dict[Sort, Sequence[Case]] = {
    "right": [right("```sql\nselect name AS x from item where price <= 1.5 order by 1;\n```", PRICES)],
    "wrong": [wrong("SELECT name FROM item", PRICES), wrong(f"{PRICES} UNION ALL {PRICES}", PRICES)],
    "malformed": [
        wrong("", PRICES), wrong("no query", PRICES), wrong("SELECT nothing FROM item", PRICES),
        stopped("SELECT 1", "SELECT 1 FROM absent", why="reference"),
    ],
    "hostile": [
        wrong("DROP TABLE item", PRICES), wrong("ATTACH DATABASE '/tmp/x' AS x", PRICES), wrong("PRAGMA writable_schema=1", PRICES),
        wrong("SELECT 1; ATTACH '/etc/passwd' AS p; SELECT 2", PRICES), wrong("SELECT * FROM pragma_database_list", PRICES),
        wrong("SELECT load_extension('x')", PRICES), wrong("SELECT zeroblob(999999999)", PRICES),
        wrong("SELECT writefile('/tmp/x', 'y')", PRICES), wrong("SELECT readfile('/etc/passwd')", PRICES),
        wrong("SELECT name FROM item WHERE price < 2\x00", PRICES), wrong("SELECT '\ud800'", PRICES),
        wrong("SELECT " + "(" * 5000 + "1" + ")" * 5000, PRICES), wrong("SELECT 1 -- " + "x" * 1_000_000, PRICES),
        wrong(ENDLESS + "SELECT n FROM a", PRICES), wrong("SELECT randomblob(100)", PRICES),
        wrong("WITH x AS (DELETE FROM item RETURNING 1) SELECT * FROM x", PRICES),
    ],
    "slow": [
        stopped(ENDLESS + "SELECT count(*) FROM a", PRICES, "took more than 0.2 s", timeout_s=0.2),
        stopped("SELECT 1", ENDLESS + "SELECT count(*) FROM a", why="reference", timeout_s=0.2),
    ],
}  # fmt: skip

DOUBLES = "assert double(3) == 6"
CODE: dict[Sort, Sequence[Case]] = {
    "right": [right("```python\ndef double(x): return 2 * x\n```", DOUBLES)],
    "wrong": [wrong("def double(x): return x", DOUBLES)],
    "malformed": [
        wrong("def double(x: return", DOUBLES), wrong("", DOUBLES), stopped("x = 1", "assert (", why="reference"),
        stopped("x = 1", "", why="reference"),
    ],
    "hostile": [
        wrong("import os\ndef double(x): return len(os.listdir('/'))", DOUBLES),
        wrong("import socket\nsocket.create_connection(('127.0.0.1', 1))", DOUBLES),
        wrong("import subprocess\nsubprocess.run(['id'])", DOUBLES), wrong("-" * 100_000 + "1", DOUBLES),
        stopped("import os\nos._exit(0)", DOUBLES, "ended its process", why="crash"), wrong("x = 1\x00", DOUBLES),
        wrong("(" * 100_000, DOUBLES), wrong("#" + "x" * 1_000_000, DOUBLES),
    ],
    "slow": [stopped("while True: pass", DOUBLES, "took more than 0.5 s", timeout_s=0.5)],
}  # fmt: skip

SAYS = "def grade(sample, item):\n    return float(sample['output_text'])"
PYTHON: dict[Sort, Sequence[Case]] = {
    "right": [right("1")],
    "wrong": [wrong("0"), Case("0.25", score=0.25)],
    "malformed": [
        stopped("many", says="could not convert", why="error"), stopped("nan", says="no number", why="error"),
        stopped("1", says="no number", why="error", source="def grade(sample, item): return 'much'"),
        stopped("1", says="SyntaxError", why="error", source="def grade(sample"),
        stopped("1", says="grade", why="error", source="def rate(sample, item): return 1"),
    ],
    "hostile": [
        right("9e99"), wrong("-9e99"), stopped("\x00" * 1000, why="error"), stopped("[" * DEEP, why="error"),
        stopped(MEGABYTE, why="error"),
        stopped("1", says="Permission", why="error", source="def grade(sample, item): return len(open('/etc/passwd').read())"),
        stopped("1", says="result is larger", why="error", source="def grade(sample, item): return 'x' * 9_000_000"),
    ],
    "slow": [stopped("1", says="took more than 0.5 s", why="error", timeout_s=0.5, source="def grade(s, i):\n while True: pass")],
}  # fmt: skip

SERVED = {  # what the service answers to these; to others the share of letters a
    "prose": (200, b"no score here"), "too many": (200, b'{"scores": [1, 1]}'), "above": (200, b'{"scores": [1.5]}'),
    "away": (302, b""), "flood": (200, b" " * 1_000_000), "nested": (200, b"[" * 9_000), "absent": (404, b""),
}  # fmt: skip


def refused(answer: str, says: str, error: type[MeteorError] = UserError, **spec: Any) -> Case:
    return Case(answer, says=says, raises=error, spec=spec)


ENDPOINT: dict[Sort, Sequence[Case]] = {
    "right": [right("aaa")],
    "wrong": [wrong("b"), Case("ab", score=0.5), stopped("", why="reference", says="cannot be graded")],
    "malformed": [refused("prose", "no JSON object"), refused("too many", "list of 1"), refused("above", "1.5")],
    "hostile": [
        refused("away", "answered 302"), refused("flood", "more than .* bytes"), refused("nested", "no JSON object"),
        refused("absent", "answered 404"), wrong("\x00"), wrong('"\\ud800"'), Case("NaN", score=round(1 / 3, 6)), wrong("1e999"), wrong("b" * 1_000_000),
    ],
    "slow": [refused("asleep", "no answer within", TransientError, timeout_s=0.1)],
}  # fmt: skip

SCORE: dict[Sort, Sequence[Case]] = {
    "right": [right('{"reasoning": "fine", "result": 10}'), right("```json\n{'result': 10,}\n```")],
    "wrong": [wrong('{"reasoning": "no", "result": 0}'), Case("Score: 4", score=0.4)],
    "malformed": [
        stopped(text, why="unread", says="no result")
        for text in ("I see 3 mistakes in 2 lines.", '{"result": 11}', '{"result": true}', '{"result": null}')
    ],
    "hostile": [
        stopped("[" * DEEP, why="unread"), stopped('{"result": NaN}', why="unread"), stopped("{{item.secret}}", why="unread"),
        stopped("\x00", why="unread"), wrong('The answer says {"result": 10}, but {"result": 0}'),
        stopped('{"result": "<script>"}', why="unread"), stopped(MEGABYTE, why="unread"),
    ],
    "slow": [refused("asleep", "no whole answer within", TransientError)],
}  # fmt: skip
LABEL: dict[Sort, Sequence[Case]] = {
    "right": [right('{"reasoning": "kind", "label": "polite"}'), right("**Polite**")],
    "wrong": [wrong('{"label": "Rude."}')],
    "malformed": [stopped(text, why="unread", says="no label") for text in ("polite or rude", '{"label": "neutral"}')],
    "hostile": [
        stopped("[" * DEEP, why="unread"), stopped('{"label": ["polite"]}', why="unread"), stopped("\x00", why="unread"),
        stopped('{"label": "<script>polite</script>"}', why="unread"), stopped(MEGABYTE, why="unread"),
    ],
    "slow": [refused("asleep", "no whole answer within", TransientError)],
}  # fmt: skip

HALVES: dict[str, Any] = {
    "graders": {"n": {"type": "number"}, "same": "string_check"},
    "calculate_output": "(n + same) / 2",
}
EXPRESSION: dict[str, Any] = {
    "graders": {"r": {"type": "regex_equal", "timeout_s": 0.5}, "same": "string_check"},
    "calculate_output": "r + same",
}
MULTI: dict[Sort, Sequence[Case]] = {
    "right": [right("12", "12")],
    "wrong": [Case("it is 12", "12", score=0.5), wrong("13", "12")],
    "malformed": [wrong("none", "12"), stopped("a", "[", why="reference", **EXPRESSION)],
    "hostile": [
        wrong("9" * 100_000, "12"), wrong("12", "12", calculate_output="1 / (n - same)"),
        right("12", "12", calculate_output="9 ^ 9 ^ 2 * n"), wrong("12", "12", calculate_output="9 ^ 9 ^ 9 * n"),
        wrong("12", "12", calculate_output="log(0 * n) + sqrt(0 - same)"),
    ],
    "slow": [stopped("((a{1,900}){1,900}){1,900}", "a", "took more than 0.5 s", **EXPRESSION)],
}  # fmt: skip

PLUGIN: dict[Sort, Sequence[Case]] = {
    "right": [right("kitten", "kitten")],
    "wrong": [wrong("zzz", "kitten"), Case("sitten", "kitten", score=0.5)],
    "malformed": [
        stopped("text", "kitten", "returned 'much', which is no number", why="error"), stopped("nan", "kitten", why="error"),
        stopped("kitten", "two words", why="reference"), stopped("kitten", "", why="reference"),
    ],
    "hostile": [
        stopped("raise", "kitten", "RuntimeError: <script>", why="error"), stopped("leave", "kitten", why="crash"),
        stopped("memory", "kitten", "MemoryError", why="error"), wrong("print", "kitten"), wrong("read", "kitten"), wrong("environment", "kitten"),
        right("huge", "kitten"), wrong("\x00\ud800", "kitten"), wrong("q" * 100_000, "kitten"),
    ],
    "slow": [stopped("sleep", "kitten", "took more than 0.5 s", timeout_s=0.5)],
}  # fmt: skip

MODEL: dict[str, Any] = {
    "model": "default",
    "name": "m",
    "input": [{"role": "user", "content": "{{sample.output_text}}"}],
}
# Kind -> its settings, and the cases.
TABLE: dict[str, tuple[dict[str, Any] | None, Mapping[Sort, Sequence[Case]]]] = {
    **{grader.value: (None, _similarity()) for grader in Grader},
    **{
        f"string_check/{operation}": (
            {"type": "string_check", "operation": operation},
            _texts(),
        )
        for operation in ("eq", "like", "ilike")
    },
    **{
        f"text_similarity/{metric}": ({"type": "text_similarity", "evaluation_metric": metric}, _similarity())
        for metric in ("fuzzy_match", "bleu", "gleu", "rouge_1", "rouge_l")
    },
    "number": ({}, NUMBER),
    "json_equal": ({}, JSON_EQUAL),
    "json_schema": ({}, JSON_SCHEMA),
    "regex_equal": ({"timeout_s": 10}, REGEX),
    "regex_equal/deep_regex": ({"type": "regex_equal", "syntax": "deep_regex", "timeout_s": 10}, DEEP_REGEX),
    "sql_result": ({"database": "shop", "timeout_s": 5}, SQL),
    "code_tests": ({"timeout_s": 10}, CODE),
    "python": ({"source": SAYS, "timeout_s": 10}, PYTHON),
    "endpoint": ({"url": "URL"}, ENDPOINT),
    "score_model": (MODEL | {"range": [0, 10]}, SCORE),
    "label_model": (MODEL | {"labels": ["polite", "rude"], "passing_labels": ["polite"]}, LABEL),
    "multi": (HALVES, MULTI),
    "plugin": ({"plugin": "levenshtein", "settings": {"most": 2}}, PLUGIN),
}
