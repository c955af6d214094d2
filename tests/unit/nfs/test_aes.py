"""aes_encrypt, aes_decrypt: ESP as scapy reads it, there and back, tampering; reference and runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from nf_bench import Bench, Both, ether, mixed_frames
from pydantic import ValidationError
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from orchestrator.errors import InputError
from orchestrator.model.packet import Packet
from orchestrator.nfs.base import SimpleEnvironment, lookup
from orchestrator.nfs.esp import EspReference
from orchestrator.nfs.files import Files
from servernf.python.esp import EspEnd
from servernf.python.network_function import NetworkFunction, create
from servernf.python.packet import PacketView

KEY = bytes(range(64))
SPI = 0x1001


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    file = tmp_path / "key"
    file.write_text(KEY.hex() + "\n")
    return {"key_file": str(file), "spi": SPI}


def run(nf: NetworkFunction, port: str, frame: bytes) -> bytes | None:
    view = PacketView()
    assert view.load(frame)
    left = nf.process(view, port, 0)
    if left is None:
        return None
    again = PacketView()
    assert again.load(bytes(view.data))
    same = [name for name in PacketView.__slots__ if name not in ("data", "end")]
    assert [getattr(view, n) for n in same] == [getattr(again, n) for n in same]
    assert left != port
    return bytes(view.data)


def unpadded(frame: bytes) -> bytes:
    packet = Packet.parse(frame)
    return frame[: packet.layout.end] if packet.version else frame


@pytest.mark.parametrize("keys", [16, 24, 32])
@pytest.mark.parametrize("version", [4, 6])
def test_scapy_reads_what_is_encrypted(tmp_path: Path, keys: int, version: int) -> None:
    file = tmp_path / "key"
    file.write_text(KEY[: keys + 32].hex())
    nf = create("aes_encrypt", "g/nf", {"key_file": str(file), "spi": SPI})
    ip: Any = IP(src="10.0.0.1", dst="10.0.0.2") if version == 4 else IPv6(src="::1", dst="::2")
    original = ether(ip / TCP(sport=1, dport=2) / Raw(b"secret words"))
    sealed = run(nf, "inside", bytes(original))
    assert sealed is not None
    assert b"secret" not in sealed
    packet = Ether(sealed)
    assert (packet[ESP].spi, packet[ESP].seq) == (SPI, 1)
    association = SecurityAssociation(
        ESP,
        spi=SPI,
        crypt_algo="AES-CBC",
        crypt_key=KEY[:keys],
        auth_algo="SHA2-256-128",
        auth_key=KEY[keys : keys + 32],
    )
    plain = association.decrypt(packet.payload)
    assert bytes(plain[TCP]) == bytes(original[TCP])
    if version == 4:
        fresh = Ether(sealed)
        del fresh[IP].chksum
        assert Ether(bytes(fresh))[IP].chksum == Ether(sealed)[IP].chksum
    # and what scapy encrypts is read
    back = Ether(dst="06:00:00:00:00:01", src="0a:00:00:00:00:01") / association.encrypt(
        original.payload
    )
    opened = run(nf, "outside", bytes(back))
    assert opened is not None
    assert bytes(Ether(opened)[TCP].payload) == b"secret words"


def test_reference_and_runtime_open_what_the_other_sealed(config: dict[str, Any]) -> None:
    env = SimpleEnvironment()
    ends = {name: lookup(name) for name in ("aes_encrypt", "aes_decrypt")}
    functions = {n: c("nf", c.Config.model_validate(config)) for n, c in ends.items()}
    reference = {n: f.reference() for n, f in functions.items()}
    runtime = {n: create(n, "g/nf", f.runtime_config()) for n, f in functions.items()}

    def refer(name: str, port: str, frame: bytes) -> bytes | None:
        outputs = reference[name].process(Packet.parse(frame), port, env)
        return outputs[0][1].to_bytes() if outputs else None

    there_and_back = 0
    for frame in mixed_frames(800, 3):
        wanted = refer("aes_encrypt", "inside", frame)
        sealed = run(runtime["aes_encrypt"], "inside", frame)
        assert (wanted is None) == (sealed is None), frame.hex()
        if wanted is None or sealed is None:
            continue
        opening = functions["aes_encrypt"].canonical
        assert len(sealed) == len(wanted)
        assert opening(Packet.parse(sealed)).data == opening(Packet.parse(wanted)).data
        for made in (wanted, sealed):
            for name, port in (("aes_decrypt", "inside"), ("aes_encrypt", "outside")):
                assert refer(name, port, made) == run(runtime[name], port, made) == unpadded(frame)
        there_and_back += sealed != frame
    assert there_and_back > 300


def test_tampered_foreign_and_unprotected_packets_are_dropped(config: dict[str, Any]) -> None:
    sealed = Bench("aes_encrypt", config).send(
        "inside", IP(src="10.0.0.1") / UDP() / Raw(b"x" * 40)
    )
    assert sealed is not None
    good = bytes(sealed[1])
    both = Both("aes_decrypt", **config)
    both.one("inside", good)
    for at in range(34, len(good)):
        assert not both.send("inside", good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
    for size in (16, 32, 96):
        changed = Ether(good)
        changed[IP].len = len(good) - 14 - size
        assert not both.send("inside", changed)
    for plain in (UDP() / Raw(b"hello"), ICMP()):
        assert not both.send("inside", ether(IP(dst="10.0.0.2") / plain))
    both.one("inside", ether(ARP(pdst="10.0.0.2")))
    assert Both("aes_decrypt", **{**config, "spi": SPI + 1}).send("inside", good) == []


def sealed_by(nf: NetworkFunction, count: int) -> list[bytes]:
    frame = bytes(ether(IP(src="10.0.0.1", dst="10.0.0.2") / UDP() / Raw(b"x" * 40)))
    outputs = [run(nf, "inside", frame) for _ in range(count)]
    assert all(outputs)
    return [sealed for sealed in outputs if sealed is not None]


def test_a_packet_passes_once_and_not_when_it_is_old(config: dict[str, Any]) -> None:
    packets = sealed_by(create("aes_encrypt", "g/nf", config), 200)
    both = Both("aes_decrypt", **config)
    order = [*range(50), *range(99, 49, -1), 199, 135, 136, 150, 137]
    passed = [n for n in order for _ in range(2) if both.send("inside", packets[n])]
    assert passed == [n for n in order if n != 135], "63 below the highest is in the window of 64"
    assert both.runtime.drops["replayed"] == len(order) + 1
    unprotected = Both("aes_decrypt", **config, replay_window=0)
    assert all(unprotected.send("inside", packets[n]) for n in (199, 0, 0))


def test_senders_have_windows_of_their_own(config: dict[str, Any]) -> None:
    """Several workers encrypt, and one that starts anew begins at 1 with the same key."""
    both = Both("aes_decrypt", **config)
    workers = [create("aes_encrypt", "g/nf", config) for _ in range(3)]
    streams = [sealed_by(worker, 100) for worker in workers]
    streams.append(sealed_by(create("aes_encrypt", "g/nf", config), 100))
    for turn in zip(*streams, strict=True):
        assert all(both.send("inside", frame) for frame in turn)
    assert not any(both.send("inside", frame) for stream in streams for frame in stream)


def test_a_sender_that_is_forgotten_stays_unwelcome(config: dict[str, Any]) -> None:
    both = Both("aes_decrypt", **config)
    first = create("aes_encrypt", "g/nf", config)
    [frame, later] = sealed_by(first, 2)
    assert both.send("inside", frame)
    for _ in range(64):
        assert both.send("inside", sealed_by(create("aes_encrypt", "g/nf", config), 1)[0])
    assert not both.send("inside", frame)
    assert not both.send("inside", later)


def test_it_stops_before_sequence_numbers_repeat(config: dict[str, Any]) -> None:
    """RFC 4303, 3.3.3."""
    nf = create("aes_encrypt", "g/nf", config)
    assert isinstance(nf, EspEnd)
    nf._association.sequence = 2**32 - 3
    numbers = [Ether(frame)[ESP].seq for frame in sealed_by(nf, 2)]
    assert numbers == [2**32 - 2, 2**32 - 1]
    frame = bytes(ether(IP() / UDP()))
    assert run(nf, "inside", frame) is None
    assert nf.drops == {"sequence_exhausted": 1}
    bench = Bench("aes_encrypt", config)
    assert isinstance(bench.reference, EspReference)
    bench.reference.sequence = 2**32 - 2
    assert bench.passes("inside", IP() / UDP())
    assert not bench.passes("inside", IP() / UDP())
    again = create("aes_encrypt", "g/nf", {**config, "spi": SPI + 1})
    again.continue_from(nf)
    assert run(again, "inside", frame) is not None, "another association begins anew"


def test_fragments_and_what_is_too_large_are_dropped(config: dict[str, Any]) -> None:
    both = Both("aes_encrypt", **config, mtu=600)
    for part in (
        IP(flags="MF") / UDP() / Raw(bytes(64)),
        IP(frag=8, proto=17) / Raw(bytes(64)),
        IPv6() / IPv6ExtHdrFragment(m=1, id=1) / UDP() / Raw(bytes(64)),
        IP() / UDP() / Raw(bytes(600 - 20 - 40 - 8 - 1)),
    ):
        assert not both.send("inside", ether(part))
    fits = Bench("aes_encrypt", {**config, "mtu": 600})
    left = fits.send("inside", IP() / UDP() / Raw(bytes(512 + 16 - 8 - 2)))
    assert left is not None
    assert len(left[1]) - 14 == 20 + 528 + 40


@pytest.mark.parametrize(
    "wrong",
    [
        {"key_file": None},
        {"key_environment": "KEY"},
        {"key_file": None, "key_environment": "a key"},
        {"key": "00"},
        {"spi": 255},
        {"mtu": 100},
        {"replay_window": 31},
        {"replay_window": 5000},
    ],
)
def test_bad_configs(config: dict[str, Any], wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        lookup("aes_encrypt").Config.model_validate({**config, **wrong})


@pytest.mark.parametrize(("text", "problem"), [("00ff", "2 bytes"), ("no hex", "hexadecimal")])
def test_a_wrong_key_is_told_and_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, problem: str
) -> None:
    monkeypatch.setenv("LINK_KEY", text)
    file = tmp_path / "key"
    file.write_text(text)
    for where in ({"key_environment": "LINK_KEY"}, {"key_file": str(file)}):
        function = lookup("aes_encrypt")
        nf = function("nf", function.Config.model_validate({**where, "spi": SPI}))
        for read in (nf.reference, lambda: create("aes_encrypt", "g/nf", nf.runtime_config())):  # noqa: B023
            with pytest.raises(InputError, match=problem) as error:
                read()
            assert text not in str(error.value).replace("no hexadecimal", "")
    missing = function.Config.model_validate({"key_environment": "NO_SUCH", "spi": SPI})
    with pytest.raises(InputError, match=r"\$NO_SUCH"):
        function("nf", missing).reference()


def test_a_relative_key_file_is_beside_the_graph_and_need_not_be_there(tmp_path: Path) -> None:
    config = lookup("aes_encrypt").Config.model_validate({"key_file": "keys/a", "spi": SPI})
    assert config.with_files(Files(tmp_path)).model_dump()["key_file"] == str(tmp_path / "keys/a")
