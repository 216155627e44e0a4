"""CLIP tokenizers that need no hub: one of bytes for the tiny models, and the real one from a vocabulary file."""

import gzip
from pathlib import Path
from typing import Any, Final

from transformers import CLIPTokenizer

START: Final = "<|startoftext|>"
END: Final = "<|endoftext|>"
_MERGES: Final = 49152 - 256 - 2
"""How many of the vocabulary file's merges CLIP was trained with; the file has more."""


def byte_symbols() -> list[str]:
    """The 256 printable symbols by which CLIP and GPT-2 write bytes, in their vocabularies' order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + place) for place in range(len(others))]


def _tokenizer(tokens: list[str], merges: list[Any], pad: str) -> Any:
    return CLIPTokenizer(
        vocab={token: place for place, token in enumerate(tokens)},
        merges=merges,
        model_max_length=77,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=pad,
    )


def byte_tokenizer(*, pad: str = END) -> Any:
    """A `CLIPTokenizer` in which every byte is a token: any text goes through, 75 bytes of it fit."""
    symbols = byte_symbols()
    return _tokenizer([*symbols, *(symbol + "</w>" for symbol in symbols), START, END], [], pad)


def clip_tokenizer(vocabulary: Path, *, pad: str = END) -> Any:
    """The real one, of 49,408 tokens, from OpenAI's `bpe_simple_vocab_16e6.txt.gz`.

    Raises ValueError when the file is another.
    """
    lines = gzip.decompress(vocabulary.read_bytes()).decode("utf-8").split("\n")
    pairs = [tuple(line.split()) for line in lines[1 : 1 + _MERGES]]
    if len(pairs) != _MERGES or any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"{vocabulary}: expected CLIP's list of {_MERGES} merges, found {len(pairs)} lines")
    symbols = byte_symbols()
    tokens = [*symbols, *(symbol + "</w>" for symbol in symbols), *("".join(pair) for pair in pairs), START, END]
    return _tokenizer(tokens, pairs, pad)
