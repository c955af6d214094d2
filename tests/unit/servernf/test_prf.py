"""HalfSipHash-2-4 against its authors' vectors.

The vectors are of messages of every length and ours have one word or two: a general HalfSipHash,
written here as the paper describes it, meets all vectors; ours meets it for random keys and words, one
at a time, in lanes and in C.
"""

from __future__ import annotations

import random
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from servernf.conformance.prf import KEY, VECTORS
from servernf.wire import native, nsh, prf, sampling


def rotated(word: int, bits: int) -> int:
    return (word << bits | word >> 32 - bits) & 0xFFFFFFFF


def half_siphash(key: bytes, message: bytes) -> bytes:
    k0, k1 = struct.unpack("<II", key)
    v = [k0, k1, 0x6C796765 ^ k0, 0x74656462 ^ k1]

    def rounds(count: int) -> None:
        for _ in range(count):
            for a, b, turn, then in ((0, 1, 5, 0), (2, 3, 8, 2), (0, 3, 7, 0), (2, 1, 13, 2)):
                v[a] = (v[a] + v[b]) & 0xFFFFFFFF
                v[b] = rotated(v[b], turn) ^ v[a]
                if (a, b) in ((0, 1), (2, 1)):
                    v[then] = rotated(v[then], 16)

    padded = message + bytes(-(len(message) + 1) % 4) + bytes([len(message) & 0xFF])
    for (word,) in struct.iter_unpack("<I", padded):
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(4)
    return struct.pack("<I", v[1] ^ v[3])


def test_the_general_form_meets_the_authors_vectors() -> None:
    got = [half_siphash(KEY, bytes(range(n))) for n in range(len(VECTORS))]
    assert got == list(VECTORS)


def test_ours_meets_the_vectors_of_one_word_and_of_two() -> None:
    k0, k1 = struct.unpack("<II", KEY)
    for count in (1, 2):
        words = struct.unpack(f"<{count}I", bytes(range(4 * count)))
        told = prf.half_siphash_32(k0, k1, *words)
        assert told.to_bytes(4, "little") == VECTORS[4 * count]
        (lane,) = sampling.Lanes(1).prf(k0, k1, *([word] for word in words))
        assert lane == told


def test_ours_meets_the_general_form_everywhere() -> None:
    chance = random.Random(1)
    corners = [0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
    words = [*corners, *(chance.getrandbits(32) for _ in range(500))]
    for word in words:
        k0, k1, other = chance.choice(words), chance.choice(words), chance.choice(words)
        key = struct.pack("<II", k0, k1)
        for message in ((word,), (word, other)):
            expected = half_siphash(key, struct.pack(f"<{len(message)}I", *message))
            assert prf.half_siphash_32(k0, k1, *message) == int.from_bytes(expected, "little")


needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> native.Library:
    folder = tmp_path_factory.mktemp("native")
    for name in native.SOURCES:
        shutil.copy(Path(native.__file__).parent / name, folder)
    assert native.build(folder)
    return native.Library(folder / native.OBJECT)


@needs_compiler
@pytest.mark.parametrize("count", [1, 2, 3, 15, 70])
def test_c_hashes_messages_of_any_length(compiled: native.Library, count: int) -> None:
    chance = random.Random(count)
    ask, ours = compiled.prf(count), prf.of_words(count)
    for corner in (0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
        key0, key1, *words = (
            chance.choice([corner, chance.getrandbits(32)]) for _ in range(count + 2)
        )
        expected = prf.half_siphash_32(key0, key1, *words)
        assert ask(key0, key1, *words) == ours(key0, key1, *words) == expected


def flow_of(label: int) -> int:
    return label * 31 & 0xFFFF


def contexts(packets: Sequence[tuple[int, int]]) -> bytes:
    """The context words of tags with these labels and times of ingress."""
    return b"".join(
        nsh.encode(nsh.Tag(1, 1, 5, 254, 63, 9, flow_of(label), label, 0, at), b"")[22:38]
        for label, at in packets
    )


@needs_compiler
def test_c_and_lanes_decide_as_one_at_a_time(compiled: native.Library) -> None:
    chance = random.Random(1)
    made = (compiled.places, sampling.lane_places, sampling.places)
    for below in (0, 1 << 31, 1 << 32):
        key0, key1 = chance.getrandbits(32), chance.getrandbits(32)
        asked = {of: [ask(key0, key1, below, of) for ask in made] for of in range(3)}
        for count in (0, 1, 2, 63, 64, 300, 5):
            packets = [(chance.getrandbits(32), chance.getrandbits(32)) for _ in range(count)]
            packets[-1:] = [(0, 0xFFFFFFFF)] if packets else []
            expected = {
                sampling.LABEL: [prf.sampled(key0, key1, label, below) for label, _ in packets],
                sampling.PACKET: [prf.witnessed(key0, key1, *one, below) for one in packets],
                sampling.FLOW: [
                    prf.flow_witnessed(key0, key1, flow_of(label), below) for label, _ in packets
                ],
            }
            for of, answers in expected.items():
                places = [at for at, answer in enumerate(answers) if answer]
                for ask in asked[of]:
                    assert list(ask(contexts(packets))) == places


@needs_compiler
def test_what_was_made_of_other_sources_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in native.SOURCES:
        shutil.copy(Path(native.__file__).parent / name, tmp_path)
    monkeypatch.setattr(native, "_HERE", tmp_path)
    load = native.library.__wrapped__
    assert load() is None
    assert native.build(tmp_path)
    assert load() is not None
    with (tmp_path / "prf.c").open("a", encoding="ascii") as file:
        file.write("/* changed */\n")
    assert load() is None


def test_equal_packets_are_not_one_sample() -> None:
    tags = contexts([(77, 1_000_000 + at) for at in range(10_000)])
    watched = sampling.places(3, 4, 1 << 30, sampling.PACKET)(tags)
    assert 2300 < len(watched) < 2700


def test_the_rate_is_the_thresholds() -> None:
    for rate in (0.01, 0.25, 0.9):
        hits = sum(prf.sampled(3, 4, label, int(rate * 2**32)) for label in range(20_000))
        assert abs(hits / 20_000 - rate) < 0.015
    assert not any(prf.sampled(3, 4, label, 0) for label in range(1000))
