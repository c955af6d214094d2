"""`trace`: labels, the choice of a packet, the comparison.

Oracle for labels: the pipeline itself (the softswitch runs p4c's output).
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from inspection_support import MANIFEST, campus, the_model, topology

from orchestrator.deployment.journal import Deployed
from orchestrator.errors import InputError
from orchestrator.observation.explain import Visit
from orchestrator.observation.frames import between_hosts, parse_packet
from orchestrator.observation.journey import Arrival
from orchestrator.observation.samples import SeenSample
from orchestrator.observation.tracing import (
    Sighting,
    choose,
    compare,
    expected_points,
    label_of,
    reported,
)
from servernf.wire.nsh import decode
from servernf.wire.prf import sampled

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "text",
    [
        "tcp 10.0.1.11:40000 > 198.51.100.13:80 id=7",
        "udp 10.0.1.11:40000 > 198.51.100.13:53 id=9 payload=12345678 and more",
        "udp 10.0.1.11:40000 > 198.51.100.13:53 payload=short",
        "icmp 10.0.1.11 > 198.51.100.13 id=3",
        "tcp [2001:db8:1::11]:40000 > [2001:db8:2::13]:443 id=5",
        "udp [2001:db8:1::11]:40000 > [2001:db8:2::13]:443 payload=87654321",
        "icmp 2001:db8:1::11 > 2001:db8:2::13 id=8",
        "tcp 10.0.1.11:40000 > 198.51.100.13:80 vlan=5",
    ],
)
def test_labels_are_the_pipelines(text: str) -> None:
    frame = parse_packet(text)
    visit = the_model().explainer("leaf1").explain(1, frame)
    assert visit.sent, visit.verdict
    tagged = decode(visit.sent[0].frame)
    assert tagged is not None
    assert tagged[0].label == label_of(frame)


def make(identification: int) -> bytes:
    return between_hosts(topology(), "h1", "h3:80", identification=identification)


def test_the_chosen_packet_is_one_that_the_manifest_samples() -> None:
    rare = replace(MANIFEST, threshold=1 << 24)
    frame = choose(make, Deployed(campus(), rare, "now"))
    assert sampled(rare.key0, rare.key1, label_of(frame), rare.threshold)


def test_what_cannot_be_traced_says_why() -> None:
    with pytest.raises(InputError, match="samples nothing"):
        choose(make, Deployed(campus(), None, "now"))


def points_of(seen: tuple[Sighting, ...]) -> list[SeenSample]:
    """The samples that devices would report."""
    samples: list[SeenSample] = []
    for one in seen:
        if one.what == "from a host":
            samples.append(SeenSample(1, 1, one.device, "port 1", 0, 1 << 14, 0, 0, 54))
        elif one.what.startswith("SPI"):
            _, spi, _, si = one.what.split()
            samples.append(SeenSample(1, 1, one.device, "port 3", 0, int(spi), int(si), 60, 54))
        else:
            samples.append(SeenSample(1, 1, one.device, one.what, 0, 1 << 14, 254, 0, 54))
    return samples


def test_agreement_and_every_kind_of_disagreement() -> None:
    journey = the_model().send("h1", make(1))
    expected = expected_points(journey, str)
    kinds = [seen.what for seen in expected]
    assert kinds[0] == "from a host"
    assert {"edge_ids in", "edge_ids out", "edge_nat in", "edge_nat out"} <= set(kinds)
    visits = [hop.stop for hop in journey.hops if isinstance(hop.stop, Visit)]
    assert sum(what.startswith("SPI") for what in kinds) == len(visits) - 1
    points = points_of(expected)
    assert [reported(point) for point in points] == list(expected)
    delivered = list(journey.deliveries)
    assert compare(journey, expected, points, delivered) == ((), ())
    wrong, _ = compare(journey, expected, points[:-1], delivered)
    assert "did not report" in wrong[0]
    wrong, _ = compare(journey, expected, [*points, points[-1]], delivered)
    assert "not predicted" in wrong[0]
    wrong, (note,) = compare(journey, expected, points, None)
    assert (wrong, note) == ((), "what came to hosts was not looked at")
    wrong, _ = compare(journey, expected, points, [])
    assert wrong == ("h3 was predicted to receive it",)
    wrong, _ = compare(journey, expected, points, [*delivered, Arrival("h4", make(1))])
    assert wrong == ("h4 received it, which was not predicted",)
    wrong, notes = compare(journey, expected, points, [Arrival("h3", make(1))])
    assert not wrong
    assert "an NF with state may choose" in notes[0]
