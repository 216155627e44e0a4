"""The pool: within its budget, the right things go first, and nothing that is needed ever goes."""

import weakref
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.engines.messages import Message, Moved
from workers.engines.pool import Part, Place, Pool
from workers.errors import Misconfigured

TEXT, DRAWING, DECODER = 6, 4, 1


@dataclass
class Bench:
    """A pool of weightless models that writes down what became of them."""

    budget: int | None
    said: list[Moved] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)
    pool: Pool = field(init=False)

    def __post_init__(self) -> None:
        self.pool = Pool(self.budget, lambda: None, clock=lambda: 0.0)

    def say(self, message: Message) -> None:
        assert isinstance(message, Moved)
        self.said.append(message)

    def part(self, name: str, size: int, *, parkable: bool = False) -> Part:
        def move(to: Place) -> None:
            self.places[name] = to

        return Part(name, size, move, parkable=parkable)

    def hold(self, model: str, *parts: Part) -> None:
        self.pool.hold(model, parts, lambda: None)

    def bring(self, model: str, *names: str) -> list[tuple[str, str, list[str]]]:
        """Bring, and return what was said of it."""
        self.said.clear()
        self.pool.bring(model, names, self.say, "r")
        return [(said.to, said.model, said.parts) for said in self.said]


def two(budget: int | None) -> Bench:
    """A picture model of 5 and a video model of 6 + 4 + 1, whose text encoder may be parked."""
    bench = Bench(budget)
    bench.hold("pictures", bench.part("unet", DRAWING), bench.part("vae", DECODER))
    bench.hold(
        "videos",
        bench.part("text_encoder", TEXT, parkable=True),
        bench.part("transformer", DRAWING),
        bench.part("decoder", DECODER),
    )
    return bench


def test_what_fits_stays_together() -> None:
    bench = two(TEXT + 2 * (DRAWING + DECODER))
    bench.bring("pictures", "unet", "vae")
    bench.bring("videos", "text_encoder")
    bench.bring("videos", "transformer", "decoder")
    assert bench.bring("pictures", "unet", "vae") == []
    assert bench.pool.bytes == 16


class Network:
    """Something whose end can be seen."""


def test_what_is_released_is_gone_when_memory_is_given_back() -> None:
    """Whatever still names a part then would keep its network on the device, where another program wants the room."""
    there: list[list[bool]] = []
    alive: list[weakref.ref[Network]] = []
    pool = Pool(10, lambda: there.append([network() is not None for network in alive]))

    def part(name: str) -> Part:
        network = Network()
        alive.append(weakref.ref(network))
        return Part(name, 5, lambda _, network=network: None)  # type: ignore[misc]

    pool.hold("pictures", [part("unet"), part("vae")], lambda: None)
    pool.bring("pictures", ["unet", "vae"], lambda _: None, "r")
    pool.make_room(10, lambda _: None, "r")
    assert there == [[False, False]]


def test_what_the_last_step_does_not_use_is_spared() -> None:
    """The text encoder, while the frames want more memory than there is; only once, and not where it is the host's."""
    bench = two(100)
    bench.bring("videos", "text_encoder", "transformer")
    bench.bring("videos", "transformer", "decoder")
    bench.said.clear()
    assert bench.pool.spare("videos", bench.say, "r")
    assert [(said.to, said.parts, said.bytes) for said in bench.said] == [("host", ["text_encoder"], TEXT)]
    assert not bench.pool.spare("videos", bench.say, "r")
    assert not bench.pool.spare("nobody", bench.say, "r")
    unlimited = two(None)
    unlimited.bring("videos", "text_encoder")
    unlimited.bring("videos", "transformer")
    assert not unlimited.pool.spare("videos", unlimited.say, "r")


def test_parkable_parts_go_to_the_host_before_a_model_is_released() -> None:
    bench = two(TEXT + DRAWING + DECODER)
    bench.bring("pictures", "unet", "vae")
    bench.bring("videos", "text_encoder")
    assert bench.bring("videos", "transformer", "decoder") == [
        ("host", "videos", ["text_encoder"]),
        ("device", "videos", ["transformer", "decoder"]),
    ]
    assert bench.places["text_encoder"] == "host"
    assert set(bench.pool.held) == {"pictures", "videos"}


