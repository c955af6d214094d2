"""NAPT against RFC 4787, 5382, 5508 and docs/functions; scapy's checksums are the oracle."""

from __future__ import annotations

import random

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, TCPerror, UDPerror
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP
from scapy.packet import Raw
from servernf_support import SECOND, assert_checksums, call, echo, ether, make, tcp, udp
from tcp_talk import TcpTalk

from orchestrator.errors import InputError
from servernf.python.network_function import NetworkFunction

pytestmark = pytest.mark.slow

POOL = ["203.0.113.1", "203.0.113.2"]
IN, REMOTE = "10.0.0.7", "198.51.100.9"
OUT = "203.0.113.2"  # 10.0.0.7 is odd


def napt(**config: object) -> NetworkFunction:
    return make("napt", **({"addresses": POOL} | config))


def web() -> TcpTalk:
    return TcpTalk((IN, 4000, REMOTE, 80), (REMOTE, 80, OUT, 4000))


def test_mapping_is_endpoint_independent_and_keeps_the_port():
    nf = napt()
    for remote in (REMOTE, "192.0.2.1"):
        left, packet = call(nf, udp(IN, 4000, remote, 53), "inside")
        assert (left, packet[IP].src, packet[UDP].sport) == ("outside", OUT, 4000)
        assert_checksums(packet)
    left, packet = call(nf, udp("192.0.2.77", 9, OUT, 4000), "outside")
    assert (left, packet[IP].dst, packet[UDP].dport) == ("inside", IN, 4000)
    assert_checksums(packet)


def test_pool_address_is_inside_address_modulo_count():
    nf = napt()
    for last in range(1, 9):
        _, packet = call(nf, udp(f"10.0.0.{last}", 4000, REMOTE, 53), "inside")
        assert packet[IP].src == POOL[last % 2]


def test_taken_port_goes_upwards_and_wraps():
    nf = napt(addresses=[OUT], ports=[1024, 1027])
    got = [
        call(nf, udp(f"10.0.0.{host}", 1026, REMOTE, 53), "inside")[1][UDP].sport
        for host in (1, 2, 3, 4)
    ]
    assert got == [1026, 1027, 1024, 1025]
    assert call(nf, udp("10.0.0.5", 1026, REMOTE, 53), "inside")[0] is None
    assert nf.drops == {"no_port": 1}
    # Another protocol has ports of its own.
    assert call(nf, tcp("10.0.0.5", 1026, REMOTE, 53, "S"), "inside")[0] == "outside"


@pytest.mark.parametrize("wanted", [1, 1023, 1028, 65535])
def test_port_outside_the_share_begins_at_its_low_end(wanted: int):
    nf = napt(addresses=[OUT], ports=[1024, 1027])
    assert call(nf, udp(IN, wanted, REMOTE, 53), "inside")[1][UDP].sport == 1024


def test_exhausted_pool_recovers_when_mappings_expire():
    nf = napt(addresses=[OUT], ports=[1024, 1025])
    assert call(nf, udp("10.0.0.1", 1, REMOTE, 53), "inside", 0)[0]
    assert call(nf, udp("10.0.0.2", 1, REMOTE, 53), "inside", 100 * SECOND)[0]
    assert call(nf, udp("10.0.0.3", 1, REMOTE, 53), "inside", 200 * SECOND)[0] is None
    assert call(nf, udp("10.0.0.3", 1, REMOTE, 53), "inside", 299 * SECOND)[0] is None
    left, packet = call(nf, udp("10.0.0.3", 1, REMOTE, 53), "inside", 300 * SECOND)
    assert (left, packet[UDP].sport) == ("outside", 1024)
    assert call(nf, udp("10.0.0.4", 1, REMOTE, 53), "inside", 301 * SECOND)[0] is None


def test_full_pool_sees_a_timeout_that_became_shorter():
    nf = napt(addresses=[OUT], ports=[1024, 1024])
    call(nf, tcp("10.0.0.1", 1024, REMOTE, 80, "A"), "inside", 0)
    call(nf, tcp(REMOTE, 80, OUT, 1024, "A"), "outside", 0)  # established: 7440 s
    assert call(nf, tcp("10.0.0.2", 1, REMOTE, 80, "S"), "inside", 241 * SECOND)[0] is None
    call(nf, tcp(REMOTE, 80, OUT, 1024, "R"), "outside", 241 * SECOND)  # transitory: 240 s
    assert call(nf, tcp("10.0.0.2", 1, REMOTE, 80, "S"), "inside", 242 * SECOND)[0] == "outside"


