"""The supervisor of a live network: builds a topology with Mininet and keeps it until SIGTERM.

Started by `orchestrator.emulation.net_up`, never by hand. Reports JSON lines on its output until
the network is ready, then logs to the network's supervisor.log.
"""
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from nodes import LiveTopo, Mininet, PlainIntf, SwitchProcess, Veth  # pyright: ignore[reportAttributeAccessIssue]
from servers import Servers

from orchestrator.emulation import children, commands, setup
from orchestrator.emulation.naming import switch_socket
from orchestrator.emulation.pins import pin
from orchestrator.emulation.restart import serve
from orchestrator.emulation.setup import capacity_line
from orchestrator.emulation.state import (
    Handle,
    HostState,
    NetworkState,
    ServerState,
    SwitchState,
    load_state,
    save_state,
)
from orchestrator.emulation.sweep import sweep
from orchestrator.emulation.wiring import VethEnd, VethPair, ends_of, wires
from orchestrator.errors import NetworkError
from orchestrator.targets import AUTO
from servernf.host.processes import process_of


class Stop(BaseException):
    """SIGTERM or SIGINT: take everything down. No Exception, so that nothing swallows it."""


class Supervisor:
    """Builds, keeps and removes one network."""

    def __init__(self, state: NetworkState, options: argparse.Namespace) -> None:
        self.state = replace(state, supervisor=os.getpid(), processes=(process_of(os.getpid()),))
        self.options = options
        self.folder = Path(state.run_dir)
        self.ports = children.FreePorts()
        self.children: list[children.Child] = []
        self.servers = Servers(self)
        self.net: Any = None
        self.stopping = False

    def spawn(self, name: str, argv: list[str], address: str = "") -> children.Child:
        log = self.folder / f"{name}.log"
        child = children.spawn(name, argv, log, env=os.environ, address=address)
        self.children.append(child)
        self.record(child.pid)
        return child

    def record(self, pid: int) -> None:
        """Write down a process as soon as it is there: after a crash it is known to be ours."""
        self.state = replace(self.state, processes=(*self.state.processes, process_of(pid)))
        save_state(self.state)

    def keep_namespace(self, name: str, pid: int) -> None:
        """A namespace has been made: it is ours until `sweep` lets go of it."""
        pin(pid, self.folder, name)
        self.record(pid)

    def address(self, switch: SwitchProcess) -> str:
        """Where a switch is to listen: a socket in a folder of ours alone, if not on TCP."""
        if not self.options.tcp and not commands.speaks_tls(switch.tls):
            return f"unix:{self.folder / switch_socket(switch.device_id)}"
        if not switch.chooses_port:
            return f"127.0.0.1:{self.ports.hold()}"
        return "127.0.0.1:0"

    def start(self) -> None:
        state, topology = self.state, self.state.topology
        save_state(state)
        plan = wires(topology, state.id)
        targets = commands.resolve_targets(topology, self.options.switch)
        for target in sorted(set(targets.values())):
            commands.engine_of(target).prepare()
        namespaces = len(topology.hosts) + len(topology.servers)
        report(progress=f"{_count(namespaces, 'namespace')}, {_count(len(plan), 'link')}")
        # Mininet would otherwise raise the machine's own sysctls, and leave them so.
        Mininet.inited = True
        self.net = Mininet(
            topo=LiveTopo(state, plan, targets, self),
            controller=None,
            link=Veth,
            intf=PlainIntf,
            build=False,
        )
        self.net.build()
        self.plan = plan
        # They import what they need while interfaces are configured.
        servers = topology.servers if self.options.workers else {}
        nics = {name: ends[0].interface for name in servers if (ends := ends_of(name, plan))}
        started = self.servers.start_agents(nics)
        self.configure(plan)
        kinds = Counter(targets.values())
        report(progress=", ".join(_count(n, f"{kind} switch", "es") for kind, n in kinds.items()))
        self.net.start()
        if count := self.servers.cores():
            report(progress=_count(count, "server worker"))
        children.wait_ready(started)
        self.servers.start_workers()
        children.wait_ready(self.children)
        self.state = self.describe(plan)
        save_state(self.state)

    def configure(self, plan: tuple[VethPair, ...]) -> None:
        """Addresses, routes, offloads; all namespaces at the same time."""
        net, topology = self.net, self.state.topology
        ports = [name for switch in net.switches for name in switch.interfaces().values()]
        for name in ports:
            no_ipv6 = Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6")
            if no_ipv6.exists():
                no_ipv6.write_text("1")
        jobs = [(None, setup.switch_lines(ports), ports)]
        for host in topology.hosts.values():
            ends = ends_of(host.name, plan)
            names = [end.interface for end in ends]
            jobs.append((net[host.name].pid, setup.host_lines(host, ends), names))
        for server in topology.servers.values():
            ends = ends_of(server.name, plan)
            names = list(dict.fromkeys([*(end.interface for end in ends), *server.interfaces]))
            jobs.append((net[server.name].pid, setup.server_lines(server, ends), names))
        _together([(_inside(pid, ["ip", "-batch", "-"]), lines) for pid, lines, _ in jobs])
        _together(
            [
                (_inside(pid, ["ethtool", "-K", name, *setup.OFFLOADS_OFF]), [])
                for pid, _, names in jobs
                for name in names
            ]
        )
        if self.options.limit_links:
            limited = [(end, wire.capacity) for wire in plan for end in wire.ends]
            _together(
                [
                    (
                        _inside(self.namespace(end), ["tc", "-batch", "-"]),
                        [capacity_line(end, rate)],
                    )
                    for end, rate in limited
                ]
            )

    def namespace(self, end: VethEnd) -> int | None:
        """The process whose namespace holds an interface, None for the machine's own."""
        return None if end.node in self.state.topology.switches else self.net[end.node].pid

    def describe(self, plan: tuple[VethPair, ...]) -> NetworkState:
        net, topology = self.net, self.state.topology

        def nic(name: str) -> str:
            ends = ends_of(name, plan)
            return ends[0].interface if ends else ""

        return replace(
            self.state,
            phase="running",
            switches={
                node.name: SwitchState(
                    name=node.name,
                    target=node.target,
                    device_id=node.device_id,
                    grpc_address=node.address(),
                    pid=node.child.pid,
                    cpu_port=node.cpu_port,
                    interfaces=node.interfaces(),
                    log=str(node.child.log),
                )
                for node in (net[name] for name in topology.switches)
            },
            servers={
                name: ServerState(
                    name,
                    net[name].pid,
                    nic(name),
                    self.servers.workers.get(name, ()),
                    self.servers.agents.get(name),
                )
                for name in topology.servers
            },
            hosts={
                h.name: HostState(
                    h.name, net[h.name].pid, nic(h.name), h.mac, h.addresses, h.gateways
                )
                for h in topology.hosts.values()
            },
        )

    def keep(self, wakeup: int) -> None:
        """Sleep until a signal; say which child has ended."""
        while True:
            self.children = children.report_dead(self.children, log)
            serve(self.folder, self.restart)
            select.select([wakeup], [], [])
            os.read(wakeup, 4096)

    def restart(self, name: str) -> None:
        """A switch or worker ends, if it lives, and starts anew where it was."""
        if name in self.state.switches:
            self.restart_switch(name)
        else:
            self.servers.restart(next(w for w in self.state.workers if w.name == name))
        self.state = self.describe(self.plan)
        save_state(self.state)
        log(f"{name} was started again")

    def restart_switch(self, name: str) -> None:
        old = [child for child in self.children if child.name == name]
        children.stop(old)
        self.children = [child for child in self.children if child not in old]
        self.net[name].start(None)
        children.wait_ready(self.children[-1:])

    def stop(self) -> None:
        """Take everything down, from whatever state; `sweep` removes what the steps before left."""
        self.stopping = True
        try:
            children.stop(self.children)
            if self.net:
                self.net.stop()
        except Exception as e:
            log(f"while stopping: {e}")
        s = self.state
        sweep(Handle(s.name, s.id, s.run_dir, s.supervisor, s.namespace, s.processes))