def test_the_least_recently_used_model_is_released_first() -> None:
    bench = Bench(10)
    for name in ("a", "b", "c"):
        bench.hold(name, bench.part(f"{name}-unet", 5))
    bench.bring("a", "a-unet")
    bench.bring("b", "b-unet")
    bench.bring("a", "a-unet")
    assert bench.bring("c", "c-unet") == [("released", "b", ["b-unet"]), ("device", "c", ["c-unet"])]
    assert set(bench.pool.held) == {"a", "c"}


def test_a_model_larger_than_the_room_for_it_takes_turns_with_itself() -> None:
    bench = two(TEXT)
    bench.bring("videos", "text_encoder")
    bench.bring("videos", "transformer", "decoder")
    assert bench.bring("videos", "text_encoder") == [
        ("host", "videos", ["transformer"]),
        ("host", "videos", ["decoder"]),
        ("device", "videos", ["text_encoder"]),
    ]
    with pytest.raises(Misconfigured, match=r"videos needs .* at once \(text_encoder, transformer\)"):
        bench.bring("videos", "text_encoder", "transformer")


def test_a_shared_part_counts_once_and_outlives_one_of_its_models() -> None:
    bench = Bench(None)
    shared = bench.part("text_encoder", TEXT, parkable=True)
    bench.hold("plain", shared, bench.part("transformer", DRAWING))
    bench.hold("guided", shared, bench.part("guided-transformer", DRAWING))
    bench.bring("plain", "text_encoder", "transformer")
    assert bench.bring("guided", "text_encoder", "guided-transformer") == [("device", "guided", ["guided-transformer"])]
    assert bench.pool.bytes == TEXT + 2 * DRAWING
    bench.said.clear()
    assert bench.pool.release_others("guided", bench.say, "r")
    assert [(said.model, said.parts, said.bytes) for said in bench.said] == [("plain", ["transformer"], DRAWING)]
    assert bench.pool.bytes == TEXT + DRAWING
    assert not bench.pool.release_others("guided", bench.say, "r")


SIZES = st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@given(
    models=st.lists(SIZES, min_size=1, max_size=4),
    budget=st.integers(9, 40),
    uses=st.lists(st.tuples(st.integers(0, 3), st.sets(st.integers(0, 3), min_size=1)), max_size=12),
)
def test_what_was_brought_is_there_and_the_budget_holds(
    models: list[list[tuple[int, bool]]], budget: int, uses: list[tuple[int, set[int]]]
) -> None:
    """Whatever is asked in whatever order; and the account equals what the parts say that they did."""
    bench = Bench(budget)
    sizes = {f"{m}.{p}": size for m, parts in enumerate(models) for p, (size, _) in enumerate(parts)}

    def hold(m: int) -> None:
        parts = [bench.part(f"{m}.{p}", size, parkable=parkable) for p, (size, parkable) in enumerate(models[m])]
        for part in parts:
            bench.places[part.name] = "host"
        bench.hold(str(m), *parts)

    for chosen, which in uses:
        m = chosen % len(models)
        if str(m) not in bench.pool.held:
            hold(m)
        names = sorted({f"{m}.{p % len(models[m])}" for p in which})
        if sum(sizes[name] for name in names) > budget:
            with pytest.raises(Misconfigured):
                bench.bring(str(m), *names)
            continue
        bench.bring(str(m), *names)
        assert all(bench.places[name] == "device" for name in names)
        held = {part.name for one in bench.pool.held.values() for part in one.parts}
        there = sum(sizes[name] for name in held if bench.places[name] == "device")
        assert there == bench.pool.bytes <= budget


def test_a_part_that_does_not_get_through_is_brought_back_and_what_did_is_told() -> None:
    """Half of a network on the device would be counted by nobody."""
    bench = two(None)
    places: list[str] = []

    def stuck(to: Place) -> None:
        places.append(to)
        if to == "device":
            raise MemoryError

    bench.hold("large", bench.part("vae", DECODER), Part("unet", DRAWING, stuck))
    with pytest.raises(MemoryError):
        bench.bring("large", "vae", "unet")
    assert places == ["device", "host"]
    assert [said.parts for said in bench.said] == [["vae"]]
    assert bench.pool.bytes == DECODER
