import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptgraft.errors import InputError
from promptgraft.study.marked import inline, read_marked

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(SCALARS, lambda below: st.lists(below, max_size=4) | st.dictionaries(TEXT, below, max_size=4))
CHUNKS = [*" \n\t\"'[]{}-?:,#&*!|>%@`a0~\\.\r=\u2028\ufeff\x85\x00\x01é"]
CHUNKS += [
    "- ",
    ": ",
    "? ",
    "---\n",
    "...\n",
    "&a ",
    "*a",
    "!!x ",
    "%YAML 1.2\n",
    "|\n ",
    ">-\n",
    "\\U00110000",
    "\\ud800",
    "<<",
]


def tuples(value):
    if isinstance(value, dict):
        return {key: tuples(below) for key, below in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, list) else value


@given(VALUES)
def test_what_inline_writes_is_read_back(value):
    read = read_marked(f"a: {inline(value)}\n", "f").value["a"]
    assert read == tuples(value)
    assert repr(read) == repr(tuples(value))  # 1 is not 1.0, and true not 1


@given(st.lists(st.sampled_from(CHUNKS), max_size=30).map("".join) | st.text())
def test_any_text_is_read_or_refused(text):
    message = ""
    try:
        read_marked(text, "f")
    except InputError as error:
        message = str(error)
    assert message == "" or (message.startswith("f:") and "\n" not in message)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-3", 1e-3),
        (".5", 0.5),
        ("-0x10", "-0x10"),
        ("0x10", 16),
        ("0o17", 15),
        ("010", 10),
        ("1_000", "1_000"),
        ("+3", 3),
        ("yes", "yes"),
        ("off", "off"),
        ("True", True),
        ("~", None),
        ("", None),
        ("1:30", "1:30"),
        ("'3'", "3"),
        ('"true"', "true"),
        ("dir:/a b", "dir:/a b"),
    ],
)
def test_plain_scalars_are_those_of_yaml_1_2(written, value):
    read = read_marked(f"a: {written}", "f").value["a"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: 2\na: 3", 3, "key 'a' stands here again; line 1 has it already"),
        ("x:\n  - {b: 1, b: 2}", 2, "key 'b' stands here again"),
        ("a:\n\t- b", 2, "a tab stands where only spaces may"),
        ("a: [1\nb: 2\n", 2, "this is no YAML"),
        ("a: b: c", 1, "mapping values are not allowed here"),
        ("a: &x 1", 1, "anchors and aliases are not read; write the value out"),
        ("a: 1\nb: *x", 2, "anchors and aliases are not read"),
        ("&x a: 1", 1, "anchors and aliases are not read"),
        ("a: !!python/object:os.system x", 1, "tags (!) are not read"),
        ("!x a: 1", 1, "tags (!) are not read"),
        ("%YAML 1.1\n---\na: yes", 2, "directives (%) are not read"),
        ("a: 1\n---\nb: 1", 2, "a second document starts here"),
        ("# nothing\n", 2, "the file is empty"),
        ("a:\n- .nan", 2, "'.nan' is no finite number"),
        ("a: -.INF", 1, "'-.INF' is no finite number"),
        ("a: 1e999", 1, "'1e999' is no finite number"),
        (f"a: {'9' * 200}", 1, "is too large a number"),
        (f"a: 0x{'f' * 500}", 1, "is too large a number"),
        ("a: 2024-05-01", 1, "is a date to YAML; put it in quotes"),
        ("a: 2024-05-01 10:00:00", 1, "is a date to YAML; put it in quotes"),
        ("1: a", 1, "a key must be text"),
        ("? [a]\n: b", 1, "a key must be text"),
        ("{a: {: 1}}", 1, "a key must be text"),
        ("a: 1\nb: \x07", 2, "character U+0007 is not allowed"),
        ('a: "\\ud83d\\ude00"', 1, "half a character"),
        ("a:\n" + "[" * 100, 2, "nested deeper than 30"),
        ("- " * 100, 1, "nested deeper than 30"),
    ],
)
def test_a_refusal_names_the_line(text, line, message):
    with pytest.raises(InputError) as caught:
        read_marked(text, "f")
    assert str(caught.value).startswith(f"f:{line}: ")
    assert message in str(caught.value)


def test_an_alias_bomb_and_a_flood_cost_nothing():
    bomb = "a0: &a0 [x,x]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n},*a{n}]\n" for n in range(60))
    started = time.perf_counter()
    with pytest.raises(InputError, match="f:1: anchors"):
        read_marked(bomb, "f")
    with pytest.raises(InputError, match="more than 20000 values"):
        read_marked("a: [" + "1," * 400_000 + "]", "f")
    assert time.perf_counter() - started < 10


def test_places_are_those_of_the_text():
    text = "\ufeffa: {b: [x, 'y z' ] }\r\nc: # why\r\n  - d\r\n  - e: 1\r\n    f: two words # here\r\n\r\n# end\r\n"
    read = read_marked(text, "f")
    cut = {keys: text[place.start : place.end] for keys, place in read.places.items()}
    assert cut["a",] == "{b: [x, 'y z' ] }"
    assert cut["a", "b"] == "[x, 'y z' ]"
    assert cut["a", "b", 1] == "'y z'"
    assert cut["c",] == "- d\r\n  - e: 1\r\n    f: two words"
    assert [read.places[keys].line for keys in (("c",), ("c", 0), ("c", 1, "f"))] == [2, 3, 5]
    assert [read.line(keys) for keys in (("c", 1, "g"), ("nothing",))] == [4, 1]
    assert read.at(("c", 1, "e")) == 1
    assert read.at(("c", 7)) is read.at(("c", "x")) is None


def test_floats_survive_writing():
    for number in (1e-05, 1e22, 5e-324, math.pi, -0.0):
        assert read_marked(f"a: {inline(number)}", "f").value["a"] == number


@pytest.mark.parametrize("digits", ["FFFFFFFF", "00110000"])
def test_an_escape_beyond_unicode_is_refused(digits):
    with pytest.raises(InputError, match="f: this is no YAML"):
        read_marked(f'a: "\\U{digits}"', "f")
