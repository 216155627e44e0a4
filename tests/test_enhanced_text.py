"""The judge of enhanced prompts: what it takes off, what it refuses, and that its verdict is its last word."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from workers.enhanced_text import MOST_WORDS, judged, too_long, words

ASKED = "a heron at dawn"
GOOD = "A grey heron stands in shallow water at dawn, mist over the lake, soft golden light."
LONG = ", ".join(f"heron{place} and dawn{place} beside reed{place}" for place in range(40))


@pytest.mark.parametrize(
    "raw",
    [
        GOOD,
        f"  {GOOD}\n",
        f'"{GOOD}"',
        f"“{GOOD}”",
        f"```\n{GOOD}\n```",
        f"```text\n{GOOD}",
        f"Sure! Here's an enhanced prompt:\n\n{GOOD}",
        f"Certainly! Here is a more detailed description of the scene:\n{GOOD}",
        f'Of course.\n\n**Enhanced Prompt:** "{GOOD}"',
        f"Enhanced prompt (one paragraph): {GOOD}",
        f"Description: {GOOD}",
        f"Okay, this is the rewritten version: {GOOD}",
        f"### Enhanced description:\n{GOOD}",
        f"- {GOOD}",
        f"{GOOD}<|im_end|>\n<|im_start|>user\nmore",
        f"{GOOD}</s>",
        f"{GOOD}\n\nIdea: a cat\nDescription: a cat sits",
        f"{GOOD}\n\nNote: I added light and mist.",
        f"{GOOD} Let me know if you would like changes!",
        f"{GOOD}\n\nThis prompt captures the mood of the morning.",
        f"<think>The user wants a heron.</think>\n{GOOD}",
        GOOD.replace(", mist", ",\nmist"),
        GOOD.replace("mist", "mist\x00\u200b"),
        GOOD.replace(", soft", ", mist over the lake, mist over the lake, soft"),
    ],
)
def test_what_stands_around_a_text_is_taken_off(raw: str) -> None:
    assert judged(ASKED, raw) == (GOOD, None)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("", "it gave no text"),
        (" \n\t", "it gave no text"),
        ("<|im_end|>", "it gave no text"),
        ("Sure! Here's the prompt:", "it gave no text"),
        ("A heron.", "it gave fewer than 3 words"),
        ("A heron at dawn.", "it adds nothing"),
        ("I'm sorry, but I can't help with that request.", "it refused"),
        ("I cannot create content of that kind.", "it refused"),
        ("Unfortunately, that is not something to draw.", "it refused"),
        ("A heron. As an AI language model I keep it short.", "it refused"),
        ("Certainly! However, I won't write that.", "it refused"),
        ("抱歉，我无法完成这个请求。", "it refused"),
        ("You are a helpful assistant that writes prompts for images.", "it leaks its template"),
        ("Rewrite the prompt with more light and more mist.", "it leaks its template"),
        ("assistant\nA heron at dawn in the mist.", "it leaks its template"),
        ("A heron at dawn with {{style}} and soft light.", "it leaks its template"),
        ("The original prompt is about a heron at dawn in the mist.", "it leaks its template"),
        ("See https://example.com/heron for a heron at dawn.", "it is code or a link"),
        ("heron 4 5 6 7 8 === 99 100 !!! ### 12 34 56 78 @@@", "it is mostly no letters"),
        ("the heron and the dawn and " * 9, "it repeats itself"),
        ("very very very very very very very heron dawn", "it repeats itself"),
    ],
)
def test_what_is_no_description_is_refused(raw: str, reason: str) -> None:
    assert judged(ASKED, raw) == (None, reason)


@pytest.mark.parametrize(
    ("asked", "raw", "expected"),
    [
        (ASKED, "Mist drifts over a quiet lake.", "a heron at dawn, Mist drifts over a quiet lake."),
        (ASKED, "At dawn, mist drifts over a lake.", "a heron at dawn, At dawn, mist drifts over a lake."),
        ("  two\nherons. ", "Mist over a quiet lake.", "two herons, Mist over a quiet lake."),
        ("a heron", "Herons wade through the reeds.", "Herons wade through the reeds."),
        ("夜明けの鷺", "A heron at dawn, soft light", "夜明けの鷺, A heron at dawn, soft light"),
        ("鷺", "鷺在晨雾中站立，金色的光，金色的光，安静的湖", "鷺在晨雾中站立，金色的光，安静的湖"),
        ("", "A heron wades through reeds.", "A heron wades through reeds."),
        ('"heron"', "Mist drifts over a quiet lake.", '"heron", Mist drifts over a quiet lake.'),
    ],
)
def test_the_words_that_were_asked_for_are_kept(asked: str, raw: str, expected: str) -> None:
    """Where one is lost, the original stands before the text."""
    assert judged(asked, raw) == (expected, None)


def test_a_long_text_ends_with_a_whole_clause() -> None:
    text, reason = judged(ASKED, LONG)
    assert reason is None
    assert text is not None
    assert MOST_WORDS - 10 < len(words(text)) <= MOST_WORDS
    assert LONG.startswith(f"{text},")
    run_on = " ".join(f"heron{place} dawn{place}" for place in range(100))
    text, _ = judged(ASKED, run_on)
    assert text is not None
    assert len(words(text)) == MOST_WORDS


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (f"{GOOD} In the backgr", GOOD),
        ("A heron at dawn, mist over the la", None),
        ("A heron wades at dawn, mist over the la", "A heron wades at dawn"),
        ("A heron wades at dawn, mist,", "A heron wades at dawn, mist"),
        (GOOD, GOOD),
    ],
)
def test_what_was_cut_off_loses_its_last_clause(raw: str, expected: str | None) -> None:
    assert judged(ASKED, raw, finished=False)[0] == expected


def test_what_was_cut_off_in_its_first_clause_is_none() -> None:
    reason = "it was cut off before its first clause was whole"
    assert judged(ASKED, "A heron that wades thr", finished=False) == (None, reason)


def test_an_elaborate_prompt_is_left_alone() -> None:
    """Its own words would not fit into what an enhanced one may have."""
    asked = "heron " * (MOST_WORDS + 1)
    reason = "the prompt has 121 words already, and an enhanced one may have 120"
    assert too_long(asked) == reason
    assert judged(asked, GOOD) == (None, reason)
    assert too_long("heron " * MOST_WORDS) is None


PIECES = [
    *(GOOD, "A heron", "dawn", "mist over the lake, ", "soft light. ", "Sure! ", "Here is the prompt: ", '"', "“", "'"),
    *(
        "<|im_end|>",
        "\n",
        "\n\n",
        "```",
        "**",
        "- ",
        "1. ",
        "Enhanced prompt: ",
        "Note: ",
        ", ",
        ". ",
        "；",
        "，",
        "鷺",
    ),
    *("sorry", "I cannot ", "user:", "\x00", "\u200b", " ", "4", "!", "<think>", "</think>", "word " * 50),
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=14).map("".join) | st.text()


@settings(max_examples=400, deadline=None)
@given(TEXTS, TEXTS, st.booleans())
@example("Sure! a heron", "Sure! a heron in mist", True)
@example("a " * 120, GOOD, True)
def test_the_judge_s_own_output_passes_unchanged(asked: str, raw: str, finished: bool) -> None:
    """Within the limit, in one paragraph; or there is a reason."""
    text, reason = judged(asked, raw, finished=finished)
    assert (text is None) != (reason is None)
    if text is not None:
        assert 3 <= len(words(text)) <= MOST_WORDS
        assert "\n" not in text
        assert judged(asked, text) == (text, None)
