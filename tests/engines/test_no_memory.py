"""Which of an engine's errors mean that there was no memory left."""

import pytest

from workers.engines.faults import out_of_memory


@pytest.mark.parametrize(
    ("said", "short"),
    [
        ("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes", True),
        ("could not create a primitive", True),
        ("could not execute a primitive", True),
        ("could not create a primitive descriptor for a convolution forward propagation primitive", False),
        ("mat1 and mat2 shapes cannot be multiplied", False),
    ],
)
def test_memory_is_known_by_the_words_of_whoever_wanted_it(said: str, short: bool) -> None:
    assert out_of_memory(RuntimeError(said)) is short
