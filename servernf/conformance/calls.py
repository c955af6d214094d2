"""What the management API answers, and what a worker does with frames whatever its NFs are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from servernf.conformance.device import GRAPH, NEXT, WAIT_S, NotConforming, WorkerUnderTest, details
from servernf.conformance.frames import udp
from servernf.proto import vnf_pb2 as vnf
from servernf.wire import nsh
from servernf.wire.configs import config_digest

Check = Callable[[WorkerUnderTest], None]
CHECKS: dict[str, Check] = {}
"""By what they say."""

PERMIT = '{"rules": [], "default": "permit"}'
FRAME = udp("10.0.0.1", 7, "198.51.100.9", 9)
INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
THERE, DENIED = grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.PERMISSION_DENIED


def check(says: str) -> Callable[[Check], Check]:
    """Enter a check under a sentence."""

    def entered(function: Check) -> Check:
        CHECKS[says] = function
        return function

    return entered


def expect(holds: bool, what: str) -> None:
    """NotConforming with what does not hold."""
    if not holds:
        raise NotConforming(what)


def refused(
    device: WorkerUnderTest, code: grpc.StatusCode, words: tuple[str, ...], call: Callable[[], Any]
) -> None:
    """A call that is refused in such words, and changes nothing."""
    before = _state(device)
    try:
        call()
    except grpc.RpcError as error:
        told = details(error)
        expect(told.startswith(f"{code.name}: "), f"refused with {told}; should be {code.name}")
        for word in words:
            expect(word in told, f"refused with {told}; should say {word}")
    else:
        raise NotConforming(f"accepted; should be refused with {code.name}")
    expect(_state(device) == before, "a call that was refused has changed the worker")


def _state(device: WorkerUnderTest) -> bytes:
    status = device.status()
    kept = vnf.Status(nfs=status.nfs, paths=status.paths, sampled_graphs=status.sampled_graphs)
    return kept.SerializeToString(deterministic=True)


def configure(device: WorkerUnderTest, *nfs: vnf.NfConfig, **more: Any) -> vnf.ConfigureResponse:
    """Configure NFs of the graph."""
    request = vnf.ConfigureRequest(graph=GRAPH, nfs=nfs, **more)
    return device.change(device.stub.configure, request)


def nf(name: str = "nf", kind: str = "acl", text: str = PERMIT) -> vnf.NfConfig:
    """An NF of the graph."""
    return vnf.NfConfig(name=f"{GRAPH}/{name}", type=kind, config_json=text)


def chain(to: str = "nf", port: str = "inside", spi_out: int = 50, *, dst: int = NEXT) -> Any:
    """A chain of one NF."""
    return vnf.ServiceChainRequest(
        nf=f"{GRAPH}/{to}",
        scope=vnf.Scope(spi=40, si=255, in_port=port),
        next=[vnf.Hop(exit=vnf.ExitHop(dst_mac=dst, spi=spi_out, si=7))],
    )


@check("getStatus names the worker, its MAC and its NFs")
def _status(device: WorkerUnderTest) -> None:
    status = device.status()
    expect(bool(status.name) and 0 < status.mac < 1 << 48, "no name, or no MAC of 48 bits")
    expect("acl" in status.nf_types, f"no acl among {', '.join(status.nf_types)}")
    expect(sorted(set(status.nf_types)) == list(status.nf_types), "nf_types: not sorted, or twice")
    answer = device.stub.getChainingProtocols(vnf.ChainingProtocolsRequest())
    expect("nsh-md1-ethernet" in answer.protocols, f"protocols: {', '.join(answer.protocols)}")


@check("configure creates, keeps, replaces and removes")
def _configure(device: WorkerUnderTest) -> None:
    one, two = nf("one"), nf("two")
    names = [f"{GRAPH}/one", f"{GRAPH}/two"]
    expect(list(configure(device, one, two).created) == names, "created: not both")
    two.config_json = '{"rules": [], "default": "deny"}'
    again = configure(device, one, two)
    expect(list(again.unchanged) == names[:1], "unchanged: not the first")
    expect(list(again.replaced) == names[1:], "replaced: not the second")
    gone = configure(device, remove=names[:1])
    expect(list(gone.removed) == names[:1], "removed: not the first")
    expect([n.name for n in device.status().nfs if "marker" not in n.name] == names[1:], "status")


@check("config_digest is of the bytes that came")
def _digest(device: WorkerUnderTest) -> None:
    for text in ('{"default":"permit","rules":[]}', '{ "rules": [ ], "default": "permit" }'):
        configure(device, nf(text=text))
        (digest,) = (n.config_digest for n in device.status().nfs if n.name == f"{GRAPH}/nf")
        expect(
            digest == config_digest(text), f"{digest} of {text}; should be {config_digest(text)}"
        )
        expect(
            list(configure(device, nf(text=text)).unchanged) != [], "the same bytes: not unchanged"
        )


@check("a bad configuration is refused, with its place and all problems at once")
def _bad_configuration(device: WorkerUnderTest) -> None:
    for words, wrong in (
        (("nfs[0].config_json",), nf(text="{")),
        (("nfs[0].config_json",), nf(text="[]")),
        ((f"{GRAPH}/nf", "acll"), nf(kind="acll")),
        ((f"{GRAPH}/nf", "defualt"), nf(text='{"rules": [], "default": "deny", "defualt": 1}')),
        (("nfs[0]", "other/nf"), vnf.NfConfig(name="other/nf", type="acl", config_json=PERMIT)),
    ):
        refused(device, INVALID, words, lambda wrong=wrong: configure(device, wrong))
    both = (nf("a", text='{"rules": [], "default": "maybe"}'), nf("b", kind="acll"))
    refused(device, INVALID, (f"{GRAPH}/a", f"{GRAPH}/b"), lambda: configure(device, *both))
    twice = (nf("a"), nf("a"))
    refused(device, INVALID, ("nfs[1]",), lambda: configure(device, *twice))
    wrong = vnf.Manifest(threshold=(1 << 32) + 1)
    refused(device, INVALID, ("threshold",), lambda: configure(device, manifest=wrong))


@check("changing calls say an election id, and the highest wins")
def _election(device: WorkerUnderTest) -> None:
    request = vnf.ConfigureRequest(graph=GRAPH, nfs=[nf()])
    lower = (device.election - 1).to_bytes(16)
    configure(device, nf("seen"))
    for said in (lower, b"", bytes(15), bytes(17)):
        refused(device, DENIED, (), lambda s=said: device.change(device.stub.configure, request, s))
    refused(device, DENIED, (), lambda: device.stub.configure(request))
    removing = vnf.RemoveGraphRequest(graph=GRAPH)
    refused(device, DENIED, (), lambda: device.change(device.stub.removeGraph, removing, lower))
    refused(
        device, DENIED, (), lambda: device.change(device.stub.serviceChain, chain("seen"), lower)
    )


@check("chains: what is not there, and what leads elsewhere")
def _chains(device: WorkerUnderTest) -> None:
    configure(device, nf())
    stub = device.stub

    def calling(method: Any, request: Any) -> Callable[[], Any]:
        return lambda: device.change(method, request)

    refused(device, MISSING, ("nff",), calling(stub.serviceChain, chain("nff")))
    refused(device, MISSING, (), calling(stub.serviceChainUpdate, chain()))
    refused(device, INVALID, ("insite",), calling(stub.serviceChain, chain(port="insite")))
    refused(device, INVALID, ("dst_mac",), calling(stub.serviceChain, chain(dst=1 << 48)))
    endless = chain()
    del endless.next[:]
    refused(device, INVALID, ("next",), calling(stub.serviceChain, endless))
    answer = device.change(stub.serviceChain, chain())
    expect(answer.mac == device.mac, "serviceChain does not answer the worker's MAC")
    device.change(stub.serviceChain, chain())  # again is no error
    refused(device, THERE, (), calling(stub.serviceChain, chain(spi_out=51)))
    device.change(stub.serviceChainUpdate, chain(spi_out=51))
    device.send(FRAME, 40)
    (left,) = device.receive(1)
    expect(left.tag.spi == 51, f"left with SPI {left.tag.spi}; should be 51")
    device.change(stub.serviceChainUpdate, endless)
    device.send(FRAME, 40)
    expect(device.receive(0) == [], "a frame of a chain that was removed leaves")


@check("a frame leaves with its tag: addresses, path and TTL are the next, the words stay")
def _tag(device: WorkerUnderTest) -> None:
    configure(device, nf())
    device.change(device.stub.serviceChain, chain())
    words = {"traffic_class": 3, "flow": 5, "label": 0xDEADBEEF, "ingress_us": 77}
    device.send(FRAME, 40, ttl=9, nf_labels=21, **words)
    (left,) = device.receive(1)
    wanted = nsh.Tag(NEXT, device.mac, 50, 7, ttl=8, nf_labels=21, **words)
    expect(left.frame == FRAME, "the frame is another one")
    expect(left.tag == wanted, f"{left.tag}; should be {wanted}")


@check("frames that are not for a worker are dropped and counted by reason")
def _strangers(device: WorkerUnderTest) -> None:
    tag = nsh.Tag(device.mac, NEXT, 4000, 255)
    good = nsh.encode(tag, FRAME)
    oam = good[:14] + bytes([good[14] | 0x20]) + good[15:]
    other_type = good[:16] + b"\x02" + good[17:]
    for reason, frame in (
        ("unknown_path", good),
        ("nsh_ttl", nsh.encode(nsh.Tag(device.mac, NEXT, 1, 255, ttl=1), FRAME)),
        ("bad_tag", oam),
        ("bad_tag", other_type),
        ("malformed", nsh.encode(nsh.Tag(device.mac, NEXT, 1, 255), b"\x01" * 6)),
    ):
        before = device.metrics().get(f"drop.{reason}", 0)
        device.raw(frame)
        expect(device.receive(0) == [], f"{reason}: a frame leaves")
        grown = device.metrics().get(f"drop.{reason}", 0) - before
        expect(grown == 1, f"drop.{reason} has grown by {grown}; should be 1")


@check("watched packets are sampled as they enter and leave, others are not")
def _samples(device: WorkerUnderTest) -> None:
    everything = vnf.Manifest(key0=1, key1=2, threshold=1 << 32)
    deny = '{"rules": [{"dst_port": 9, "protocol": "udp", "action": "deny"}], "default": "permit"}'
    configure(device, nf(text=deny), manifest=everything)
    device.change(device.stub.serviceChain, chain())
    expect(list(device.status().sampled_graphs) == [GRAPH], "sampled_graphs: not the graph")
    cursor = device.stub.readSamples(vnf.ReadSamplesRequest()).cursor
    other = udp("10.0.0.1", 7, "198.51.100.9", 10)
    for frame in (other, FRAME):
        device.send(frame, 40, label=4711)
    device.receive(1)
    answer = device.stub.readSamples(vnf.ReadSamplesRequest(cursor=cursor))
    mine = [s for s in answer.samples if s.nf == f"{GRAPH}/nf"]
    told = [(s.direction, s.label, s.spi, s.si, s.length) for s in mine]
    wanted = [(way, 4711, 40, 255, len(FRAME)) for way in ("in", "out", "in", "drop")]
    expect(told == wanted, f"samples {told}; should be {wanted}")
    configure(device, remove_manifest=True)
    cursor = answer.cursor
    device.send(FRAME, 40, label=4711)
    device.receive(0)
    after = device.stub.readSamples(vnf.ReadSamplesRequest(cursor=cursor))
    expect(not after.samples, "a packet is sampled without a manifest")


@check("a graph is removed with all that it has, again and again")
def _remove(device: WorkerUnderTest) -> None:
    configure(device, nf())
    device.change(device.stub.serviceChain, chain())
    removing = vnf.RemoveGraphRequest(graph=GRAPH)
    first = device.change(device.stub.removeGraph, removing)
    expect(f"{GRAPH}/nf" in first.removed, "removed: not the NF")
    again = device.change(device.stub.removeGraph, removing)
    expect(not again.removed, "removed: something the second time")
    expect(not device.status().nfs and not device.status().paths, "something is left")
    asked = vnf.MetricsRequest(nf=f"{GRAPH}/nf")
    refused(device, MISSING, (f"{GRAPH}/nf",), lambda: device.stub.queryMetrics(asked))


@check("watchEvents tells what was dropped, why, and by which rule")
def _events(device: WorkerUnderTest) -> None:
    configure(device, nf(text='{"rules": [], "default": "deny"}'))
    device.change(device.stub.serviceChain, chain())
    frame = udp("10.0.0.1", 4712, "198.51.100.9", 9)  # of nobody before
    device.send(frame, 40)
    request = vnf.WatchEventsRequest(graphs=[GRAPH], follow=True)
    batches: Any = device.stub.watchEvents(request, timeout=WAIT_S)
    told: list[vnf.Event] = []
    for batch in batches:
        told += (event for event in batch.events if event.packet.source_port == 4712)
        if told:
            break
        device.send(frame, 40)  # drops before these may have used up what an NF may tell
    batches.cancel()
    expect(bool(told), "nothing is told of a packet that was dropped")
    event = told[0]
    expect(event.nf == f"{GRAPH}/nf" and event.type == "acl", f"an event of {event.nf}")
    expect(event.drop.reason == "denied", f"reason {event.drop.reason!r}")
    expect(event.drop.rule == "default", f"rule {event.drop.rule!r}")
    packet = event.packet
    ends = packet.source, packet.destination, packet.destination_port, packet.protocol
    expect(ends == ("10.0.0.1", "198.51.100.9", 9, 17), f"a packet of {ends}")
    expect(packet.length == len(frame), f"length {packet.length}, not {len(frame)}")
