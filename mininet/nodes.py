"""The nodes and links of a live network, as Mininet's."""
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import shlex
import subprocess
import sys
import types

from orchestrator.emulation import commands, setup
from orchestrator.emulation.environment import mininet_folder
from orchestrator.emulation.state import NetworkState
from orchestrator.emulation.wiring import HOST_MTU, INSIDE_MTU, VethPair
from orchestrator.errors import NetworkError
from orchestrator.targets import lookup
from orchestrator.targets.engine import Launch
from servernf.wire.addresses import mac_text


def _import_mininet() -> None:
    """Make `import mininet` find the system's package, the last on the path so that ours win."""
    folder = mininet_folder()
    if folder is None:
        raise NetworkError("Mininet is not installed")
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    try:
        import distutils.version  # noqa: F401
    except ImportError:
        # Mininet 2.3 wants it for Open vSwitch's version only; Python 3.12 has it no more.
        stub = types.ModuleType("distutils.version")
        stub.StrictVersion = str  # type: ignore[attr-defined]
        sys.modules["distutils"] = types.ModuleType("distutils")
        sys.modules["distutils.version"] = stub


_import_mininet()
from mininet.link import Intf, Link  # noqa: E402
from mininet.net import Mininet as Mininet  # noqa: E402
from mininet.node import Host, Switch  # noqa: E402
from mininet.topo import Topo  # noqa: E402


class PlainIntf(Intf):
    """An interface that Mininet leaves alone: `configure` sets all up in one go."""

    def config(self, **_):
        return {}


class Veth(Link):
    """A veth pair whose far ends are made inside their namespaces, under their final names."""

    @classmethod
    def makeIntfPair(
        cls, intfname1, intfname2, addr1=None, addr2=None, node1=None, node2=None, **_
    ):
        first = _endpoint("name", intfname1, addr1, node1)
        second = _endpoint("name", intfname2, addr2, node2)
        check(["ip", "link", "add", *first, "type", "veth", "peer", *second])

    def stop(self):
        """`sweep` deletes the interfaces, all at once."""


def _endpoint(key, name, mac, node) -> list[str]:
    words = [key, name, "address", mac, "mtu", str(node.mtu)]
    return [*words, "netns", str(node.pid)] if node.inNamespace else words


class NamespaceHost(Host):
    """A host or server: a namespace with its kernel settings, kept by a shell."""

    def __init__(self, name, mtu, settings, context, *, hides="", **params):
        super().__init__(name, **params)
        self.mtu = mtu
        context.keep_namespace(name, self.pid)
        # Before it has interfaces, so that they start with these settings.
        self.cmd(" ; ".join(f"echo {v} > /proc/sys/{key}" for key, v in settings.items()))
        if hides:
            # Its mounts are its own: the sockets of switches and workers are not in its view.
            self.cmd(f"mount -t tmpfs -o ro,mode=000 none {shlex.quote(hides)}")

    def config(self, **_):
        return {}


class SwitchProcess(Switch):
    """A switch in the root namespace: a process of its target's engine, no shell."""

    def __init__(self, name, target, device_id, mtu, context, tls, **params):
        self.target, self.cpu_port = target, lookup(target).ports.cpu
        self.engine = commands.engine_of(target)
        self.mtu, self.device_id, self.context, self.tls = mtu, device_id, context, tls
        self.child = None
        super().__init__(name, dpid=f"{device_id:x}", **params)

    @property
    def chooses_port(self) -> bool:
        """Whether it takes a TCP port that is free and tells which."""
        return self.engine.announces

    def startShell(self, mnopts=None):
        pass

    def cmd(self, *_, **__):
        return ""

    def interfaces(self) -> dict[int, str]:
        return {port: i.name for port, i in sorted(self.intfs.items()) if i.name != "lo"}

    def start(self, controllers):
        address = self.context.address(self)
        launch = Launch(
            self.name,
            self.device_id,
            self.interfaces(),
            address,
            self.cpu_port,
            folder=self.context.folder,
            spare_port=self.context.ports.spare(),
            tls=self.tls if commands.speaks_tls(self.tls) else None,
            user=commands.user_of(self.context.state.id),
        )
        argv = self.engine.argv(launch)
        if not self.engine.leaves_root:
            argv = commands.with_raw_sockets_only(argv)
        self.child = self.context.spawn(self.name, argv, "" if self.engine.announces else address)

    def address(self) -> str:
        return self.child.address or str(self.child.ready["grpc_addr"])

    def stop(self, deleteIntfs=True):
        """The supervisor stops all processes together."""


class LiveTopo(Topo):
    """The topology as Mininet's: names, classes and the ends of each link."""

    def build(self, state: NetworkState, plan: tuple[VethPair, ...], targets, context):
        topology = state.topology
        for node in topology.switches.values():
            self.addSwitch(
                node.name,
                cls=SwitchProcess,
                target=targets[node.name],
                device_id=node.id,
                mtu=INSIDE_MTU,
                context=context,
                tls=node.tls,
            )
        for node in topology.hosts.values():
            self.addHost(
                node.name,
                cls=NamespaceHost,
                mtu=HOST_MTU,
                settings=setup.HOST_SETTINGS,
                context=context,
                hides=str(context.folder.parent),
            )
        for node in topology.servers.values():
            self.addHost(
                node.name,
                cls=NamespaceHost,
                mtu=INSIDE_MTU,
                settings=setup.SERVER_SETTINGS,
                context=context,
            )
        for a, b in (wire.ends for wire in plan):
            macs = {f"addr{n}": mac_text(e.mac) for n, e in ((1, a), (2, b)) if e.mac is not None}
            self.addLink(
                a.node,
                b.node,
                port1=a.port,
                port2=b.port,
                intfName1=a.interface,
                intfName2=b.interface,
                **macs,
            )


def check(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        raise NetworkError(f"{' '.join(argv)}: {done.stderr.strip()}")
