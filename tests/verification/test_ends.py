"""Better service for watched packets: the CLE's records are in order, the customer's own ends are not.

The provider has read the sampling key where switches have it, and drops what is not watched.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime

import pytest
from provider import EPOCH_US, KEY, Cheat, Provider

from orchestrator.errors import InputError
from orchestrator.verification.keys import commitment
from orchestrator.verification.statistics import (
    FAMILY_WISE,
    chance_of_worse,
    packets_until_told,
    packets_until_unfair,
)
from orchestrator.verification.tapped import TapsBesideRecords, beside
from orchestrator.verification.taps import RECEIVED, SENT, Ends, Sight, Tap, TapWatcher, compare
from orchestrator.verification.trajectories import trajectories
from orchestrator.verification.verdicts import once
from servernf.wire import nsh, records
from servernf.wire.prf import witnessed
from servernf.wire.records import RecordKind

OWN = bytes(range(32, 64))
"""The taps' key."""
PACKETS, SHARE, BOUND, RATE, WATCHED = 300, 0.1, 0.01, 0.5, 0.25
TOLD = packets_until_told(SHARE * (1 - WATCHED), BOUND, RATE, FAMILY_WISE / 3)
"""Packets after which such a share is told at the ends but for a probability of 1e-3."""


def favouring(seed: int, share: float = SHARE) -> Cheat:
    """Drops a share of what nobody watches, between server and switch."""
    chance = random.Random(seed)
    epochs = Provider(seed).manifest.witness(KEY, datetime.fromtimestamp(EPOCH_US / 1e6, UTC))
    assert epochs is not None

    def link(one: str, other: str, frame: bytes, now: int) -> Iterable[tuple[bytes, int]]:
        came = nsh.decode(frame) if (one, other) == ("server1", "leaf1") else None
        if came is None or chance.random() >= share:
            return ((frame, 0),)
        packet = came[0].label, came[0].ingress_us
        seen = any(witnessed(e.key0, e.key1, *packet, e.threshold) for e in epochs.epochs)
        return ((frame, 0),) if seen else ()

    return Cheat(link=link)


def run(provider: Provider, packets: int = PACKETS) -> Ends:
    return compare(*taps(provider, packets), BOUND, 0)


def beside_records(provider: Provider, packets: int = PACKETS) -> TapsBesideRecords:
    """The taps beside what points told."""
    inside, outside = taps(provider, packets)
    log = provider.log if provider.cheat.log is None else provider.cheat.log(provider.log)
    told = once(records.read(data) for data in log)
    sampled = provider.manifest.sampling.packets
    return beside(inside, outside, OWN, trajectories(told.records), sampled, BOUND, 0)


def taps(provider: Provider, packets: int) -> tuple[Tap, Tap]:
    """Traffic with taps where hosts send and receive."""
    watcher = TapWatcher(OWN, RATE)
    network, put = provider.network, provider.network.put
    sent: list[Sight | None] = []

    def tapped(host: str, frame: bytes, after_us: int = 0) -> None:
        sent.append(watcher.saw(frame, network.now_us, SENT))
        put(host, frame, after_us)

    network.put = tapped  # type: ignore[method-assign]
    provider.run(packets)
    came = [watcher.saw(one.frame, one.at_us, RECEIVED) for one in network.taken()]
    inside, outside = (
        Tap("tap", commitment(OWN), RATE, 0, network.now_us, 0, tuple(s for s in seen if s))
        for seen in (sent, came)
    )
    return inside, outside


@pytest.mark.slow
def test_better_service_for_watched_packets_shows_at_the_ends_alone() -> None:
    honest = Provider(5)
    ends = run(honest)
    assert (ends.changed, ends.injected, ends.problems) == (0, 0, ())
    assert ends.lost <= 2  # the ids refuses segments that fit no connection
    assert ends.sent > PACKETS / 3
    cheat = Provider(5, favouring(5))
    ends = run(cheat)
    assert "did not come" in ends.problems[0]
    assert (ends.changed, ends.injected) == (0, 0)
    judged = cheat.judged()
    assert judged.packets > PACKETS / 6
    assert judged.findings == ()


