"""The negative prompt's table reads whole words and counts people."""

import pytest

from workers.negative import BASE, SEVERAL, negative_prompt, people


@pytest.mark.parametrize(
    ("prompt", "women", "men", "persons"),
    [
        ("a red lighthouse on a cliff", 0, 0, 0),
        ("a network of woman-made toys, 1024 px", 0, 0, 0),
        ("the same woman reading in a library", 1, 0, 0),
        ("two sisters and a man hiking in the alps, telephoto", 2, 1, 0),
        ("two (very old:1.2) men", 0, 2, 0),
        ("2girls, 1boy", 2, 1, 0),
        ("man, woman", 1, 1, 0),
        ("a couple walking", 0, 0, 2),
        ("a couple of dancers", 0, 0, 2),
        ("a man and his dog; the man smiles", 0, 1, 0),
        ("a woman and another woman", 2, 0, 0),
        ("a girl with 3 balloons and a man", 1, 1, 0),
        ("a woman's face", 1, 0, 0),
    ],
)
def test_people_are_counted_in_whole_words(prompt: str, women: int, men: int, persons: int) -> None:
    assert people(prompt) == {"women": women, "men": men, "persons": persons}


def test_terms_for_several_people_only_where_there_are_several() -> None:
    assert negative_prompt("a woman in a network of men-only clubs") == ", ".join(BASE)
    mixed = negative_prompt("two sisters and a man")
    for term in (*BASE, *SEVERAL, "only women", "missing man"):
        assert term in mixed
    assert "only women" not in negative_prompt("three men at a bar")
