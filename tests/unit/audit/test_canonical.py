import json
import math
import random
import struct
from enum import StrEnum
from uuid import UUID

import pytest
import rfc8785

from audit.canonical import MAX_DEPTH, MAX_INTEGER, canonical_json, facts_json, is_canonical, number
from audit.errors import NotCanonical
from tests.unit.audit.vectors import FOLDER, needs_vectors, read


class Colour(StrEnum):
    RED = "red"


@needs_vectors
@pytest.mark.parametrize("name", ["arrays", "french", "structures", "unicode", "values", "weird"])
def test_published_documents_come_out_byte_by_byte(name):
    value = json.loads((FOLDER / "jcs" / "input" / f"{name}.json").read_text(encoding="utf-8"))
    assert canonical_json(value) == (FOLDER / "jcs" / "output" / f"{name}.json").read_bytes()


@needs_vectors
def test_published_numbers_come_out_as_ecmascript_writes_them():
    for case in read("jcs/rfc8785_appendixB_numbers.json")["cases"]:
        (value,) = struct.unpack(">d", bytes.fromhex(case["ieee754_hex"]))
        if case["want"] is None:
            with pytest.raises(NotCanonical):
                number(value)
        else:
            assert number(value) == case["want"]


def test_twenty_thousand_random_doubles_agree_with_another_implementation():
    rng = random.Random(8785)
    for _ in range(20_000):
        (value,) = struct.unpack(">d", rng.randbytes(8))
        if math.isfinite(value):
            assert number(value).encode() == rfc8785.dumps(value)
    for _ in range(20_000):
        value = rng.random() * 10.0 ** rng.randint(-12, 26)
        assert number(value).encode() == rfc8785.dumps(value)


def test_random_documents_agree_with_another_implementation():
    rng = random.Random(3339)
    alphabet = 'aZ09 "\\/\b\f\n\r\t\x01\x1f\x7f\u00e9\u20ac\u2028\ufb33\U0001f600'

    def text():
        return "".join(rng.choices(alphabet, k=rng.randrange(6)))

    def document(depth):
        kind = rng.randrange(8 if depth else 6)
        if kind < 6:
            return [None, True, False, rng.randint(-MAX_INTEGER, MAX_INTEGER), rng.uniform(-1e6, 1e6), text()][kind]
        if kind == 6:
            return [document(depth - 1) for _ in range(rng.randrange(4))]
        return {text(): document(depth - 1) for _ in range(rng.randrange(5))}

    for _ in range(3_000):
        value = document(4)
        data = canonical_json(value)
        assert data == rfc8785.dumps(value)
        assert json.loads(data) == value
        assert is_canonical(data)


def test_keys_sort_by_utf16_code_units_not_by_code_points():
    assert canonical_json({"\ufb33": 1, "\U0001f600": 2}) == '{"\U0001f600":2,"\ufb33":1}'.encode()


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        MAX_INTEGER + 1,
        -MAX_INTEGER - 1,
        "\ud800",
        {"\udc00": 1},
        {1: 2},
        {1, 2},
        b"bytes",
        object(),
        UUID(int=1),
    ],
)
def test_a_value_without_one_form_is_refused(value):
    with pytest.raises(NotCanonical):
        canonical_json([value])


@pytest.mark.parametrize("value", [1.0, {"a": [0.5]}, "nul\0", {"k\0": 1}, {"é": 1}, "\ud800", MAX_INTEGER + 1])
def test_a_records_body_refuses_what_another_reader_might_change(value):
    with pytest.raises(NotCanonical):
        facts_json({"context": value})


def test_a_records_body_writes_ids_and_vocabulary_as_text():
    body = {"id": UUID(int=1), "colour": Colour.RED, "flag": True, "count": 3, "none": None}
    assert facts_json(body) == (
        b'{"colour":"red","count":3,"flag":true,"id":"00000000-0000-0000-0000-000000000001","none":null}'
    )


def test_nesting_has_an_end():
    deep: list = []
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]
    with pytest.raises(NotCanonical, match="nested deeper"):
        canonical_json(deep)


@pytest.mark.parametrize(
    "data", [b'{"b":1,"a":2}', b'{"a": 1}', b'{"a":1,"a":1}', b"1.0", b"NaN", b"", b'"\\u0041"', b"\xff"]
)
def test_any_other_spelling_is_not_canonical(data):
    assert not is_canonical(data)