@pytest.mark.slow
@pytest.mark.exhaustive
def test_better_service_is_told_whatever_the_seed() -> None:
    """The formula's 99.9 % quantile: of 20 seeds, one may miss with probability 0.02."""
    missed = [s for s in range(20) if not run(Provider(s, favouring(s)), TOLD).problems]
    assert len(missed) <= 1, missed


def withheld(kinds: set[RecordKind], share: int) -> Cheat:
    """Of one label in `share` the CLE has no record of these kinds."""

    def log(told: list[bytes]) -> list[bytes]:
        records_told = [(data, records.read(data)) for data in told]
        return [data for data, r in records_told if r.kind not in kinds or r.label % share]

    return Cheat(log=log)


def last_mile(one: str, other: str, frame: bytes, now: int) -> Iterable[tuple[bytes, int]]:
    """What the last switch says to have sent does not arrive, each fifth packet."""
    return () if other in ("h3", "h4") and sum(frame) % 5 == 0 else ((frame, 0),)


UNFAIR, COMMON = 0.3, 0.03
"""What is lost of packets that points do not watch, and of all: the ids refuses some."""
EACH = FAMILY_WISE / 4
"""Of the four questions that are asked of taps beside records."""
UNTIL_UNFAIR = packets_until_unfair(UNFAIR, COMMON, WATCHED, RATE, EACH)
UNTOLD = packets_until_told(1 - WATCHED / 2, 1 - WATCHED * (1 - BOUND), RATE, EACH)
"""Until half of the entries are too few."""


def of_watched(share: float) -> int:
    """Packets until a share of those is told that points watch and taps see."""
    return packets_until_told(share, BOUND, RATE * WATCHED, EACH)


CHEATS = {
    "better service": (
        lambda seed: favouring(seed, UNFAIR),
        UNTIL_UNFAIR,
        "watched ones have better service",
    ),
    "entries withheld": (
        lambda seed: withheld({*RecordKind} - {RecordKind.EVENT}, 2),
        UNTOLD,
        "were to be told",
    ),
    "outputs withheld": (
        lambda seed: withheld({RecordKind.EXIT}, 3),
        of_watched(1 / 3),
        "whose output nobody told",
    ),
    "lost behind the last output": (
        lambda seed: Cheat(link=last_mile),
        of_watched(1 / 5),
        "did not come",
    ),
}


@pytest.mark.slow
def test_taps_and_records_of_an_honest_provider_agree() -> None:
    compared = beside_records(Provider(5))
    assert compared.problems == ()
    assert (compared.untold_outputs, compared.missing_outputs) == (0, 0)
    assert compared.told > 15
    assert compared.others > 60
    assert compared.outputs > 15


@pytest.mark.slow
@pytest.mark.parametrize("name", CHEATS)
def test_what_neither_taps_nor_records_tell_alone(name: str) -> None:
    make, packets, says = CHEATS[name]
    compared = beside_records(Provider(1, make(1)), packets)
    assert any(says in problem for problem in compared.problems), compared


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("name", CHEATS)
def test_taps_beside_records_tell_whatever_the_seed(name: str) -> None:
    make, packets, says = CHEATS[name]
    ends = (beside_records(Provider(seed, make(seed)), packets) for seed in range(20))
    assert sum(not any(says in p for p in compared.problems) for compared in ends) <= 1


def test_fishers_test_is_the_hypergeometrics() -> None:
    # Lady tasting tea (Fisher, 1935): of 8 cups all 4 right has 1 chance in 70, 3 or more 17 in 70.
    assert chance_of_worse(4, 4, 0, 4) == pytest.approx(1 / 70)
    assert chance_of_worse(3, 4, 1, 4) == pytest.approx(17 / 70)
    assert chance_of_worse(0, 100, 0, 50) == pytest.approx(1)


def test_taps_of_another_key_are_not_compared() -> None:
    tap = Tap("tap", commitment(OWN), RATE, 0, 1, 0, ())
    with pytest.raises(InputError, match="key is not this one"):
        beside(tap, tap, bytes(32), (), 0.1, BOUND, 0)