def test_expired_mapping_is_unmapped_and_its_port_free():
    nf = napt()
    call(nf, udp(IN, 4000, REMOTE, 53), "inside", 0)
    assert call(nf, udp(REMOTE, 53, OUT, 4000), "outside", 301 * SECOND)[0] is None
    assert nf.drops == {"unmapped": 1}
    _, packet = call(nf, udp("10.0.0.9", 4000, REMOTE, 53), "inside", 302 * SECOND)
    assert packet[UDP].sport == 4000


def test_tcp_timeouts_follow_the_connection():
    nf, talk = napt(), web()
    for port, packet in talk.handshake():
        assert call(nf, ether(packet), port)[0]
    assert call(nf, ether(talk.outside()), "outside", 7439 * SECOND)[0] == "inside"
    call(nf, ether(talk.inside("FA")), "inside", 7440 * SECOND)
    assert call(nf, ether(talk.outside()), "outside", 14_000 * SECOND)[0] == "inside"
    call(nf, ether(talk.outside("FA")), "outside", 14_001 * SECOND)
    assert call(nf, ether(talk.inside()), "inside", 14_001 * SECOND)[0] == "outside"
    assert call(nf, ether(talk.outside()), "outside", 14_241 * SECOND)[0] is None


@pytest.mark.parametrize("flags", ["R", "RA", "S", "SA", "FA", "A"])
@pytest.mark.parametrize("port", ["inside", "outside"])
def test_what_the_receiver_ignores_changes_nothing(flags: str, port: str):
    nf, talk = napt(), web()
    for side, packet in talk.handshake():
        call(nf, ether(packet), side)
    forged = talk.segment(port, flags, seq=talk.next[port] - 100_000)
    assert call(nf, ether(forged), port, 239 * SECOND)[0] is not None, "its receiver ignores it"
    wrong = talk.segment(port, "RA")
    wrong[TCP].chksum = 1
    assert call(nf, ether(wrong), port, 239 * SECOND)[0] is not None
    assert call(nf, ether(talk.outside()), "outside", 7439 * SECOND)[0] == "inside"


def test_a_mapping_serves_the_next_connection():
    nf = napt()
    for start, number in ((0, 1000), (1000 * SECOND, 77)):
        talk = TcpTalk((IN, 4000, REMOTE, 80), (REMOTE, 80, OUT, 4000), client=number)
        for port, packet in talk.handshake():
            assert call(nf, ether(packet), port, start)[0]
        late = start + 900 * SECOND
        assert call(nf, ether(talk.outside("RA")), "outside", late)[0] == "inside"


def test_one_of_two_connections_keeps_the_mapping():
    nf, talk = napt(), web()
    other = TcpTalk((IN, 4000, "192.0.2.1", 80), ("192.0.2.1", 80, OUT, 4000))
    for one in (talk, other):
        for port, packet in one.handshake():
            call(nf, ether(packet), port)
    assert nf.metrics()["sessions"] == 2
    call(nf, ether(other.outside("RA")), "outside", SECOND)
    assert call(nf, ether(talk.outside()), "outside", 7000 * SECOND)[0] == "inside"
    call(nf, ether(talk.outside("RA")), "outside", 7001 * SECOND)
    assert call(nf, ether(talk.inside()), "inside", 7300 * SECOND)[1][IP].src == OUT
    assert nf.metrics()["sessions"] == 1, "the mapping was over, and so were they"


