"""Qwen2.5 as the enhancer: loading it, and asking it for a description. What it answers is judged elsewhere.

A tokenizer with a chat template belongs to an instruct model, which is told what to do; one without to a base model,
which is shown three examples and goes on.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, StoppingCriteria, StoppingCriteriaList

from workers.engines.faults import Cancelled
from workers.engines.loading import sentences
from workers.errors import Misconfigured

SAMPLING: Final[dict[str, Any]] = {
    "do_sample": True,
    "temperature": 0.7,
    "top_k": 20,
    "min_p": 0.05,
    "top_p": 1.0,  # off: it needs a cumulative sum, which CUDA cannot repeat to the bit, and torch refuses when told so
    "repetition_penalty": 1.05,
}
"""Qwen2.5's own recommendation, with min_p in place of top_p."""

SYSTEM: Final = (
    "You write prompts for a model that draws images and videos. The user gives you an idea. Answer with one paragraph "
    "of at most 90 words that describes exactly that idea as it can be seen: the subject first, in the user's own "
    "words, then its looks, its surroundings, the light, the colours, the composition and the camera. Be concrete. "
    "Add nothing that changes the subject, the number of people or what they do. Answer with the description alone."
)
FRAME: Final = """\
Idea: a heron at dawn
Description: A heron stands at dawn in shallow water, its grey feathers ruffled by a light wind, thin mist over the \
lake, reeds in the foreground, soft golden light from the left, muted blues and greens, low angle, sharp focus.

Idea: old man repairing a clock
Description: An old man repairing a clock at a wooden bench, round glasses low on his nose, tiny brass wheels between \
his fingers, a single warm lamp above, shelves of clocks in the dark behind him, close view, shallow depth of field.

Idea: city street, rain, night
Description: A city street at night in the rain, wet asphalt full of red and blue reflections, people under umbrellas, \
steam above a grating, shop windows glowing on both sides, wide view down the street, strong contrasts, fine detail.

Idea: {idea}
Description:"""

_EVERY: Final = 8
"""Tokens from one sign of life to the next."""


@dataclass(frozen=True)
class Qwen:
    """A loaded enhancer. `components` are named as those of diffusers' pipelines are."""

    model: Any
    tokenizer: Any
    components: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        """Name the parts."""
        object.__setattr__(self, "components", {"model": self.model, "tokenizer": self.tokenizer})


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said, unjudged. `finished`: it came to its own end within its tokens and seconds."""

    text: str
    tokens: int
    finished: bool


def load_qwen(path: Path, *, dtype: Any, device: str) -> Qwen:
    """A causal language model and its tokenizer in the host's memory, from a local folder in transformers' format.

    In half precision it is bfloat16, in which it was trained. Never asks the hub, never unpickles, runs no code of the
    folder's. Raises Misconfigured with one sentence for whatever is wrong with the files.
    """
    half = torch.bfloat16 if dtype == torch.float16 else dtype
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    with sentences(path):
        tokenizer = AutoTokenizer.from_pretrained(str(path), **local)
        model, found = AutoModelForCausalLM.from_pretrained(
            str(path), dtype=half, use_safetensors=True, output_loading_info=True, **local
        )
    missing = sorted(found["missing_keys"])
    if missing:
        raise Misconfigured(f"{path} lacks {len(missing)} weights of its model, first {missing[0]}")
    return Qwen(model.eval(), tokenizer)


def asked(qwen: Qwen, prompt: str) -> str:
    """The text that the model is to go on with. What the prompt holds of the model's own marks is taken out."""
    idea = prompt
    for mark in sorted(qwen.tokenizer.get_added_vocab(), key=len, reverse=True):
        idea = idea.replace(mark, " ")
    idea = " ".join(idea.split())
    if qwen.tokenizer.chat_template is None:
        return FRAME.format(idea=idea)
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": idea}]
    return str(qwen.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def answer(
    qwen: Qwen,
    prompt: str,
    *,
    seed: int,
    max_tokens: int,
    seconds: float,
    said: Callable[[int], None],
    cancelled: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
) -> Answer:
    """Sample a description of `prompt` on the model's device; the same arguments give the same text.

    Except where `seconds` run out, which ends it after the token at hand. `said` hears now and then how many tokens
    there are. Leaves torch's generators as they were. Raises Cancelled after the token during which that was asked.
    """
    device = qwen.model.device
    inputs = qwen.tokenizer(asked(qwen, prompt), return_tensors="pt", add_special_tokens=False).to(device)
    start = inputs["input_ids"].shape[1]
    ends = _ends(qwen)
    watch = _Watch(qwen.tokenizer, start, clock() + seconds, said, cancelled, clock)
    with torch.no_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        output = qwen.model.generate(
            **inputs,
            **SAMPLING,
            max_new_tokens=max_tokens,
            eos_token_id=ends,
            pad_token_id=ends[0],
            stopping_criteria=StoppingCriteriaList([watch]),
        )
    new = output[0, start:]
    finished = watch.line_ended or int(new[-1]) in ends
    return Answer(text=qwen.tokenizer.decode(new), tokens=len(new), finished=finished)


def _ends(qwen: Qwen) -> list[int]:
    """The tokens that end an answer: the tokenizer's, and those that the folder's own configuration names."""
    configured = qwen.model.generation_config.eos_token_id
    listed = configured if isinstance(configured, list) else [configured]
    return [end for end in dict.fromkeys([qwen.tokenizer.eos_token_id, *listed]) if end is not None]


class _Watch(StoppingCriteria):  # type: ignore[misc]  # transformers is not followed by the type checker
    """Asked after each token whether to stop."""

    def __init__(
        self,
        tokenizer: Any,
        start: int,
        deadline: float,
        said: Callable[[int], None],
        cancelled: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._tokenizer = tokenizer
        self._start = start
        self._deadline = deadline
        self._said = said
        self._cancelled = cancelled
        self._clock = clock
        self._one_line = tokenizer.chat_template is None
        self.line_ended = False

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """A tensor of one truth."""
        if self._cancelled():
            raise Cancelled
        count = input_ids.shape[1] - self._start
        if count % _EVERY == 1:
            self._said(count)
        if self._one_line:  # a base model never ends by itself: behind its line it begins with an idea of its own
            self.line_ended = "\n" in self._tokenizer.decode(input_ids[0, self._start :]).lstrip()
        stop = self.line_ended or self._clock() >= self._deadline
        return torch.tensor([stop], device=input_ids.device)
