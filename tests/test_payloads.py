"""The front door reads everything: each payload becomes exactly one job or one dead letter, and never an exception."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statemachine.admission import DeadLetter, NewJob
from statemachine.events import JobQueued, OutcomeDecided
from tests.mutations import FIXTURES, campaign, fixtures, mutate
from workers.arrivals import MAX_BYTES, build_payload, read
from workers.presets import PRESETS
from workers.request import Request

NOW = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)
DRAWN = 424242
SDXL, WAN = "sdxl_queue", "wan_queue"
URL = "https://storage.example.com/reference_images/u/"
Payload = dict[str, Any]


def enter(payload: Payload | bytes, queue: str | None = None, source: str = "redis") -> NewJob | DeadLetter:
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    if queue is None:
        queue = SDXL if isinstance(payload, bytes) or str(payload.get("type")).startswith("sdxl") else WAN
    return read(raw, queue=queue, source=source, now=NOW, draw_seed=lambda: DRAWN)


def accepted(payload: Payload | bytes, queue: str | None = None, source: str = "redis") -> tuple[JobQueued, Request]:
    job = enter(payload, queue, source)
    assert isinstance(job, NewJob), job
    assert [event.kind for event in job.events] == ["job_queued"], job.events
    queued = job.events[0]
    assert isinstance(queued, JobQueued)
    assert job.content is not None
    # Through JSON, as the store keeps it.
    return queued, Request.from_job(
        json.loads(msgspec.json.encode(queued.request)), json.loads(msgspec.json.encode(job.content))
    )


def refused(payload: Payload | bytes) -> str:
    job = enter(payload)
    assert isinstance(job, NewJob), job
    queued, outcome = job.events
    assert isinstance(queued, JobQueued)
    assert isinstance(outcome, OutcomeDecided)
    assert (outcome.outcome, outcome.error_class, outcome.error_type) == ("failed", "permanent", "InvalidPayload")
    assert outcome.message.startswith("Invalid parameters: ")
    assert (queued.stages, job.content, queued.request) == (["callback"], None, {})
    return outcome.message


def dead(payload: Payload | bytes) -> str:
    letter = enter(payload)
    assert isinstance(letter, DeadLetter), letter
    return letter.reason


def sdxl(**config: Any) -> Payload:
    return build_payload("sdxl_image_fast", "a heron at dawn", config=config)


def wan(job_type: str = "video_fast", **config: Any) -> Payload:
    return build_payload(job_type, "a heron at dawn", config=config)


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_every_real_payload_is_a_job(path: Any) -> None:
    case = json.loads(path.read_text("utf-8"))
    body = case["body"]
    queued, request = accepted(body, case["queue"])
    preset = PRESETS[body["type"]]
    assert (request.width, request.height) == (preset.width, preset.height)
    assert (request.steps, request.guidance_scale) == (preset.steps, preset.guidance_scale)
    assert (request.prompt, request.num_images) == (body["prompt"], body["config"]["num_images"])
    assert request.seed == queued.seed == body["config"].get("seed", DRAWN)
    assert request.expected_time == body["config"]["expected_time"]
    assert request.negative_prompt == body.get("negative_prompt")
    assert queued.disagreements == []
    assert queued.asked["sample_steps"] == body["config"]["sample_steps"]
    assert ("enhancing" in queued.stages) is body["config"]["enhance_prompt"]
    assert ("fetching_refs" in queued.stages) is (request.reference_mode != "none")
    assert datetime.fromisoformat(str(queued.created_at)) == datetime.fromisoformat(body["created_at"])


def test_nothing_personal_stands_in_the_history() -> None:
    for queue, body in fixtures():
        job = enter(body, queue)
        assert isinstance(job, NewJob)
        history = msgspec.json.encode(job.events).decode()
        assert body["prompt"] not in history
        assert "https://" not in history
        assert "bad anatomy" not in history


def test_an_erased_job_has_no_request_any_more() -> None:
    queued, _ = accepted(sdxl())
    with pytest.raises(msgspec.ValidationError, match="prompt"):
        Request.from_job(queued.request, {})


@pytest.mark.parametrize("job_type", PRESETS)
def test_a_payload_of_ours_resolves_to_the_preset(job_type: str) -> None:
    queued, request = accepted(build_payload(job_type, "a heron", seed=0), PRESETS[job_type].queue, "cli")
    preset = PRESETS[job_type]
    assert (request.steps, request.guidance_scale, request.seed) == (preset.steps, preset.guidance_scale, 0)
    assert (request.frame_num, request.frames) == ((83, 81) if preset.media == "video" else (1, 1))
    assert queued.disagreements == []


def test_wans_whole_signature_on_an_sdxl_job_means_not_set() -> None:
    asked = {"size": "480*832", "sample_steps": 50, "sample_guide_scale": 6.5}
    queued, request = accepted(sdxl(**asked))
    assert (request.width, request.height, request.steps, request.guidance_scale) == (1024, 1024, 15, 6.0)
    assert queued.asked.items() >= asked.items()


@pytest.mark.parametrize("other", [{"size": "512*512"}, {"sample_steps": 30}, {"sample_guide_scale": 7.0}])
def test_a_part_of_the_signature_is_honoured(other: Payload) -> None:
    asked = {"size": "480*832", "sample_steps": 25, "sample_guide_scale": 6.5} | other
    _, request = accepted(sdxl(**asked))
    assert f"{request.width}*{request.height}" == asked["size"]
    assert (request.steps, request.guidance_scale) == (asked["sample_steps"], asked["sample_guide_scale"])


def test_on_the_command_line_values_are_meant() -> None:
    _, request = accepted(sdxl(size="480*832", sample_steps=25, sample_guide_scale=6.5), SDXL, "cli")
    assert (request.width, request.height, request.steps, request.guidance_scale) == (480, 832, 25, 6.5)


@pytest.mark.parametrize(
    ("given", "mode", "roles"),
    [
        ({}, "none", []),
        ({"image": URL + "1"}, "single", ["single"]),
        ({"reference_image_url": URL + "1"}, "single", ["single"]),
        ({"first_frame": URL + "1"}, "start", ["start"]),
        ({"last_frame": URL + "1"}, "end", ["end"]),
        ({"first_frame": URL + "1", "last_frame": URL + "2"}, "both", ["start", "end"]),
        ({"image": URL + "0", "last_frame": URL + "2"}, "end", ["end"]),
        ({"image": ""}, "none", []),
    ],
)
def test_the_reference_mode_follows_the_specifications_rule(given: Payload, mode: str, roles: list[str]) -> None:
    queued, request = accepted(wan(**given))
    assert (request.reference_mode, [reference.role for reference in request.references]) == (mode, roles)
    assert (request.reference_strength, request.reference_type) == ((0.5, "style") if roles else (None, None))
    assert queued.stages[0] == ("fetching_refs" if roles else "generating")


def test_one_frame_has_both_ends() -> None:
    queued, request = accepted(wan("image_fast", first_frame=URL + "1", last_frame=URL + "2"))
    assert (request.reference_mode, [r.url for r in request.references]) == ("start", [URL + "1"])
    assert any("one frame" in said for said in queued.disagreements)
    assert accepted(wan("image_fast", last_frame=URL + "2"))[1].reference_mode == "start"


def test_config_comes_before_metadata_and_metadata_before_the_preset() -> None:
    payload = wan(seed=0, image=None, expected_time=None)
    payload["metadata"] |= {"seed": 9, "start_reference_url": URL, "reference_strength": 1, "num_images": 1}
    payload["metadata"]["expected_generation_time"] = 77
    queued, request = accepted(payload)
    assert (request.seed, request.expected_time) == (0, 77)
    assert (request.reference_mode, request.reference_strength) == ("start", 1.0)
    assert queued.disagreements == ["metadata.seed says 9, config.seed says 0"]


def test_the_type_decides_and_the_disagreement_is_recorded() -> None:
    odd: Payload = {
        "content_type": "image",
        "file_extension": "png",
        "enhance_prompt": True,
        "frame_num": 1,
        "task": "i2v-14B",
    }
    payload = wan(**odd) | {"bucket": "image_high"}
    queued, request = accepted(payload, SDXL)
    assert (request.media, request.extension, request.enhance, request.frames) == ("video", "mp4", False, 81)
    assert (request.task, request.bucket, queued.queue) == ("t2v-1.3B", "image_high", WAN)
    for word in (*odd, "bucket", "it came on"):
        assert any(word in said for said in queued.disagreements), word


def test_a_negative_prompt_is_used_built_or_left_out() -> None:
    given = build_payload("sdxl_image_high", "two women", negative_prompt="blurry")
    assert accepted(given)[1].negative_prompt == "blurry"
    built = accepted(build_payload("sdxl_image_high", "two women at a bar"))[1]
    assert built.negative_source == "built"
    assert "wrong number of people" in str(built.negative_prompt)
    queued, none = accepted(wan() | {"negative_prompt": "blurry"})
    assert none.negative_prompt is None
    assert any("negative_prompt" in said for said in queued.disagreements)


@pytest.mark.parametrize("key_order", [sorted, lambda keys: sorted(keys, reverse=True)])
def test_the_same_payload_in_other_whitespace_is_the_same_job(key_order: Callable[[Payload], list[str]]) -> None:
    payload = sdxl(seed=1)
    other = json.dumps({key: payload[key] for key in key_order(payload)}, indent=3).encode()
    one, two = enter(payload), enter(b"\xef\xbb\xbf" + other)
    assert isinstance(one, NewJob)
    assert isinstance(two, NewJob)
    assert (one.job_id, one.events) == (two.job_id, two.events)


def test_ids_are_compared_in_lower_case() -> None:
    payload = sdxl()
    upper = payload | {"id": payload["id"].upper(), "user_id": payload["user_id"].upper()}
    job = enter(upper)
    assert isinstance(job, NewJob)
    assert job.job_id == payload["id"]
    assert accepted(upper)[1].user_id == payload["user_id"]


REFUSED: dict[str, tuple[Callable[[], Payload], str]] = {
    "num_images 2": (lambda: sdxl(num_images=2), "config.num_images must be 1, 3 or 6, got 2"),
    "num_images 3 on WAN": (lambda: wan(num_images=3), "config.num_images must be 1, got 3"),
    "num_images true": (lambda: sdxl(num_images=True), "got true"),
    "strength 7": (lambda: sdxl(reference_strength=7), "config.reference_strength must be a number from 0.1 to 1"),
    "strength 0": (lambda: sdxl(reference_strength=0), "got 0"),
    "reference type": (lambda: sdxl(reference_type="mood"), '"style", "composition" or "character", got "mood"'),
    "reference file": (lambda: sdxl(image="file:///etc/passwd"), "config.image must be an http or https URL"),
    "reference number": (lambda: wan(first_frame=5), "config.first_frame must be a string"),
    "size zero": (lambda: sdxl(size="0*0"), 'got "0*0"'),
    "size x": (lambda: sdxl(size="1024x1024"), '"width*height"'),
    "size huge": (lambda: sdxl(size="2048*2048"), "at most 2,359,296 together"),
    "size of SDXL": (lambda: sdxl(size="1020*1024"), "each a multiple of 8"),
    "size of WAN": (lambda: wan(size="488*832"), "each a multiple of 16"),
    "size number": (lambda: sdxl(size=1024), "got 1024"),
    "size digits": (lambda: sdxl(size="١٠٢٤*1024"), "config.size must be"),
    "steps 0": (lambda: sdxl(sample_steps=0), "config.sample_steps must be a whole number from 1 to 150, got 0"),
    "steps 2.5": (lambda: sdxl(sample_steps=2.5), "got 2.5"),
    "steps string": (lambda: sdxl(sample_steps="25"), 'got "25"'),
    "steps boolean": (lambda: sdxl(sample_steps=True), "got true"),
    "guidance 31": (lambda: sdxl(sample_guide_scale=31), "from 0 to 30"),
    "guidance 400 digits": (lambda: sdxl(sample_guide_scale=10**400), "config.sample_guide_scale"),
    "seed 2^63": (lambda: sdxl(seed=2**63), "config.seed must be a whole number from 0 to 9223372036854775807"),
    "seed -1": (lambda: sdxl(seed=-1), "got -1"),
    "shift of WAN": (lambda: wan(sample_shift="5"), "config.sample_shift"),
    "solver of WAN": (lambda: wan(sample_solver="ddim"), 'must be "unipc", got "ddim"'),
    "expected time 0": (lambda: sdxl(expected_time=0), "config.expected_time"),
    "no prompt": (lambda: sdxl() | {"prompt": None}, "prompt is missing"),
    "empty prompt": (lambda: sdxl() | {"prompt": ""}, "not blank"),
    "invisible prompt": (lambda: sdxl() | {"prompt": " \u200b\u2060\n"}, "not blank"),
    "long prompt": (lambda: sdxl() | {"prompt": "x" * 10_001}, "got a string of 10001 characters"),
    "prompt list": (lambda: sdxl() | {"prompt": ["x"]}, "got a list of 1"),
    "NUL": (lambda: sdxl() | {"prompt": "a\0b"}, "without NUL"),
    "lone surrogate": (lambda: sdxl() | {"prompt": "a\ud800b"}, "lone surrogates"),
    "surrogate in the negative prompt": (lambda: sdxl() | {"negative_prompt": "\udfff"}, "negative_prompt must be"),
    "path in user_id": (lambda: sdxl() | {"user_id": "../../etc"}, 'user_id must be a UUID like'),
    "no user_id": (lambda: sdxl() | {"user_id": None}, "user_id is missing"),
    "image_id": (lambda: sdxl() | {"image_id": "7"}, "image_id must be a UUID"),
    "bucket": (lambda: sdxl() | {"bucket": "secrets"}, 'got "secrets"'),
    "variant": (lambda: sdxl() | {"model_variant": "x"}, 'model_variant must be one of lustify_sdxl, got "x"'),
    "variant list": (lambda: sdxl() | {"model_variant": []}, "model_variant must be one of lustify_sdxl, got a list"),
    "type": (lambda: sdxl() | {"type": "gif"}, 'type must be one of sdxl_image_fast, sdxl_image_high, image_fast'),
    "type list": (lambda: sdxl() | {"type": []}, "got a list of 0"),
    "config list": (lambda: sdxl() | {"config": [1]}, "config must be an object, got a list of 1"),
    "metadata string": (lambda: sdxl() | {"metadata": "x"}, 'metadata must be an object, got "x"'),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_says_what_was_wanted_and_what_came(case: str) -> None:
    make, words = REFUSED[case]
    assert words in refused(make())


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (b'"config":{"sample_guide_scale":1e400},', "config.sample_guide_scale must be a number from 0 to 30, got inf"),
        (b'"config":{"sample_guide_scale":NaN},', "numbers must be JSON, got NaN"),
        (b'"config":{"seed":' + b"9" * 5000 + b"},", "an integer must have at most 1,000 digits, got one of 5,000"),
        (b'"padding":"' + b"x" * (10 * 1024 * 1024) + b'",', "the payload must have at most 1,048,576 bytes"),
    ],
)
def test_what_python_would_stumble_over_is_refused_under_its_id(extra: bytes, words: str) -> None:
    payload = sdxl()
    del payload["config"]
    raw = json.dumps(payload).encode()
    assert words in refused(raw[:1] + extra + raw[1:])


def test_all_that_is_wrong_is_said_at_once_and_not_for_ever() -> None:
    message = refused(sdxl(size="x" * 5000, seed=-1, sample_steps=0) | {"user_id": "y" * 5000, "prompt": " "})
    for place in ("config.size", "config.seed", "config.sample_steps", "user_id", "prompt"):
        assert place in message
    assert len(message) <= 1501


def test_what_is_wrong_with_a_prompt_is_said_without_the_prompt() -> None:
    assert "secret" not in refused(sdxl(image="ftp://secret") | {"prompt": "my secret\0"})


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"\xff\xfe{}", "not UTF-8"),
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"id": "x"', "not JSON"),
        (b"null", "must be a JSON object, got null"),
        (b"[1]", "must be a JSON object, got a list of 1"),
        (b'"secret"', "must be a JSON object, got a string of 6 characters"),
        (b"9" * 5000, "must be a JSON object"),
        (b"{}", "id is missing"),
        (b'{"id": null}', "id is missing"),
        (b'{"id": 7}', "id must be a UUID, got 7"),
        (b'{"id": "../7f3c2a52-8c1b-4b7e-9a55-2f6d1c0e9b11"}', "id must be a UUID"),
        (b'{"id": "\\ud800"}', "id must be a UUID"),
        (b"[" * 10_000, "nested 10,000 deep"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "nested 10,000 deep"),
        (b'"' + b'\\"' * 500_000 + b"[" * 200, "not JSON"),
        (b"x" * (MAX_BYTES * 33), "not parsed"),
    ],
)
def test_what_has_no_usable_id_is_a_dead_letter(raw: bytes, words: str) -> None:
    assert words in dead(raw)


def test_brackets_in_a_prompt_are_no_nesting() -> None:
    assert accepted(sdxl() | {"prompt": '((({[\\"' * 100})[1].prompt.startswith("(((")


def test_the_last_of_two_equal_keys_is_used_and_it_is_said() -> None:
    raw = json.dumps(sdxl(seed=1)).encode()
    queued, request = accepted(raw[:1] + b'"prompt":"first",' + raw[1:])
    assert request.prompt == "a heron at dawn"
    assert queued.disagreements == ['"prompt" stands twice in one object, the last one is used']


def test_a_created_at_that_is_no_time_is_recorded_not_refused() -> None:
    odd: Any
    for odd in ("yesterday", 5, "\ud800", {}, "0001-01-01T00:00:00+23:59"):
        queued, _ = accepted(sdxl() | {"created_at": odd})
        assert queued.created_at is None
        assert "created_at" in queued.disagreements[0]


def test_spoilt_payloads_are_accepted_refused_or_dead_and_of_each_there_are_many() -> None:
    kinds = {"accepted": 0, "refused": 0, "dead": 0}
    for queue, raw in campaign(seed=7, count=1000):
        kinds[kind_of(read(raw, queue=queue, source="redis", now=NOW, draw_seed=lambda: 1), raw)] += 1
    assert 200 <= kinds["accepted"] <= 600
    assert min(kinds.values()) >= 50


def kind_of(arrival: NewJob | DeadLetter, raw: bytes) -> str:
    """Say which of the three it is; whichever, the bytes are kept and the store can write it."""
    assert arrival.raw is raw
    if isinstance(arrival, DeadLetter):
        msgspec.json.encode(arrival.reason)
        assert "\0" not in arrival.reason
        return "dead"
    written = msgspec.json.encode([msgspec.to_builtins(event) for event in arrival.events])
    assert b"\\u0000" not in written
    msgspec.json.encode(arrival.content)
    return "accepted" if len(arrival.events) == 1 else "refused"


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(fixtures()))
def test_no_mutation_gets_past_the_three_answers(seed: int, case: tuple[str, Payload]) -> None:
    raw = mutate(Random(seed), case[1])
    kind_of(read(raw, queue=case[0], source="redis", now=NOW, draw_seed=lambda: 1), raw)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec=None)), inner, max_size=3),
    max_leaves=6,
)
FIELDS = sorted(set(sdxl()) | {"negative_prompt", "created_at", "image_id"})
SETTINGS = sorted(
    set(sdxl()["config"]) | {"seed", "image", "first_frame", "sample_shift", "reference_strength", "task"}
)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.sampled_from(FIELDS), anything, max_size=2),
    st.dictionaries(st.sampled_from(SETTINGS), anything, max_size=3),
    st.dictionaries(st.sampled_from(sorted(fixtures()[2][1]["metadata"])), anything, max_size=3),
)
def test_any_value_anywhere_is_answered(fields: Payload, config: Payload, metadata: Payload) -> None:
    for job_type in ("sdxl_image_high", "video7b_fast_enhanced"):
        payload = build_payload(job_type, "x", config=config)
        payload["metadata"] |= metadata
        raw = json.dumps(payload | fields).encode()
        kind_of(read(raw, queue=SDXL, source="redis", now=NOW, draw_seed=lambda: 1), raw)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_answered(raw: bytes) -> None:
    kind_of(read(raw, queue=SDXL, source="redis", now=NOW, draw_seed=lambda: 1), raw)
