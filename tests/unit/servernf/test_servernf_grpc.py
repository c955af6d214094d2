"""The VNF API over real gRPC: chaining between two workers, errors by status, TLS, samples."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import grpc
import pytest
from servernf_support import tagged, udp
from signed import signed

from orchestrator.clients.vnf import configure_request
from servernf.proto import generate, vnf_pb2, vnf_pb2_grpc
from servernf.python.runtime.peers import PeerTls
from servernf.python.runtime.service import serve
from servernf.python.runtime.tag import marker_of
from servernf.python.runtime.worker import Worker
from servernf.wire.addresses import mac_text
from servernf.wire.configs import config_digest, config_text

MAC, NEXT = 0x0200_0001_0001, 0x0200_0002_0000
FRAME = udp("10.0.0.7", 4000, "198.51.100.9", 53)
ROOT = Path(__file__).resolve().parents[3]


class Node:
    """A worker that is served, and a client of it."""

    def __init__(self, name: str, mac: int, address: str) -> None:
        self.worker = Worker(name, mac)
        self.server, self.service, self.address = serve(self.worker, address)
        self.channel = grpc.insecure_channel(self.address)
        self.stub = vnf_pb2_grpc.VnfStub(signed(self.channel))

    def close(self) -> None:
        self.service.stopping.set()
        self.channel.close()
        self.server.stop(0).wait()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Node]]:
    made = [Node(f"w{i}", MAC + i, f"unix:{tmp_path}/w{i}.sock") for i in (0, 1)]
    yield made
    for node in made:
        node.close()


def config(name: str, type_name: str, **fields: object) -> vnf_pb2.NfConfig:
    return vnf_pb2.NfConfig(name=name, type=type_name, config_json=json.dumps(fields))


def configured(nodes: list[Node]) -> None:
    nodes[0].stub.configure(
        vnf_pb2.ConfigureRequest(
            graph="g",
            nfs=[
                config("g/ids", "ids", signatures=[]),
                config("g/acl", "acl", default="permit"),
            ],
            manifest=vnf_pb2.Manifest(key0=1, key1=2, threshold=1 << 32),
        )
    )
    nat = config("g/nat", "napt", addresses=["203.0.113.1"], ports=[2000, 2999])
    nodes[1].stub.configure(vnf_pb2.ConfigureRequest(graph="g", nfs=[nat]))


def chain(nodes: list[Node]) -> vnf_pb2.ServiceChainRequest:
    return vnf_pb2.ServiceChainRequest(
        nf="g/ids",
        scope=vnf_pb2.Scope(spi=5, si=254, in_port="inside"),
        next=[
            vnf_pb2.Hop(nf=vnf_pb2.NfHop(name="g/acl", port="inside")),
            vnf_pb2.Hop(nf=vnf_pb2.NfHop(name="g/nat", port="inside", worker=nodes[1].address)),
            vnf_pb2.Hop(exit=vnf_pb2.ExitHop(dst_mac=NEXT, spi=6, si=200)),
        ],
    )


def status_of(call: object, request: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=120)  # type: ignore[operator]
    error = caught.value
    assert isinstance(error, grpc.Call)
    return error.code(), error.details() or ""


def test_the_manager_calls_only_the_first_nf(nodes: list[Node]):
    configured(nodes)
    answer = nodes[0].stub.serviceChain(chain(nodes))
    assert answer.mac == MAC
    assert list(answer.nfs) == ["w0:g/ids", "w0:g/acl", "w1:g/nat"]
    first, second = nodes[0].worker, nodes[1].worker
    out = second.process(first.process([tagged(MAC, FRAME)]))
    assert out[0][:6] == NEXT.to_bytes(6, "big")
    assert int.from_bytes(out[0][72:74], "big") == 2000  # the source port: the share's lowest


def test_update_across_workers(nodes: list[Node]):
    configured(nodes)
    nodes[0].stub.serviceChain(chain(nodes))
    request = chain(nodes)
    del request.next[1]
    nodes[0].stub.serviceChainUpdate(request)
    assert [p.nf for p in nodes[1].stub.getStatus(vnf_pb2.StatusRequest()).paths] == []
    nodes[0].stub.serviceChainUpdate(chain(nodes))
    assert len(nodes[1].stub.getStatus(vnf_pb2.StatusRequest()).paths) == 2


def test_errors_name_place_and_remedy(nodes: list[Node]):
    configured(nodes)
    stub = nodes[0].stub
    request = chain(nodes)
    request.next[1].nf.name = "g/nut"
    code, text = status_of(stub.serviceChain, request)
    assert code == grpc.StatusCode.NOT_FOUND
    assert text == (
        f"{nodes[1].address}: nf: unknown NF instance 'g/nut'; did you mean 'g/nat'? (known: g/nat)"
    )
    request = chain(nodes)
    nowhere = f"{nodes[0].address.rpartition('/')[0]}/nowhere.sock"
    request.next[1].nf.worker = nowhere
    code, text = status_of(stub.serviceChain, request)
    assert code == grpc.StatusCode.UNAVAILABLE
    assert text.startswith(f"worker {nowhere} does not answer")
    request = chain(nodes)
    request.next[1].nf.worker = "unix:/elsewhere/w.sock"
    code, text = status_of(stub.serviceChain, request)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "/elsewhere/w.sock" in text, "only known peers are dialled"
    request = chain(nodes)
    request.next[2].exit.spi = 0
    code, text = status_of(stub.serviceChain, request)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "next[0].spi: must be 1 to 16777215, not 0" in text
    request = chain(nodes)
    request.next.add()
    code, text = status_of(stub.serviceChain, request)
    assert (code, text) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "next[3]: must be an nf or an exit",
    )
    request = chain(nodes)
    request.scope.flow_space.protocol = "tcp"
    assert status_of(stub.serviceChain, request)[0] == grpc.StatusCode.UNIMPLEMENTED
    assert not stub.getStatus(vnf_pb2.StatusRequest()).paths
    stub.serviceChain(chain(nodes))
    request = chain(nodes)
    request.next.pop(0)
    assert status_of(stub.serviceChain, request)[0] == grpc.StatusCode.ALREADY_EXISTS


def test_configuration_errors(nodes: list[Node]):
    bad = vnf_pb2.NfConfig(name="g/x", type="acl", config_json="{")
    worse = vnf_pb2.NfConfig(name="g/y", type="acl", config_json="[]")
    code, text = status_of(
        nodes[0].stub.configure, vnf_pb2.ConfigureRequest(graph="g", nfs=[bad, worse])
    )
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "nfs[0].config_json: no JSON" in text
    assert "nfs[1].config_json: must be an object" in text


def test_a_worker_marks_its_last_packet_to_another_one(nodes: list[Node]):
    configured(nodes)
    stub, (first, second) = nodes[0].stub, (node.worker for node in nodes)
    stub.serviceChain(chain(nodes))
    request = vnf_pb2.MarkLastInTransitRequest(source=mac_text(MAC + 1), marker=77, first_path=2)
    code, text = status_of(stub.markLastInTransit, request)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "still leave for 02:00:00:01:00:02: change their chain first" in text
    elsewhere = chain(nodes)
    del elsewhere.next[1]
    stub.serviceChainUpdate(elsewhere)
    assert stub.markLastInTransit(request).paths == 1
    assert first.wait_us() == 0
    *_, mark = first.process([tagged(MAC, FRAME)])
    assert first.process([]) == [], "once"
    assert marker_of(mark, MAC + 1) == (77, 2)
    assert second.process([mark]) == []
    assert second.drops == {"bad_tag": 1}, "no transfer from there waits for it"
    request.source = mac_text(NEXT + 1)
    code, text = status_of(stub.markLastInTransit, request)
    assert code == grpc.StatusCode.NOT_FOUND
    assert "this worker has sent nothing to 02:00:00:02:00:01; for switches that do" in text
    request.source = "x"
    code, text = status_of(stub.markLastInTransit, request)
    assert (code, text[:24]) == (grpc.StatusCode.INVALID_ARGUMENT, "source: 'x' is not a MAC")


def test_an_error_fits_into_an_answer(nodes: list[Node]):
    configs = [config(f"g/n{n}", "nothing") for n in range(200)]
    code, text = status_of(nodes[0].stub.configure, configure_request_of(configs))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert len(text) < 2_100
    assert text.endswith(" characters)")


def configure_request_of(configs: list[vnf_pb2.NfConfig]) -> vnf_pb2.ConfigureRequest:
    return vnf_pb2.ConfigureRequest(graph="g", nfs=configs)


def test_protocols_are_told(nodes: list[Node]):
    stub = nodes[0].stub
    protocols = stub.getChainingProtocols(vnf_pb2.ChainingProtocolsRequest()).protocols
    assert list(protocols) == ["nsh-md1-ethernet"]


def test_status_metrics_and_samples(nodes: list[Node]):
    configured(nodes)
    stub = nodes[0].stub
    stub.serviceChain(chain(nodes))
    nodes[0].worker.process([tagged(MAC, FRAME, label=77)])
    status = stub.getStatus(vnf_pb2.StatusRequest())
    assert (status.name, status.mac, list(status.sampled_graphs)) == ("w0", MAC, ["g"])
    assert [(nf.name, nf.type, nf.packets) for nf in status.nfs] == [
        ("g/acl", "acl", 1),
        ("g/ids", "ids", 1),
    ]
    assert [(p.nf, p.in_port, p.out_port) for p in status.paths] == [
        ("g/ids", "inside", ""),
        ("g/acl", "", "outside"),
        ("g/ids", "", "outside"),
    ]
    assert status.paths[1].next.nf.worker == nodes[1].address
    metrics = stub.queryMetrics(vnf_pb2.MetricsRequest()).metrics
    assert (metrics["frames_out"], metrics["g/ids.packets"]) == (1, 1)
    assert "frames_out" not in stub.queryMetrics(vnf_pb2.MetricsRequest(nf="g/ids")).metrics
    assert status_of(stub.queryMetrics, vnf_pb2.MetricsRequest(nf="g/x"))[0] == (
        grpc.StatusCode.NOT_FOUND
    )
    answer = stub.readSamples(vnf_pb2.ReadSamplesRequest(limit=3))
    assert [s.direction for s in answer.samples] == ["in", "out", "in"]
    assert {s.label for s in answer.samples} == {77}
    answer = stub.readSamples(vnf_pb2.ReadSamplesRequest(cursor=answer.cursor))
    assert (len(answer.samples), answer.lost) == (1, 0)
    removed = stub.removeGraph(vnf_pb2.RemoveGraphRequest(graph="g")).removed
    assert list(removed) == ["g/ids", "g/acl"]


def test_report_metrics(nodes: list[Node]):
    configured(nodes)
    stub = nodes[0].stub
    stream = stub.reportMetrics(vnf_pb2.ReportMetricsRequest(milliseconds=20), timeout=120)
    stamps = [next(stream).timestamp_us for _ in range(3)]
    assert stamps == sorted(set(stamps))
    stream.cancel()  # type: ignore[attr-defined]
    stream = stub.reportMetrics(vnf_pb2.ReportMetricsRequest(packets=10), timeout=120)
    nodes[0].worker.process([b""] * 9)
    stub.getStatus(vnf_pb2.StatusRequest())
    with pytest.raises(grpc.RpcError) as caught:
        next(stub.reportMetrics(vnf_pb2.ReportMetricsRequest(packets=10), timeout=0.3))
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED  # type: ignore[attr-defined]
    nodes[0].worker.process([b""] * 100)
    assert next(stream).metrics["frames_in"] >= 10
    stream.cancel()  # type: ignore[attr-defined]
    with pytest.raises(grpc.RpcError, match="give milliseconds"):
        next(stub.reportMetrics(vnf_pb2.ReportMetricsRequest()))


def test_generated_code_is_current(tmp_path: Path):
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed")
    generate.generate(ROOT, tmp_path)
    for name in generate.GENERATED:
        fresh = (tmp_path / "servernf" / "proto" / name).read_text()
        assert (ROOT / "servernf" / "proto" / name).read_text() == fresh, f"{name} is stale"


def test_tls_asks_for_certificates(tmp_path: Path):
    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=tmp_path, check=True, capture_output=True)

    try:
        openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost",
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    cert, key = (tmp_path / "cert.pem").read_bytes(), (tmp_path / "key.pem").read_bytes()
    tls = PeerTls(cert, key, cert)
    server, _, address = serve(Worker("w", MAC), "localhost:0", tls)
    try:
        with grpc.secure_channel(address, tls.client()) as channel:
            stub = vnf_pb2_grpc.VnfStub(channel)
            assert stub.getStatus(vnf_pb2.StatusRequest(), timeout=120).api == address
        with grpc.secure_channel(address, grpc.ssl_channel_credentials(cert)) as channel:
            stub = vnf_pb2_grpc.VnfStub(channel)
            assert status_of(stub.getStatus, vnf_pb2.StatusRequest())[0] == (
                grpc.StatusCode.UNAVAILABLE
            )
    finally:
        server.stop(0).wait()


class TestConfigDigest:
    """As vnf.proto defines it: of the bytes that came, so that any runtime can tell it."""

    def digest(self, node: Node) -> str:
        (nf,) = node.stub.getStatus(vnf_pb2.StatusRequest()).nfs
        return nf.config_digest

    def test_is_of_the_bytes_received(self, nodes: list[Node]) -> None:
        text = '{ "default" :"permit","rules":[]}'
        sent = vnf_pb2.NfConfig(name="g/acl", type="acl", config_json=text)
        nodes[0].stub.configure(vnf_pb2.ConfigureRequest(graph="g", nfs=[sent]))
        wanted = blake2b(text.encode(), digest_size=16).hexdigest()
        assert self.digest(nodes[0]) == wanted
        again = nodes[0].stub.configure(vnf_pb2.ConfigureRequest(graph="g", nfs=[sent]))
        assert (list(again.unchanged), self.digest(nodes[0])) == (["g/acl"], wanted)
        sent.config_json = '{"rules":[],"default":"permit"}'
        other = nodes[0].stub.configure(vnf_pb2.ConfigureRequest(graph="g", nfs=[sent]))
        assert list(other.replaced) == ["g/acl"]
        assert (
            self.digest(nodes[0]) == blake2b(sent.config_json.encode(), digest_size=16).hexdigest()
        )

    def test_a_controller_knows_it_before_it_sends(self, nodes: list[Node]) -> None:
        config = {"rules": [{"dst_port": 80, "action": "deny"}], "default": "permit"}
        request = configure_request("g", {"acl": ("acl", config)}, None)
        nodes[0].stub.configure(request)
        assert self.digest(nodes[0]) == config_digest(config_text(dict(reversed(config.items()))))
