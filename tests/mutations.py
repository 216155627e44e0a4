"""Spoilt payloads: valid ones with one to three typed mutations, from a seeded Random.

Half of the mutations touch what no stage depends on, so that a part of the results is still accepted.
"""

import copy
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

FIXTURES = sorted((Path(__file__).parent / "payloads").glob("*.json"))

Payload = dict[str, Any]
Mutation = Callable[[Random, Payload], Payload | bytes]

JUNK_TEXT = (
    "",
    " ",
    "\0",
    "a\0b",
    "\ud800",
    "x\udfffy",
    "\u200b",
    "x" * 10_001,
    "--prompt=x",
    "../../etc/passwd",
    "🦊" * 50,
)
JUNK_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 2, 7, 2**31, 2**63, 10**400, 1e308, float("inf"), float("nan"), 0.05, "5", "", "0*0",
    "1024x1024", "481*832", "4096*4096", [], [1], {}, {"a": {"b": [None]}}, "\0", "\ud800", "https://", "file:///x",
)  # fmt: skip
CONFIG = (
    "size", "sample_steps", "sample_guide_scale", "seed", "num_images", "expected_time", "reference_strength",
    "reference_type", "image", "first_frame", "last_frame", "reference_image_url", "sample_shift", "sample_solver",
)  # fmt: skip
TOP = ("id", "type", "prompt", "user_id", "config", "metadata", "bucket", "model_variant", "negative_prompt")
MILD_CONFIG = ("frame_num", "content_type", "file_extension", "enhance_prompt", "task", "unheard_of")


def drop_field(random: Random, payload: Payload) -> Payload:
    payload.pop(random.choice(TOP), None)
    return payload


def drop_setting(random: Random, payload: Payload) -> Payload:
    if isinstance(payload.get("config"), dict):
        payload["config"].pop(random.choice(CONFIG + MILD_CONFIG), None)
    return payload


def junk_field(random: Random, payload: Payload) -> Payload:
    payload[random.choice(TOP)] = random.choice(JUNK_VALUES)
    return payload


def junk_setting(random: Random, payload: Payload) -> Payload:
    if isinstance(payload.get("config"), dict):
        payload["config"][random.choice(CONFIG)] = random.choice(JUNK_VALUES)
    return payload


def junk_text(random: Random, payload: Payload) -> Payload:
    payload[random.choice(("prompt", "negative_prompt", "bucket", "user_id", "created_at"))] = random.choice(JUNK_TEXT)
    return payload


def good_numbers(random: Random, payload: Payload) -> Payload:
    if isinstance(payload.get("config"), dict):
        payload["config"] |= random.choice(
            (
                {"seed": random.getrandbits(63)},
                {"seed": 0},
                {"sample_steps": 1, "sample_guide_scale": 0},
                {"size": "512*512", "num_images": 1},
                {"reference_strength": 0.1, "expected_time": 9.5},
            )
        )
    return payload


def contradict(random: Random, payload: Payload) -> Payload:
    if isinstance(payload.get("config"), dict):
        payload["config"][random.choice(MILD_CONFIG)] = random.choice(JUNK_VALUES)
    return payload


def junk_metadata(random: Random, payload: Payload) -> Payload:
    if isinstance(payload.get("metadata"), dict):
        payload["metadata"][random.choice(("credits", "prompt_length", "sample_steps", "x", "is_sdxl"))] = (
            random.choice(JUNK_VALUES)
        )
    return payload


def extra_fields(random: Random, payload: Payload) -> Payload:
    return payload | {f"extra{n}": random.choice(JUNK_VALUES) for n in range(random.randint(1, 5))}


def other_words(random: Random, payload: Payload) -> Payload:
    words = ["heron", "--help", "(word:1.2)", "две", "東京", "🦊", "'; DROP TABLE jobs; --", '"', "\\", "\n", "{}"]
    payload["prompt"] = " ".join(random.choices(words, k=random.randint(1, 40))) + " at dawn"
    return payload


def other_type(random: Random, payload: Payload) -> Payload:
    payload["type"] = random.choice(
        ["sdxl_image_fast", "video_fast", "image_high", "video7b_high_enhanced", "nonsense"]
    )
    return payload


def shouting_id(random: Random, payload: Payload) -> Payload:
    if isinstance(payload.get("id"), str):
        payload["id"] = payload["id"].upper()
    return payload


def broken_bytes(random: Random, payload: Payload) -> bytes:
    raw = _dump(payload)
    at = random.randrange(1, len(raw))
    return random.choice(
        [raw[:at], raw[:at] + b"\xff" + raw[at:], b"", b"[" * 10_000, b"null", b"[" + raw + b"]", raw + raw]
    )


def odd_bytes(random: Random, payload: Payload) -> bytes:
    raw = _dump(payload)
    extra = random.choice([b'"twice":1,"twice":2,', b'"n":1e400,', b'"n":NaN,', b'"n":' + b"9" * 5000 + b",", b"\n \t"])
    return raw[:1] + extra + raw[1:]


HARSH: tuple[Mutation, ...] = (drop_field, junk_field, junk_setting, junk_text, broken_bytes, other_type)
MILD: tuple[Mutation, ...] = (
    drop_setting, good_numbers, contradict, junk_metadata, extra_fields, other_words, shouting_id, odd_bytes
)  # fmt: skip


def fixtures() -> list[tuple[str, Payload]]:
    """(list, payload) of every real payload."""
    cases = [json.loads(path.read_text("utf-8")) for path in FIXTURES]
    return [(case["queue"], case["body"]) for case in cases]


def mutate(random: Random, payload: Payload) -> bytes:
    """Apply one to three mutations to a copy of `payload` and return the bytes that a producer would push."""
    spoilt: Payload | bytes = copy.deepcopy(payload)
    for _ in range(random.randint(1, 3)):
        mutation = random.choice(HARSH if random.random() < 0.4 else MILD)
        if isinstance(spoilt, bytes):
            break
        spoilt = mutation(random, spoilt)
    return spoilt if isinstance(spoilt, bytes) else _dump(spoilt)


def campaign(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield (list, bytes) of `count` spoilt payloads, each made from a real one under an id of its own."""
    random = Random(seed)
    real = fixtures()
    for _ in range(count):
        queue, payload = random.choice(real)
        fresh = payload | {"id": str(uuid.UUID(int=random.getrandbits(128), version=4))}
        yield queue, mutate(random, fresh)


def _dump(payload: Payload) -> bytes:
    """As a producer writes it; ASCII, so that lone surrogates and NUL travel as escapes."""
    return json.dumps(payload, ensure_ascii=True).encode()