def test_strangers_do_not_take_the_room_for_connections(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("servernf.python.mappings.MAX_SESSIONS_OF_MAPPING", 8)
    nf, talk = napt(), web()
    for port, packet in talk.handshake():
        call(nf, ether(packet), port)
    for port in range(1, 100):
        assert call(nf, tcp("192.0.2.66", port, OUT, 4000, "S"), "outside")[0] == "inside"
    assert nf.metrics()["sessions"] == 8
    assert call(nf, ether(talk.outside()), "outside", 7000 * SECOND)[0] == "inside"


def test_udp_checksum_zero_stays_and_a_computed_zero_is_ffff():
    nf = napt()
    frame = bytearray(udp(IN, 4000, REMOTE, 53))
    frame[40:42] = b"\0\0"
    assert call(nf, bytes(frame), "inside")[1][UDP].chksum == 0
    # A payload word that makes the translated checksum come out as 0.
    plain = call(nf, udp(IN, 4000, REMOTE, 53, b"\0\0" + b"x" * 6), "inside")[1][UDP].chksum
    word = plain.to_bytes(2, "big")
    _, packet = call(nf, udp(IN, 4000, REMOTE, 53, word + b"x" * 6), "inside")
    assert packet[UDP].chksum == 0xFFFF


def test_icmp_echo():
    nf = napt(addresses=[OUT], ports=[2000, 2010])
    left, packet = call(nf, echo(IN, REMOTE, 77), "inside")
    assert (left, packet[IP].src, packet[ICMP].id) == ("outside", OUT, 2000)
    assert_checksums(packet)
    left, packet = call(nf, echo(REMOTE, OUT, 2000, reply=True), "outside")
    assert (left, packet[IP].dst, packet[ICMP].id) == ("inside", IN, 77)
    assert_checksums(packet)
    assert call(nf, echo(REMOTE, OUT, 2000), "outside")[0] is None
    assert call(nf, echo(REMOTE, OUT, 2000, reply=True), "outside", 61 * SECOND)[0] is None


@pytest.mark.parametrize("kind", [3, 11, 12])
@pytest.mark.parametrize("zero_checksum", [False, True])
def test_icmp_error_from_outside_follows_its_quote(kind: int, zero_checksum: bool):
    nf = napt(addresses=[OUT], ports=[2000, 2010])
    _, sent = call(nf, udp(IN, 4000, REMOTE, 53), "inside")
    if zero_checksum:
        sent[UDP].chksum = 0
    quote = bytes(sent[IP])[:28]
    router = IP(src="192.0.2.254", dst=OUT)
    left, packet = call(nf, ether(router / ICMP(type=kind, code=0) / Raw(quote)), "outside")
    assert (left, packet[IP].dst) == ("inside", IN)
    assert (packet[IPerror].src, packet[UDPerror].sport) == (IN, 4000)
    assert_checksums(packet)
    original = IP(bytes(udp(IN, 4000, REMOTE, 53))[14:])
    assert packet[IPerror].chksum == original.chksum
    assert packet[UDPerror].chksum == (0 if zero_checksum else original[UDP].chksum)


def test_icmp_error_quoting_tcp_leaves_the_quoted_checksum():
    nf = napt()
    _, sent = call(nf, tcp(IN, 4000, REMOTE, 80, "S"), "inside")
    error = IP(src="192.0.2.254", dst=OUT) / ICMP(type=11) / Raw(bytes(sent[IP]))
    left, packet = call(nf, ether(error), "outside")
    assert (left, packet[IPerror].src, packet[TCPerror].sport) == ("inside", IN, 4000)
    assert packet[TCPerror].chksum == sent[TCP].chksum
    assert_checksums(packet)


def test_icmp_error_quoting_echo():
    nf = napt(addresses=[OUT], ports=[2000, 2010])
    _, sent = call(nf, echo(IN, REMOTE, 77), "inside")
    error = IP(src="192.0.2.254", dst=OUT) / ICMP(type=3, code=1) / Raw(bytes(sent[IP])[:28])
    left, packet = call(nf, ether(error), "outside")
    assert (left, packet[IP].dst, packet[IPerror].src) == ("inside", IN, IN)
    assert int.from_bytes(bytes(packet[ICMP])[8 + 24 : 8 + 26], "big") == 77
    assert_checksums(packet)


def test_icmp_error_from_inside():
    nf = napt(addresses=[OUT], ports=[2000, 2010])
    call(nf, udp(IN, 4000, REMOTE, 53), "inside")
    _, came = call(nf, udp(REMOTE, 53, OUT, 2000), "outside")
    error = IP(src=IN, dst=REMOTE) / ICMP(type=3, code=3) / Raw(bytes(came[IP])[:28])
    left, packet = call(nf, ether(error), "inside")
    assert (left, packet[IP].src) == ("outside", OUT)
    assert (packet[IPerror].dst, packet[UDPerror].dport) == (OUT, 2000)
    assert_checksums(packet)


def test_icmp_errors_that_quote_nothing_mapped_are_dropped():
    nf = napt()
    quote = bytes(IP(src=OUT, dst=REMOTE) / UDP(sport=999, dport=1))[:28]
    error = ether(IP(src="192.0.2.254", dst=OUT) / ICMP(type=3) / Raw(quote))
    assert call(nf, error, "outside")[0] is None
    options = bytes(IP(src=OUT, dst=REMOTE, options=b"\x01" * 4) / UDP(sport=999))[:32]
    error = ether(IP(src="192.0.2.254", dst=OUT) / ICMP(type=3) / Raw(options))
    assert call(nf, error, "outside")[0] is None
    call(nf, udp(IN, 4000, REMOTE, 53), "inside")
    quote = bytes(IP(src=OUT, dst=REMOTE) / UDP(sport=4000, dport=53))[:28]
    other = ether(IP(src="192.0.2.254", dst=POOL[0]) / ICMP(type=3) / Raw(quote))
    assert call(nf, other, "outside")[0] is None  # not sent to who the quote came from
    assert nf.drops == {"unmapped": 2, "quote": 1}


def test_later_fragments_follow_their_first():
    nf = napt()
    body = bytes(UDP(sport=4000, dport=53, len=2008, chksum=1) / Raw(b"x" * 1000))

    def fragment(src: str, dst: str, offset: int, number: int, payload: bytes) -> bytes:
        header = IP(src=src, dst=dst, id=number, proto=17, flags=1 if offset == 0 else 0)
        header.frag = offset
        return ether(header / Raw(payload))

    later = fragment(IN, REMOTE, 126, 7, b"y" * 100)
    assert call(nf, later, "inside", 0)[0] is None
    left, packet = call(nf, fragment(IN, REMOTE, 0, 7, body), "inside", 0)
    assert (left, packet[IP].src) == ("outside", OUT)
    left, packet = call(nf, later, "inside", 29 * SECOND)
    assert (left, packet[IP].src) == ("outside", OUT)
    assert_checksums(packet)
    assert bytes(packet[Raw]) == b"y" * 100
    assert call(nf, fragment(IN, REMOTE, 126, 8, b"y"), "inside", 0)[0] is None  # other id
    assert call(nf, later, "inside", 31 * SECOND)[0] is None
    back = bytes(UDP(sport=53, dport=4000, len=2008, chksum=1) / Raw(b"x" * 1000))
    assert call(nf, fragment(REMOTE, OUT, 0, 9, back), "outside", 0)[0] == "inside"
    left, packet = call(nf, fragment(REMOTE, OUT, 126, 9, b"z" * 9), "outside", 0)
    assert (left, packet[IP].dst) == ("inside", IN)


def test_fragment_table_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("servernf.python.nfs.napt.MAX_REMEMBERED", 64)
    nf = napt()
    body = bytes(UDP(sport=4000, dport=53, chksum=1) / Raw(b"x" * 24))
    for number in range(65):
        first = IP(src=IN, dst=REMOTE, id=number, proto=17, flags=1) / Raw(body)
        call(nf, ether(first), "inside")
    assert nf.metrics()["fragments"] == 64

    def later(number: int) -> bytes:
        return ether(IP(src=IN, dst=REMOTE, id=number, proto=17, frag=4) / Raw(b"x"))

    assert call(nf, later(0), "inside")[0] is None
    assert call(nf, later(1), "inside")[0] == "outside"
    for number in (1, 99):  # 1 is used again, so 2 is the oldest now
        first = IP(src=IN, dst=REMOTE, id=number, proto=17, flags=1) / Raw(body)
        call(nf, ether(first), "inside")
    assert call(nf, later(1), "inside")[0] == "outside"
    assert call(nf, later(2), "inside")[0] is None


@pytest.mark.parametrize(
    ("filtering", "same_host_other_port", "other_host"),
    [
        ("endpoint_independent", True, True),
        ("address_dependent", True, False),
        ("address_and_port_dependent", False, False),
    ],
)
def test_filtering(filtering: str, same_host_other_port: bool, other_host: bool):
    nf = napt(filtering=filtering)
    call(nf, udp(IN, 4000, REMOTE, 53), "inside")
    assert call(nf, udp(REMOTE, 53, OUT, 4000), "outside")[0] == "inside"
    assert (call(nf, udp(REMOTE, 54, OUT, 4000), "outside")[0] is not None) is same_host_other_port
    assert (call(nf, udp("192.0.2.1", 53, OUT, 4000), "outside")[0] is not None) is other_host
    quote = bytes(IP(src=OUT, dst=REMOTE) / UDP(sport=4000, dport=53))[:28]
    error = ether(IP(src="192.0.2.254", dst=OUT) / ICMP(type=11) / Raw(quote))
    assert call(nf, error, "outside")[0] == "inside"


def test_what_is_not_translated():
    nf = napt()
    sctp = ether(IP(src=IN, dst=REMOTE, proto=132) / Raw(b"x" * 12))
    assert call(nf, sctp, "inside")[0] is None
    assert call(nf, ether(ARP(pdst="10.0.0.1")), "inside")[0] is None
    assert call(nf, echo(IN, REMOTE, 7, reply=True), "inside")[0] is None
    assert call(nf, udp(REMOTE, 53, "192.0.2.5", 4000), "outside")[0] is None
    assert nf.drops == {"protocol": 2, "not_ip": 1, "not_in_pool": 1}
    six = ether(IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP(sport=1, dport=2) / Raw(b"x" * 8))
    assert call(nf, six, "inside")[0] == "outside"
    assert call(nf, six, "outside")[0] == "inside"
    assert call(napt(ipv6="drop"), six, "inside")[0] is None


def test_configuration_errors_come_together():
    with pytest.raises(InputError) as caught:
        napt(
            addresses=["203.0.113.1", "2001:db8::1", "x"],
            filtering="none",
            buckets=70000,
            timeouts_s={"udp": -1, "tcp": 5},
            ipv6="pass",
            port=1,
        )
    text = "\n".join(caught.value.problems)
    for line in (
        "g/napt.addresses[1]: must be IPv4, not 2001:db8::1",
        "g/napt.addresses[2]: must be an IP address, not 'x'",
        "g/napt.buckets: must be an integer from 1 to 1024, not 70000",
        "g/napt.filtering: unknown choice 'none' (known: address_and_port_dependent,",
        "g/napt.timeouts_s.udp: must be a positive number of seconds, not -1",
        "g/napt.timeouts_s.tcp: unknown key 'tcp'",
        "g/napt.port: unknown key 'port'; did you mean 'ports'?",
    ):
        assert line in text


def test_expired_mappings_are_removed_a_few_at_a_time():
    nf = napt()
    for host in range(1, 21):
        call(nf, udp(f"10.0.1.{host}", 4000, REMOTE, 53), "inside", 0)
    call(nf, udp("10.0.1.2", 4000, REMOTE, 53), "inside", 200 * SECOND)  # stays in use
    for host in range(1, 7):
        call(nf, udp(f"10.0.2.{host}", 4000, REMOTE, 53), "inside", 400 * SECOND)
    assert nf.metrics()["mappings"] == 7
    left, packet = call(nf, udp("10.0.1.2", 4000, REMOTE, 53), "inside", 401 * SECOND)
    assert (left, packet[IP].src) == ("outside", POOL[0])


@pytest.mark.parametrize("seed", range(5))
def test_no_two_mappings_share_an_outside_port(seed: int):
    """Random TCP and UDP life with a pool that is nearly full; oracle: a model with a plain dict."""
    rng = random.Random(seed)
    nf = napt(addresses=[OUT], ports=[1024, 1031])
    owner: dict[tuple[str, int], tuple[str, int]] = {}  # (protocol, outside port) -> inside
    now = 0
    for _ in range(600):
        now += rng.randrange(40) * SECOND
        inside = f"10.0.0.{rng.randrange(6)}", rng.randrange(1024, 1028)
        protocol = rng.choice(["udp", "tcp"])
        flags = rng.choice(["S", "A", "A", "FA", "R"])
        if rng.randrange(3):
            frame = (
                udp(*inside, REMOTE, 53) if protocol == "udp" else tcp(*inside, REMOTE, 53, flags)
            )
            left, packet = call(nf, frame, "inside", now)
            if left is not None:
                owner[protocol, packet[IP].sport] = inside
        else:
            port = rng.randrange(1024, 1032)
            frame = (
                udp(REMOTE, 53, OUT, port)
                if protocol == "udp"
                else tcp(REMOTE, 53, OUT, port, flags)
            )
            left, packet = call(nf, frame, "outside", now)
            if left is not None:
                assert owner[protocol, port] == (packet[IP].dst, packet[IP].dport)
    assert nf.metrics()["mappings"] <= 16


def test_a_handshake_whose_numbers_do_not_count_the_syn_is_one():
    """As test tools send it; and a reset that its side does not stand by does not end it."""
    nf = napt()
    call(nf, tcp(IN, 4000, REMOTE, 80, "S"), "inside", 0)
    call(nf, tcp(REMOTE, 80, OUT, 4000, "SA"), "outside", 0)
    call(nf, tcp(IN, 4000, REMOTE, 80, "A"), "inside", 0)
    assert call(nf, tcp(REMOTE, 80, OUT, 4000, "PA"), "outside", 7000 * SECOND)[0] == "inside"
    call(nf, tcp(REMOTE, 80, OUT, 4000, "R"), "outside", 7000 * SECOND)
    call(nf, tcp(REMOTE, 80, OUT, 4000, "A"), "outside", 7001 * SECOND)
    assert call(nf, tcp(REMOTE, 80, OUT, 4000, "A"), "outside", 14_000 * SECOND)[0] == "inside"