def _count(number: int, what: str, plural: str = "s") -> str:
    return f"{number} {what}{plural if number != 1 else ''}"


def _inside(pid: int | None, argv: list[str]) -> list[str]:
    return argv if pid is None else commands.in_namespace(pid, argv)


def _together(jobs: list[tuple[list[str], list[str]]]) -> None:
    """Run commands side by side, each with its lines as input."""
    running = []
    for argv, lines in jobs:
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdin is not None
        process.stdin.write("".join(f"{line}\n" for line in lines))
        process.stdin.flush()
        running.append((argv, process))
    for argv, process in running:
        _, problem = process.communicate()
        if process.returncode:
            raise NetworkError(f"{' '.join(argv)}: {problem.strip()}")


def report(**what: str | bool) -> None:
    """Tell `net_up`; if it is gone, the network is unwanted."""
    try:
        print(json.dumps(what), flush=True)
    except OSError:
        raise Stop from None


def log(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--switch", choices=(AUTO, *commands.emulated()), required=True)
    parser.add_argument("--no-workers", dest="workers", action="store_false")
    parser.add_argument("--limit-links", action="store_true")
    parser.add_argument("--tcp", action="store_true")
    parser.add_argument("--cle", default="")
    options = parser.parse_args()
    if os.fork():
        # The caller waits for this process only; the supervisor belongs to init.
        os._exit(0)
    os.chdir("/")
    supervisor = Supervisor(load_state(options.name), options)

    def end(*_: object) -> None:
        if not supervisor.stopping:
            raise Stop

    wakeup, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    code = 0
    try:
        supervisor.start()
        report(ready=True)
        os.dup2(2, 1)
        log(f"ready: {len(supervisor.children)} processes")
        supervisor.keep(wakeup)
    except Stop:
        supervisor.stopping = True
        log("stopping")
        if supervisor.state.phase == "starting":
            with suppress(Stop):
                report(error="the network was stopped while it started")
    except Exception as e:
        supervisor.stopping, code = True, 1
        log(f"{type(e).__name__}: {e}")
        with suppress(Stop):
            report(error=str(e) or type(e).__name__)
    supervisor.stop()
    return code


if __name__ == "__main__":
    sys.exit(main())
