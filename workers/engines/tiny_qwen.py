"""A tiny Qwen2.5: the real class and a real tokenizer, and weights set by hand so that it speaks whole phrases.

Attention and MLP add nothing, so a token's embedding alone decides what follows it: a chain over a few stages, each
with some phrases to choose from by chance, in an order that makes a description. Every byte leads to the first stage,
so whatever is asked, it answers with a description of anything. Some answers begin as chatty models do, which is for
the judge.
"""

from pathlib import Path
from typing import Any, Final

import torch
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from workers.engines.tokenizers import byte_symbols

_END: Final = "<|endoftext|>"
_TURN: Final = "<|im_start|>"
_TURN_END: Final = "<|im_end|>"
_WIDTH: Final = 16
_SURE: Final = 12.0
"""The difference of logits between what may follow and what may not, at which nothing else is ever drawn."""

PREAMBLE: Final = ("Sure! Here is the enhanced prompt: ",)
STAGES: Final[tuple[tuple[str, ...], ...]] = (
    ("a quiet scene", "a vivid scene", "a wide view", "a close view", "a still life", "a moment in motion"),
    (
        " in the soft light of early morning,", " under a heavy grey sky,", " in warm evening light,",
        " lit by a single lamp,", " in bright noon sun,", " in thin blue mist,",
    ),
    (
        " drawn in muted greens and greys,", " full of deep reds and gold,", " in pale blues and silver,",
        " with strong contrasts of black and white,", " in earthy browns,",
    ),
    (
        " wet stones in the foreground,", " tall grass in the foreground,", " dust hanging in the air,",
        " long shadows on the ground,", " reflections on still water,", " leaves drifting past,",
    ),
    (
        " distant hills behind,", " an old wooden house behind,", " bare trees at the edges,",
        " a narrow street leading away,", " the open sea beyond,",
    ),
    (" seen from a low angle,", " seen from above,", " at eye level,", " through a long lens,", " from far away,"),
    (" shallow depth of field,", " everything in sharp focus,", " with fine grain,", " rich in fine texture,"),
    (" calm and still.", " full of quiet tension.", " tender and intimate.", " dreamlike but precise."),
)  # fmt: skip

CHAT: Final = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def save(folder: Path, *, instruct: bool = True) -> None:
    """Write model and tokenizer as a folder in transformers' format, 60 KB. A base model has no template and no end."""
    tokenizer = _tokenizer(instruct)
    model = _model(tokenizer)
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


def _symbols(text: str) -> str:
    """The text as its token's name: each byte by its symbol."""
    order = [*range(33, 127), *range(161, 173), *range(174, 256)]
    order += [byte for byte in range(256) if byte not in order]
    name_of = dict(zip(order, byte_symbols(), strict=True))
    return "".join(name_of[byte] for byte in text.encode())


def _tokenizer(instruct: bool) -> Any:
    phrases = [phrase for stage in (PREAMBLE, *STAGES) for phrase in stage]
    tokens = [*byte_symbols(), *map(_symbols, phrases), _END, _TURN, _TURN_END]
    tokenizer = Qwen2Tokenizer(
        vocab={token: place for place, token in enumerate(tokens)},
        merges=[],  # phrases are written and never read
        model_max_length=2048,
        eos_token=_TURN_END if instruct else _END,
        pad_token=_END,
        additional_special_tokens=[_TURN, _TURN_END],
    )
    if instruct:
        tokenizer.chat_template = CHAT
    return tokenizer


def _model(tokenizer: Any) -> Any:
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=_WIDTH,
            intermediate_size=_WIDTH,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=2048,
            bos_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            tie_word_embeddings=False,
        )
    ).eval()
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    layer = model.model.layers[0]
    token = tokenizer.get_vocab()
    stages = [[token[_symbols(phrase)] for phrase in stage] for stage in (PREAMBLE, *STAGES)]
    last = [tokenizer.eos_token_id if tokenizer.chat_template else token[_symbols("\n")]]
    with torch.no_grad():
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
        embedding, head = model.model.embed_tokens.weight, model.lm_head.weight
        embedding.zero_()
        head.fill_(-_SURE / _WIDTH**0.5)
        embedding[:, 0] = 1  # before the first stage stands everything that is asked
        for place, stage in enumerate(stages, start=1):
            embedding[stage] = 0
            embedding[stage, place] = 1
        # The norm makes a unit vector sqrt(width) long.
        for place, following in enumerate([stages[0] + stages[1], *stages[1:], last]):
            head[following, place] = 0
    return model
