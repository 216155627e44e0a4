"""Prompts for SDXL: of any length, with weights, whole into both of its text encoders.

The pipeline alone cuts a prompt after 75 tokens. What fits and weighs nothing is left to it; the rest goes to compel in
chunks of 75, already read: its own syntax, in which `c++` is a weight, is never spoken.
"""

import re
from typing import Any, Final

import torch
from compel import CompelForSDXL
from compel.prompt_parser import Conjunction, FlattenedPrompt

from workers.prompt_weights import Weighted, text_of, weighted

_UNESCAPED: Final = re.compile(r'\\(?=[()"])')


def encode(pipeline: Any, prompt: str, negative_prompt: str) -> dict[str, Any]:
    """Return what an SDXL pipeline takes instead of `prompt` and `negative_prompt`.

    `prompt_embeds` and `negative_prompt_embeds` are (1, 77 n, 2048) for SDXL's own encoders, with the same n; the
    pooled ones are (1, 1280). They lie on the text encoders' device, in their type; the pipeline repeats them for
    `num_images_per_prompt`. A prompt of up to 75 tokens without weights is encoded by the pipeline itself, to the same
    bits, unless the other prompt is longer: then the empty prompt's embedding is put behind it.

    The pooled embedding is a picture's gist, made of one chunk: the first 75 tokens, and no weights. An empty negative
    prompt is encoded as a text, never replaced by zeros.
    """
    encoder = _Encoder(pipeline)
    with torch.no_grad():
        positive, positive_pooled = encoder.encode(prompt)
        negative, negative_pooled = encoder.encode(negative_prompt)
        length = max(positive.shape[1], negative.shape[1])
        return {
            "prompt_embeds": encoder.padded(positive, length),
            "pooled_prompt_embeds": positive_pooled,
            "negative_prompt_embeds": encoder.padded(negative, length),
            "negative_pooled_prompt_embeds": negative_pooled,
        }


class _Encoder:
    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self._tokenizers = (pipeline.tokenizer, pipeline.tokenizer_2)

    def encode(self, prompt: str) -> tuple[Any, Any]:
        """One prompt's embeddings and its pooled one."""
        parts = self._without_marks(weighted(prompt))
        text = text_of(parts)
        if all(part.weight == 1 for part in parts) and self._fits(text):
            return self._plain(text)
        compel = CompelForSDXL(self._pipeline)
        pieces = [(_UNESCAPED.sub(r"\\\\", part.text), part.weight) for part in parts]
        conjunction = Conjunction([FlattenedPrompt(pieces)])
        both = (compel.compel_1, compel.compel_2)
        heard = [each.build_conditioning_tensor_for_conjunction(conjunction)[0] for each in both]
        # Of different lengths where "!" stands: to the second tokenizer it is the padding, too.
        length = max(each.shape[1] for each in heard)
        heard = [
            _padded(one, length, each.conditioning_provider.empty_z) for one, each in zip(heard, both, strict=True)
        ]
        # Asked for the text: by itself compel would pool its own syntax, brackets and numbers.
        pooled = compel.compel_2.conditioning_provider.get_pooled_embeddings([text])
        return torch.cat(heard, dim=-1), pooled

    def padded(self, embeddings: Any, length: int) -> Any:
        """Followed by the empty prompt's embedding until it has that length."""
        return embeddings if embeddings.shape[1] == length else _padded(embeddings, length, self._plain("")[0])

    def _plain(self, text: str) -> tuple[Any, Any]:
        embeddings, _, pooled, _ = self._pipeline.encode_prompt(
            text, device=self._pipeline.text_encoder_2.device, do_classifier_free_guidance=False
        )
        return embeddings, pooled

    def _fits(self, text: str) -> bool:
        return all(len(each(text).input_ids) <= each.model_max_length for each in self._tokenizers)

    def _without_marks(self, parts: list[Weighted]) -> list[Weighted]:
        """Without the encoders' marks of a text's start and end: in the middle of a prompt they would cut it off."""
        marks = {mark for each in self._tokenizers for mark in (each.bos_token, each.eos_token)}
        pattern = re.compile("|".join(map(re.escape, sorted(marks))))
        cleaned = [Weighted(pattern.sub(" ", part.text), part.weight) for part in parts]
        return [part for part in cleaned if part.text.strip()]


def _padded(embeddings: Any, length: int, empty: Any) -> Any:
    missing = (length - embeddings.shape[1]) // empty.shape[1]
    return torch.cat([embeddings, empty.repeat(1, missing, 1).to(embeddings.dtype)], dim=1)
