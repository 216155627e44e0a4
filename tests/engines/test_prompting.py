"""Prompts of any length and with weights, seen by both encoders and in the picture."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

WORDS = list("abcdefghij" * 15)  # 150 words, each of which is one token
FIRST = 32  # the width of the tiny model's first encoder; the second follows it


@pytest.fixture(scope="module")
def pipeline() -> Any:
    from workers.engines.tiny_sdxl import build

    torch.set_num_threads(1)
    return build()


def encoded(pipeline: Any, prompt: str, negative: str = "") -> dict[str, Any]:
    from workers.engines.prompting import encode

    found: dict[str, Any] = encode(pipeline, prompt, negative)
    return found


@pytest.mark.parametrize(
    ("prompt", "negative"),
    [
        ("a heron at dawn", ""),
        ("c++, a--b and word+", 'blurry, "bad" hands.'),
        ("--steps 3", "1,000,,2"),
        ("夜明けの鷺", "\\n"),
        ("a" * 74, "b " * 37),
        ("", ""),
    ],
)
def test_what_fits_is_what_the_pipeline_encodes(pipeline: Any, prompt: str, negative: str) -> None:
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    expected = dict(zip(names, pipeline.encode_prompt(prompt, negative_prompt=negative), strict=True))
    found = encoded(pipeline, prompt, negative)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_brackets_are_written_with_a_backslash(pipeline: Any) -> None:
    expected = pipeline.encode_prompt("a (red) [car]", negative_prompt="")[0]
    assert torch.equal(encoded(pipeline, r"a \(red\) \[car\]")["prompt_embeds"], expected)


def test_both_encoders_hear_a_long_prompt_whole(pipeline: Any) -> None:
    """Down to the last of 150 words; the pooled embedding is of the first chunk."""
    before = encoded(pipeline, " ".join(WORDS))
    after = encoded(pipeline, " ".join([*WORDS[:-1], "z"]))
    changed = (before["prompt_embeds"] != after["prompt_embeds"]).any(dim=1)[0]
    assert changed[:FIRST].all()
    assert changed[FIRST:].all()
    assert torch.equal(before["pooled_prompt_embeds"], after["pooled_prompt_embeds"])


@pytest.mark.parametrize(("prompt", "negative"), [(" ".join(WORDS), ""), ("a heron", " ".join(WORDS))])
def test_the_shorter_one_is_followed_by_silence(pipeline: Any, prompt: str, negative: str) -> None:
    found = encoded(pipeline, prompt, negative)
    long, short = found["prompt_embeds"], found["negative_prompt_embeds"]
    if negative:
        long, short = short, long
    assert long.shape == short.shape
    assert long.shape[1] % 77 == 0
    alone = pipeline.encode_prompt(prompt if negative else negative, do_classifier_free_guidance=False)[0]
    silence = pipeline.encode_prompt("", do_classifier_free_guidance=False)[0]
    assert torch.equal(short[:, :77], alone)
    assert torch.equal(short[:, -77:], silence)


def test_two_thousand_characters_are_encoded(pipeline: Any) -> None:
    """For this tokenizer each is a token."""
    text = ("a heron at dawn, " * 120)[:2000]
    assert encoded(pipeline, text)["prompt_embeds"].shape[1] >= 77 * 20


def test_a_weight_moves_its_words_and_no_others(pipeline: Any) -> None:
    """Away from silence above 1, towards it below, in both encoders; what stands before is left as it is."""
    silence = encoded(pipeline, "")["prompt_embeds"][0]
    place = slice(2, 5)  # of "red" behind the mark of the start and "a "
    for half in (slice(0, FIRST), slice(FIRST, None)):
        said = [encoded(pipeline, f"a (red:{weight}) car")["prompt_embeds"][0] for weight in (0.5, 1, 1.5, 2)]
        far = [float((each - silence)[place, half].norm()) for each in said]
        assert far == sorted(far)
        assert far[2] == pytest.approx(1.5 * far[1], rel=1e-4)
        assert torch.equal(said[1][:2], said[2][:2])
        assert torch.equal(said[1], pipeline.encode_prompt("a red car", negative_prompt="")[0][0])


def test_the_pooled_embedding_is_of_the_words_alone(pipeline: Any) -> None:
    plain = encoded(pipeline, "a red car")["pooled_prompt_embeds"]
    assert torch.equal(encoded(pipeline, "a (red:1.5) car")["pooled_prompt_embeds"], plain)


def drawn(pipeline: Any, prompt: str) -> Any:
    return pipeline(
        **encoded(pipeline, prompt),
        width=64,
        height=64,
        num_inference_steps=3,
        generator=torch.Generator("cpu").manual_seed(7),
        output_type="np",
        num_images_per_prompt=2,
    ).images


def test_the_last_word_and_a_weight_are_seen_in_the_picture(pipeline: Any) -> None:
    pipeline.set_progress_bar_config(disable=True)
    long = drawn(pipeline, " ".join(WORDS))
    assert abs(long - drawn(pipeline, " ".join([*WORDS[:-1], "z"]))).max() > 1 / 1000
    plain, more, much = (drawn(pipeline, f"a (red:{weight}) car") for weight in (1, 1.2, 2))
    assert 1 / 255 < abs(more - plain).mean() < abs(much - plain).mean()


AWKWARD = [*'!.,()[]: ab\\"é夜\x00\n', ":0.5)", ":1.5)", "<|endoftext|>", "<|startoftext|>", "xx. "]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(AWKWARD), max_size=120).map("".join))
@example("(!!:0.5) a! (!:0.4)" * 9)
@example("(<|endoftext|>:0.5) a")
@example("( :0.5)(\x00:0.5)")
@example("(a! " * 60 + ":0.5)" * 60)
def test_any_prompt_is_encoded(pipeline: Any, prompt: str) -> None:
    found = encoded(pipeline, prompt, "blurry")
    assert all(torch.isfinite(tensor).all() for tensor in found.values())
    assert found["prompt_embeds"].shape == found["negative_prompt_embeds"].shape
