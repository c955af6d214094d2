"""How namespaces and interfaces are configured: settings, `ip` and `ethtool` arguments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orchestrator.emulation.wiring import VethEnd
from orchestrator.model.topology import Host, Server
from servernf.wire.addresses import device_mac, mac_text

# A checksum that is left to hardware is never computed on a veth, and segments larger than the
# MTU are never cut: switches and workers would see both (ping works, TCP does not).
OFFLOADS_OFF = tuple(
    word for feature in ("rx", "tx", "sg", "tso", "gso", "gro") for word in (feature, "off")
)

HOST_SETTINGS = {
    f"net/ipv6/conf/{scope}/{key}": 0
    for scope in ("all", "default")
    # Addresses are usable at once, and nothing is sent that no user sent.
    for key in ("accept_dad", "dad_transmits", "router_solicitations", "accept_ra", "disable_ipv6")
}
SERVER_SETTINGS = {f"net/ipv6/conf/{scope}/disable_ipv6": 1 for scope in ("all", "default")}
"""A server's kernel has no part in the network: its workers have."""


def host_lines(host: Host, ends: Sequence[VethEnd]) -> list[str]:
    """`ip -batch` lines inside a host: addresses and default routes, no static neighbours."""
    lines = ["link set lo up", *(f"link set {end.interface} up" for end in ends)]
    if not ends:
        return lines
    device = ends[0].interface
    for address in host.addresses:
        nodad = " nodad" if address.version == 6 else ""
        lines.append(f"address add {address} dev {device}{nodad}")
    for index, gateway in enumerate(host.gateways):
        everything = "::/0" if gateway.version == 6 else "0.0.0.0/0"
        # The metric keeps several gateways apart; onlink allows one outside the host's prefix.
        lines.append(
            f"route add {everything} via {gateway} dev {device} metric {100 + index} onlink"
        )
    return lines


def server_lines(server: Server, ends: Sequence[VethEnd]) -> list[str]:
    """`ip -batch` lines inside a server. Its agent makes the interfaces of workers, but for those that
    the topology names: they are to be there, as VFs of a NIC are."""
    names = [end.interface for end in ends]
    lines = ["link set lo up", *(f"link set {name} arp off up" for name in names)]
    for core, name in enumerate(server.interfaces):
        mac = mac_text(device_mac(server.id, core=core + 1))
        if name in names:
            lines.append(f"link set {name} address {mac}")
        else:
            made = f"link add link {names[0]} name {name} address {mac} type macvlan mode private"
            lines += [made, f"link set {name} addrgenmode none arp off up"]
    return lines


def switch_lines(interfaces: Iterable[str]) -> list[str]:
    """`ip -batch` lines for switch ports; without ARP the machine's own stack stays out of it."""
    return [f"link set {name} arp off up" for name in interfaces]


def capacity_line(end: VethEnd, capacity: int) -> str:
    """A `tc -batch` line that limits what an interface sends; the burst lasts 10 ms."""
    burst = max(capacity // 8 // 100, 16_000)
    return f"qdisc add dev {end.interface} root tbf rate {capacity}bit burst {burst} latency 50ms"
