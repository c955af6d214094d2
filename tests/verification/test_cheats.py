"""An honest provider raises no alarm, and every cheat is told within the packets that its formula says.

Oracle: who cheats knows it. Cheats on single packets are seen once one of them is watched
(`packets_until_seen`); those that could be chance are told once their number contradicts the loss bound
(`packets_until_told`). A few seeds run here, all of them in `make exhaustive`.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from finsy.proto import p4r
from provider import EPOCH_US, KEY, LOSS_BOUND, Cheat, Provider, meant

from orchestrator.errors import InputError
from orchestrator.verification import evidence
from orchestrator.verification.cle.intake import Intake
from orchestrator.verification.cle.running import log_folder
from orchestrator.verification.cle.seals import Head
from orchestrator.verification.cle.segments import Log
from orchestrator.verification.collector import COLLECTOR, KEYED
from orchestrator.verification.keys import public_text
from orchestrator.verification.statistics import (
    FAMILY_WISE,
    packets_until_seen,
    packets_until_told,
    tail,
)
from servernf.proto import vnf_pb2
from servernf.wire import nsh, prf, records, slices
from servernf.wire.addresses import device_mac
from servernf.wire.records import RecordKind, frame_digest, point_id
from servernf.wire.reports import HEADER_BYTES, is_report

pytestmark = pytest.mark.slow

RATE = 0.5
SHARE = 0.1
"""Of packets, on which cheats of single packets are."""
WORKERS = ("server1.1", "server1.2")
SERVER = tuple(map(point_id, WORKERS))
LEAF2, SPINE1 = 2, 3
"""Numbers of switches."""
QUESTIONS = 16
"""Of a judgement at most, among which the level is dealt."""
SEEN = packets_until_seen(SHARE, RATE)
TOLD = packets_until_told(SHARE, LOSS_BOUND, RATE, FAMILY_WISE / QUESTIONS)

Link = Callable[[str, str, bytes, int], Iterable[tuple[bytes, int]]]


@dataclass(frozen=True)
class Case:
    """A cheat by its seed, the packets within which it is told, and how."""

    make: Callable[[int], Cheat]
    packets: int
    says: str


def at_start(act: Callable[[Provider], None]) -> Callable[[int], Cheat]:
    return lambda seed: Cheat(script={0: act})


def rechained(*nfs: tuple[str, str]) -> Callable[[Provider], None]:
    """Another controller chains the NFs of the path through ids and NAPT otherwise."""

    def act(provider: Provider) -> None:
        for worker in provider.workers():
            head, *rest = nfs
            request = vnf_pb2.ServiceChainRequest(nf=f"campus/{head[0]}")
            request.scope.spi, request.scope.si, request.scope.in_port = 16384, 254, head[1]
            for name, port in rest:
                request.next.add().nf.CopyFrom(vnf_pb2.NfHop(name=f"campus/{name}", port=port))
            leave = vnf_pb2.ExitHop(dst_mac=device_mac(1), spi=16384, si=253)
            request.next.add().exit.CopyFrom(leave)
            gone = vnf_pb2.ServiceChainRequest(nf="campus/edge_ids", scope=request.scope)
            gone.scope.in_port = "inside"
            worker.serviceChainUpdate(gone)
            worker.serviceChain(request)

    return act


def astray(provider: Provider) -> None:
    """Another controller has leaf1 send on what is for leaf2 to a spine."""
    switch = provider.network.switches["leaf1"]
    assert switch.schema is not None
    right, wrong = ("mac", device_mac(LEAF2)), ("mac", device_mac(SPINE1))
    changed = [
        entry._replace(params=tuple(wrong if param == right else param for param in entry.params))
        for entry in (row.entry for row in switch.entries())
        if right in entry.params
    ]
    switch.write(switch.schema.updates(changed, "campus", p4r.Update.MODIFY))


def cheaper(provider: Provider) -> None:
    """The intrusion detection runs without its signatures."""
    for worker in provider.workers():
        request = vnf_pb2.ConfigureRequest(graph="campus")
        request.nfs.add(name="campus/edge_ids", type="ids", config_json='{"signatures": []}')
        worker.configure(request)


def on_link(
    near: str,
    far: str,
    change: Callable[[bytes, random.Random], Iterable[tuple[bytes, int]]],
    *,
    reports: bool = False,
) -> Callable[[int], Cheat]:
    """A share of the frames of a link, or of what switches report over it, fares otherwise."""

    def make(seed: int) -> Cheat:
        chance = random.Random(seed)

        def link(one: str, other: str, frame: bytes, now: int) -> Iterable[tuple[bytes, int]]:
            mine = (one, other) == (near, far) and is_report(frame) is reports
            if mine and chance.random() < SHARE:
                return change(frame, chance)
            return ((frame, 0),)

        return Cheat(link=link)

    return make


def other_core(frame: bytes, chance: random.Random) -> Iterable[tuple[bytes, int]]:
    return ((frame[:5] + bytes((3 - frame[5],)) + frame[6:], 0),)


def past_leaf1(frame: bytes, chance: random.Random) -> Iterable[tuple[bytes, int]]:
    """What is for leaf1 goes on at once to leaf2, with the tag that leaf1 would have given it."""
    decoded = nsh.decode(frame)
    assert decoded is not None
    tag = replace(decoded[0], dst_mac=device_mac(LEAF2), si=decoded[0].si - 1)
    return ((nsh.encode(tag, decoded[1]), 0),)


def advertised(frame: bytes, chance: random.Random) -> Iterable[tuple[bytes, int]]:
    return ((frame[:-4] + b"BUY!", 0),)


def relabelled(frame: bytes, chance: random.Random) -> Iterable[tuple[bytes, int]]:
    """A report says another label; the one that the switch sent is gone."""
    at = nsh.TAG_BYTES + 20
    return ((frame[:at] + chance.randbytes(4) + frame[at + 4 :], 0),)


def made_up(frame: bytes, chance: random.Random) -> Iterable[tuple[bytes, int]]:
    """A report that nobody sent, in front of one that a switch did."""
    at = nsh.TAG_BYTES + 4
    number = chance.getrandbits(16).to_bytes(4, "big")
    return ((frame[:at] + number + frame[at + 4 :], 0), (frame, 0))


def rewritten(frame: bytes, chance: random.Random) -> Iterable[tuple[bytes, int]]:
    """What a report shows of the packet is another packet: no MAC covers that."""
    assert len(frame) > nsh.TAG_BYTES + HEADER_BYTES
    return ((frame[:-1] + bytes((frame[-1] ^ 1,)), 0),)


def injected(provider: Provider) -> None:
    """Packets that nobody sent, for which somebody is to pay."""

    def link(one: str, other: str, frame: bytes, now: int) -> Iterable[tuple[bytes, int]]:
        decoded = nsh.decode(frame)
        if (one, other) != ("leaf1", "server1") or decoded is None or decoded[0].oam:
            return ((frame, 0),)
        if provider.random.random() >= SHARE:
            return ((frame, 0),)
        tag = replace(decoded[0], label=provider.random.getrandbits(32))
        return ((frame, 0), (nsh.encode(tag, decoded[1]), 10))

    provider.network.tamper = link


def on_log(change: Callable[[records.Record], records.Record | None]) -> Callable[[int], Cheat]:
    """A share of the workers' records is another one, or none, before the CLE has it."""

    def make(seed: int) -> Cheat:
        chance = random.Random(seed)

        def log(told: list[bytes]) -> list[bytes]:
            entries_kept: list[bytes] = []
            for data in told:
                record = records.read(data)
                mine = record.point in SERVER and record.kind is not RecordKind.EVENT
                if mine and chance.random() < SHARE:
                    made = change(record)
                    entries_kept += [] if made is None else [made.pack()]
                else:
                    entries_kept.append(data)
            return entries_kept

        return Cheat(log=log)

    return make


