"""Weights in prompts: what is read as one, and everything that is not."""

import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workers.prompt_weights import HIGHEST, LOWEST, Weighted, escaped, text_of, weighted

PIECES = [*"()[]\\:.,!+- 0129ab夜\n", "(red:1.2)", ":0.5)", "[["]
PROMPTS = st.lists(st.sampled_from(PIECES), max_size=60).map("".join) | st.text()


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", []),
        ("  ", [("  ", 1)]),
        ("a red car", [("a red car", 1)]),
        ("a (red:1.2) car", [("a ", 1), ("red", 1.2), (" car", 1)]),
        ("a (red) car", [("a ", 1), ("red", 1.1), (" car", 1)]),
        ("a [red] car", [("a ", 1), ("red", 0.9091), (" car", 1)]),
        ("((red))", [("red", 1.21)]),
        ("([red])", [("red", 1)]),
        ("(a (red:1.5) car)", [("a ", 1.1), ("red", 1.65), (" car", 1.1)]),
        ("(a, (b:1.2), c:0.5)", [("a, ", 0.5), ("b", 0.6), (", c", 0.5)]),
        ("(red: .5 )", [("red", 0.5)]),
        ("(red:1.)", [("red", 1)]),
        ("(red:0)", [("red", 0)]),
        ("(((((((((red:2)))))))))", [("red", 2)]),
        (r"a \(red\) \[car\] \\", [(r"a (red) [car] " + "\\", 1)]),
        (r"(a \(b\):1.3)", [("a (b)", 1.3)]),
        (r"a\b \n", [(r"a\b \n", 1)]),
        ("a (red car", [("a (red car", 1)]),
        ("a red) car", [("a red) car", 1)]),
        ("((red)", [("(", 1), ("red", 1.1)]),
        (":) ;( (a", [(":) ;( (a", 1)]),
        ("() [] ( ) (:1.2)", [("() [] ( ) (:1.2)", 1)]),
        ("(a [b)] c", [("a [b", 1.1), ("] c", 1)]),
        ("(16:9)", [("16:9", 1.1)]),
        ("(red:-1)", [("red:-1", 1.1)]),
        ("(red:much)", [("red:much", 1.1)]),
        ("[red:1.5]", [("red:1.5", 0.9091)]),
        ("c++ a--b word+ (x)-", [("c++ a--b word+ ", 1), ("x", 1.1), ("-", 1)]),
        ("--steps 3, 1,000", [("--steps 3, 1,000", 1)]),
        ('("a", "b").and()', [('"a", "b"', 1.1), (".and()", 1)]),
        ("(a:1.2)(b:1.2)", [("a b", 1.2)]),
        ("na(ked:1)", [("na ked", 1)]),
        ("(夜明け:1.3)、鷺", [("夜明け", 1.3), ("、鷺", 1)]),
        (" (a:1.2) (b:1.3) ", [(" a ", 1.2), ("b ", 1.3)]),
    ],
)
def test_what_is_read_as_a_weight(prompt: str, expected: list[tuple[str, float]]) -> None:
    assert weighted(prompt) == expected


@given(PROMPTS)
@example("(" * 5000 + ")" * 5000)
@example("[" * 5000 + ")" * 5000)
def test_any_text_is_read(prompt: str) -> None:
    """Weights stay in their range, neighbours differ, and only a prompt's own characters come out, in their order."""
    found = weighted(prompt)
    assert all(LOWEST <= part.weight <= HIGHEST and part.text for part in found)
    assert all(a.weight != b.weight for a, b in pairwise(found))
    assert len(found) == 1 or all(part.text.strip() for part in found)
    left = iter(prompt)
    assert all(character in left for character in re.sub(r"\s", "", text_of(found)))


@given(st.text())
def test_plain_text_stays_as_it_is(text: str) -> None:
    expected = [Weighted(text, 1)] if text else []
    assert weighted(escaped(text)) == expected
    assert text_of(expected) == text
    if not set(text) & set("()[]\\"):
        assert weighted(text) == expected


def test_a_product_beyond_all_numbers_is_still_a_weight() -> None:
    """Two to the 1100th is infinite, and infinity times 0 would draw nothing but NaN."""
    assert weighted("(" * 1100 + "(x:0)" + ":2)" * 1100) == [Weighted("x", 0)]
    assert weighted("(" * 1100 + "x" + ":2)" * 1100) == [Weighted("x", 2)]