def edited(record: records.Record) -> records.Record:
    frame = record.frame[:-1] + b"!"
    return replace(record, frame=frame, digest=frame_digest(frame))


def forged_twice(seed: int) -> Cheat:
    """The old story and a new one."""
    make = on_log(edited)(seed)
    assert make.log is not None
    log = make.log
    return Cheat(log=lambda told: [*told, *log(told)])


def restarted(seed: int) -> Cheat:
    """A worker is started again, and the end of what it told before is missing: no number is."""

    def log(told: list[bytes]) -> list[bytes]:
        boots = [records.read(data) for data in told if records.read(data).point == SERVER[0]]
        first = boots[0].boot
        mine = [r.sequence for r in boots if r.boot == first]
        keep = mine[len(mine) // 2]
        return [
            data for data in told if (r := records.read(data)).boot != first or r.sequence <= keep
        ]

    def restart(provider: Provider) -> None:
        provider.settle()
        provider.renew(provider.cores()[0])

    return Cheat(log=log, script={TOLD // 2: restart})


def reloaded(seed: int) -> Cheat:
    """So does a switch, whose records are those of its boots."""

    def log(told: list[bytes]) -> list[bytes]:
        mine = [r for r in map(records.read, told) if r.point == point_id("leaf1")]
        first = min(r.boot for r in mine)
        numbers = [r.sequence for r in mine if r.boot == first]
        keep = numbers[len(numbers) // 2]
        hidden = {(r.boot, r.sequence) for r in mine if r.boot == first and r.sequence > keep}
        return [
            data
            for data in told
            if (r := records.read(data)).point != point_id("leaf1")
            or (r.boot, r.sequence) not in hidden
        ]

    return Cheat(log=log, script={TOLD: lambda provider: provider.reload("leaf1")})


def backdated(seed: int) -> Cheat:
    """Records of the first packets are made up later, with the times that they should have had; the
    numbers are in order."""
    chance = random.Random(seed)

    def log(told: list[bytes]) -> list[bytes]:
        late: list[records.Record] = []
        there: list[records.Record] = []
        for record in map(records.read, told):
            mine = record.point == SERVER[0] and record.kind is not RecordKind.EVENT
            hidden = mine and record.wall_us < EPOCH_US + 2_000_000 and chance.random() < SHARE
            (late if hidden else there).append(record)
        numbers = itertools.count()
        return [
            (replace(r, sequence=next(numbers)) if r.point == SERVER[0] else r).pack()
            for r in (*there, *late)
        ]

    return Cheat(log=log, script={SEEN: lambda provider: provider.skip(3)})


AFTER = packets_until_seen(1 / len(SERVER), RATE)
"""Packets until a worker has told of one more: only behind that is a record a late one."""


CASES = {
    "an NF is skipped": Case(
        at_start(rechained(("edge_nat", "inside"))), SEEN, "was to have it next"
    ),
    "wrong order": Case(
        at_start(rechained(("edge_nat", "inside"), ("edge_ids", "inside"))),
        SEEN,
        "was to have it next",
    ),
    "another configuration": Case(at_start(cheaper), SEEN, "another configuration"),
    "another device": Case(
        on_link("leaf1", "server1", other_core), TOLD, "did not report packets that later"
    ),
    "dropped, called loss": Case(
        on_link("server1", "leaf1", lambda frame, chance: ()), TOLD, "packets vanish"
    ),
    "changed on the way": Case(
        on_link("leaf1", "server1", advertised), SEEN, "was changed on its way"
    ),
    "replayed": Case(
        on_link("leaf1", "server1", lambda frame, chance: ((frame, 0), (frame, 20))),
        SEEN,
        "came to a switch twice",
    ),
    "injected": Case(at_start(injected), TOLD, "that never came in"),
    "records withheld": Case(on_log(lambda record: None), TOLD, "numbers of records are missing"),
    "records edited": Case(on_log(edited), SEEN, "was changed on its way"),
    "records forged": Case(forged_twice, SEEN, "two stories under one number"),
    "a switch withholds": Case(
        on_link("spine1", "leaf1", lambda frame, chance: (), reports=True),
        TOLD,
        "numbers of records are missing",
    ),
    "a switch's report edited": Case(
        on_link("leaf1", "server1", relabelled, reports=True), SEEN, "reports were forged"
    ),
    "a switch's report forged": Case(
        on_link("leaf1", "server1", made_up, reports=True), SEEN, "reports were forged"
    ),
    "a switch's report replayed": Case(
        on_link("leaf1", "server1", lambda frame, chance: ((frame, 0), (frame, 9)), reports=True),
        SEEN,
        "reports were replayed",
    ),
    "a switch's report shows another packet": Case(
        on_link("leaf1", "server1", rewritten, reports=True), SEEN, "was changed on its way"
    ),
    "a switch is left out": Case(
        on_link("server1", "leaf1", past_leaf1), TOLD, "leaf1 did not report packets that later"
    ),
    "a switch sends astray": Case(at_start(astray), SEEN, "to a device that is not meant to"),
    "dropped between switches": Case(
        on_link("leaf1", "spine1", lambda frame, chance: ()), TOLD, "packets vanish"
    ),
    "a switch restarted to hide": Case(reloaded, 2 * TOLD, "that never came in"),
    "backdated": Case(backdated, SEEN + AFTER, "with an earlier time"),
    "restarted to hide": Case(restarted, 2 * TOLD, "did not report packets that later"),
}


def told(case: Case, seed: int) -> bool:
    provider = Provider(seed, case.make(seed), rate=RATE)
    provider.run(case.packets)
    return any(case.says in finding.what for finding in provider.judged().findings)


def honest(seed: int) -> Provider:
    """Loss, skew, updates, buckets that move, new keys in the middle of traffic, restarts of a worker
    and of a switch."""
    provider = Provider(seed, rate=RATE, loss=0.001)
    provider.run(100)
    provider.update()
    provider.run(50)
    provider.skip(4.9)
    provider.run(450)  # an epoch begins, and its overlap
    provider.update()
    provider.run(100)
    provider.renew(provider.cores()[seed % 2])
    provider.run(50)
    provider.skip(2.0)
    provider.run(100)
    provider.reload("leaf2")
    provider.run(50)
    return provider


@pytest.mark.parametrize("name", CASES)
def test_a_cheat_is_told(name: str) -> None:
    case = CASES[name]
    assert told(case, 1), Provider(1, case.make(1), rate=RATE).judged()


def test_an_honest_one_raises_no_alarm() -> None:
    provider = honest(1)
    judged = provider.judged()
    assert judged.findings == ()
    assert judged.packets > 250
    epochs = {records.read(data).epoch for data in provider.log}
    assert epochs >= {1, 2}
    told = [r.event() for r in map(records.read, provider.log) if r.point == COLLECTOR]
    keyed = {(one["switch"], one["epoch"]) for one in told if one["event"] == KEYED}
    assert {(name, number) for name in ("leaf1", "leaf2") for number in (1, 2)} <= keyed


def test_a_version_that_nobody_has_agreed_to_is_told() -> None:
    provider = Provider(1, rate=RATE)
    provider.run(20)
    provider.update()
    provider.run(60)
    assert provider.judged().findings == ()
    provider.versions = 1  # as the customer knows it
    assert {finding.verdict for finding in provider.judged().findings} == {"path"}


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", CASES)
def test_a_cheat_is_told_whatever_the_seed(name: str) -> None:
    """The formula's 99.9 % quantile: of 20 seeds, one may miss with probability 0.02."""
    missed = [seed for seed in range(20) if not told(CASES[name], seed)]
    assert len(missed) <= 1, missed


@pytest.mark.exhaustive
@pytest.mark.parametrize("first", range(0, 50, 5))
def test_fifty_honest_runs_raise_no_alarm(first: int) -> None:
    """Family-wise 1e-3 a judgement: of all 50, one or more alarm with probability 0.05."""
    alarms = [honest(seed).judged().findings for seed in range(first, first + 5)]
    assert sum(map(bool, alarms)) <= 1, alarms


def two_heads(seed: int, folder: Path) -> list[str]:
    """Points and customer have heads of one log; another one, with a record edited, is what the CLE lets
    the customer judge by. What is said of that."""
    provider = Provider(seed, rate=RATE)
    provider.run(30)
    key = Ed25519PrivateKey.generate()
    kept: list[Head] = []
    chance = random.Random(seed)
    for name in ("told", "shown"):
        with closing(Log(log_folder(folder / name), key)) as log:
            intake = Intake(log)
            intake.on_head = kept.append if name == "told" else intake.on_head
            intake.start([])
            provider.ship(intake)
            intake.end()
        seen = [at for at, data in enumerate(provider.log) if records.read(data).frame_bytes]
        at = chance.choice(seen)
        provider.log[at] = edited(records.read(provider.log[at])).pack()
    with pytest.raises(InputError) as said:
        evidence.told(folder / "shown", public_text(key), kept)
    return said.value.problems


def test_a_cle_with_two_heads_is_told(tmp_path: Path) -> None:
    """By any head that was kept from where they part on: there is no chance in it."""
    assert any("the log does not lead there" in problem for problem in two_heads(1, tmp_path))


@pytest.mark.exhaustive
def test_a_cle_with_two_heads_is_told_whatever_the_seed(tmp_path: Path) -> None:
    for seed in range(20):
        assert two_heads(seed, tmp_path / str(seed))


def test_workers_alone_are_judged_as_far_as_they_tell() -> None:
    """As on networks whose switches make no records."""
    for cheat, says in (
        (None, set[str]()),
        (CASES["an NF is skipped"].make(1), {"was to have it next"}),
        (CASES["another configuration"].make(1), {"another configuration"}),
    ):
        provider = Provider(1, cheat, rate=RATE)
        provider.manifest = provider.manifest.model_copy(update={"points": WORKERS})
        provider.run(SEEN)
        mine = {point_id(name) for name in WORKERS}
        provider.log = [data for data in provider.log if records.read(data).point in mine]
        judged = provider.judged()
        assert judged.packets > 50
        told = {finding.what for finding in judged.findings}
        assert len(told) == len(says)
        assert all(any(part in what for what in told) for part in says)


def test_tails_are_the_binomials() -> None:
    chance = random.Random(3)
    for count, of, share in ((1, 10, 0.01), (3, 100, 0.01), (20, 1000, 0.01), (5, 5, 0.5)):
        runs = 4000
        hits = sum(sum(chance.random() < share for _ in range(of)) >= count for _ in range(runs))
        expected = tail(count, of, share)
        assert abs(hits / runs - expected) < 4 * (expected / runs) ** 0.5 + 2e-3
    assert (tail(0, 10, 0.1), tail(1, 10, 0.0), tail(11, 10, 0.5)) == (1.0, 0.0, 0.0)


def test_the_clock_of_a_run_is_virtual() -> None:
    one, other = Provider(7), Provider(7)
    for provider in (one, other):
        provider.run(20)
    assert [records.read(d).packet for d in one.log] == [records.read(d).packet for d in other.log]
    assert records.read(one.log[-1]).wall_us >= EPOCH_US
    assert meant().name(SERVER[0]) == "server1.1"


def test_records_with_state_are_judged_as_others() -> None:
    provider = Provider(1, rate=RATE)
    provider.manifest = provider.manifest.model_copy(update={"granularity": "packets+state"})
    provider.run(60)
    judged = provider.judged()
    assert judged.findings == ()
    assert judged.packets > 15
    left = [r for r in map(records.read, provider.log) if r.kind is RecordKind.OUT and r.nf]
    assert all(r.state for r in left if r.nf in ("campus/edge_nat", "campus/edge_ids"))
    assert any(slices.unpack(r.state).changes for r in left)


def test_flows_are_followed_whole() -> None:
    """No packet for itself, a share of the flows: all of a flow's packets, or none."""
    for cheat, says in ((None, []), (CASES["an NF is skipped"].make(1), ["was to have it next"])):
        provider = Provider(1, cheat, rate=0.0)
        sampling = provider.manifest.sampling.model_copy(update={"flows": 0.3})
        provider.manifest = provider.manifest.model_copy(update={"sampling": sampling})
        provider.run(120)
        judged = provider.judged()
        assert 10 < judged.packets < 70
        assert [
            says in finding.what for finding, says in zip(judged.findings, says, strict=True)
        ] == ([True] * len(says))
        told = [r for r in map(records.read, provider.log) if r.kind is RecordKind.ENTRY]
        epoch = provider.manifest.epoch(KEY, 1)
        assert all(prf.flow_witnessed(epoch.key0, epoch.key1, r.flow, epoch.flows) for r in told)
        flows = {r.frame[23:24] + r.frame[26:38]: r.flow for r in told}
        assert len(set(flows.values())) > 5
