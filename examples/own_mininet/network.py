#!/usr/bin/env python3
"""Four P4 switches in a ring, three hosts and a server, as plain Mininet: nothing of the orchestrator.

         v1 (its agent starts workers)
         |
    h1 - s1 - s2 - s3 - h3
    h2 --+ +-- s4 --+

Start it as root, wait for "ready", leave it with Ctrl-C:

    python3 network.py --certificates certs
"""

import argparse
import fcntl
import json
import os
import signal
import subprocess
import sys
import time

from mininet.net import Mininet
from mininet.node import Host, Switch

MTU = 1600  # between switches and servers: frames of 1,500 bytes with the tag of 38 in front
CPU_PORT = 510
HOSTS = {
    "h1": ("10.0.1.11/24", "0a:00:00:00:00:01", "10.0.1.1"),
    "h2": ("10.0.1.12/24", "0a:00:00:00:00:02", "10.0.1.1"),
    "h3": ("198.51.100.13/24", "0a:00:00:00:00:03", "198.51.100.1"),
}
SWITCHES = {"s1": 50051, "s2": 50052, "s3": 50053, "s4": 50054}
LINKS = [("s1", "h1"), ("s1", "h2"), ("s1", "v1"), ("s1", "s2"), ("s2", "s3"), ("s3", "h3")]
LINKS += [("s1", "s4"), ("s4", "s3")]
MANAGEMENT = ("10.99.0.1/24", "10.99.0.2/24")  # this machine's end and v1's
LOCK = "/run/own_mininet.lock"
WITH_US = ["setpriv", "--pdeathsig", "KILL"]  # a process ends as this script does, killed or not


class P4Switch(Switch):
    """A switch process in the root namespace that serves P4Runtime on a TCP port."""

    def __init__(self, name, kind, port, certificates, python, **params):
        super().__init__(name, **params)
        self.kind, self.port, self.certificates, self.python = kind, port, certificates, python
        self.process = None

    def start(self, controllers):
        ports = [(n, i.name) for n, i in sorted(self.intfs.items()) if i.name != "lo"]
        interfaces = [word for n, name in ports for word in ("-i", f"{n}@{name}")]
        command = self.bmv2(interfaces) if self.kind == "bmv2" else self.softswitch(interfaces)
        with open(f"{self.name}.log", "w") as log:
            self.process = subprocess.Popen(WITH_US + command, stdout=log, stderr=subprocess.STDOUT)

    def bmv2(self, interfaces):
        device = str(list(SWITCHES).index(self.name) + 1)
        command = ["simple_switch_grpc", "--no-p4", "--device-id", device, *interfaces, "--"]
        command += ["--grpc-server-addr", f"127.0.0.1:{self.port}", "--cpu-port", str(CPU_PORT)]
        if self.certificates:
            command += ["--grpc-server-ssl", "--grpc-server-with-client-auth"]
            command += ["--grpc-server-cacert", f"{self.certificates}/ca.pem"]
            command += ["--grpc-server-cert", f"{self.certificates}/device.pem"]
            command += ["--grpc-server-key", f"{self.certificates}/device.key"]
        return command

    def softswitch(self, interfaces):
        device = str(list(SWITCHES).index(self.name) + 1)
        command = [self.python, "-m", "orchestrator.softswitch", "--device-id", device, *interfaces]
        command += ["--grpc-addr", f"127.0.0.1:{self.port}", "--cpu-port", str(CPU_PORT)]
        if self.certificates:
            command += ["--tls-ca", f"{self.certificates}/ca.pem", "--writer", "controller"]
            command += ["--tls-cert", f"{self.certificates}/device.pem"]
            command += ["--tls-key", f"{self.certificates}/device.key"]
        return command

    def stop(self, deleteIntfs=True):
        if self.process:
            self.process.terminate()
            self.process.wait()
        super().stop(deleteIntfs)


def alone():
    """Make sure that no other one runs: what has our names was left by one that was killed."""
    try:  # locked as long as this process lives, and no longer
        fcntl.flock(os.open(LOCK, os.O_CREAT | os.O_WRONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"another one of these networks runs ({LOCK} is locked)")


def sweep():
    """Delete interfaces of our names: a veth between two switches outlives whoever made it."""
    ends = [f"{a}-eth{n}" for a in SWITCHES for n in range(1, len(LINKS) + 1)]
    for name in [*ends, "v1-mgmt"]:
        if os.path.exists(f"/sys/class/net/{name}"):
            # Its peer, or a namespace that is just ending, may take it away first.
            subprocess.run(["ip", "link", "delete", name], stderr=subprocess.DEVNULL)


def build(arguments):
    net = Mininet(controller=None, build=False)
    for name, port in SWITCHES.items():
        net.addSwitch(
            name,
            cls=P4Switch,
            inNamespace=False,
            kind=arguments.switch,
            port=port,
            certificates=arguments.certificates,
            python=arguments.python,
        )
    for name, (address, mac, _) in HOSTS.items():
        net.addHost(name, cls=Host, ip=address, mac=mac)
    net.addHost("v1", cls=Host, ip=None)
    for a, b in LINKS:
        net.addLink(net[a], net[b])
    net.build()
    return net


def configure(net):
    for name, (_, _, gateway) in HOSTS.items():
        net[name].cmd(f"ip route add default via {gateway}")
    for node in net.values():
        for interface in node.intfList():
            if interface.name == "lo":
                continue
            # Checksums that are left to hardware are never computed on a veth, and segments larger
            # than the MTU never cut: ping would work, TCP would not.
            node.cmd(f"ethtool -K {interface.name} rx off tx off sg off tso off gso off gro off")
            node.cmd(f"sysctl -w net.ipv6.conf.{interface.name}.disable_ipv6=1")
            if not isinstance(interface.node, Host) or node.name == "v1":
                node.cmd(f"ip link set {interface.name} mtu {MTU} arp off")


def start_agent(net, arguments):
    """The server's agent, reached over a management network of its own as in a rack."""
    server, (ours, theirs) = net["v1"], MANAGEMENT
    run(f"ip link add v1-mgmt type veth peer name mgmt netns {server.pid}")
    run(f"ip address add {ours} dev v1-mgmt")
    run("ip link set v1-mgmt up")
    server.cmd(f"ip address add {theirs} dev mgmt")
    server.cmd("ip link set mgmt up")
    address = theirs.partition("/")[0]
    settings = {
        "name": server.name,
        "listen": f"{address}:50050",
        "folder": os.path.abspath("agent"),
        "workers": {"listen": f"{address}:50100"},  # and the ports behind it, one a core
    }
    if arguments.certificates:
        folder = arguments.certificates
        files = {"ca": "ca.pem", "certificate": "device.pem", "key": "device.key"}
        settings["tls"] = {key: f"{folder}/{name}" for key, name in files.items()}
        settings["tls"]["writers"] = ["controller"]
    with open("agent.json", "w") as file:
        json.dump(settings, file)
    command = [arguments.python, "-m", "servernf.agent", "--config", "agent.json"]
    command += [] if arguments.certificates else ["--insecure"]
    with open("agent.log", "w") as log:
        return server.popen(WITH_US + command, stdout=log, stderr=subprocess.STDOUT)


def run(command):
    subprocess.run(command.split(), check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--switch", choices=("bmv2", "softswitch"), default="bmv2")
    parser.add_argument("--certificates", type=os.path.abspath, help="folder of certificates.sh")
    parser.add_argument("--python", default=sys.executable, help="has softswitch and agent")
    parser.add_argument("--no-server", action="store_true", help="v1 stays a namespace, no more")
    arguments = parser.parse_args()

    alone()
    sweep()
    net = agent = None
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        net = build(arguments)
        configure(net)  # first: BMv2 cuts frames at the MTU that an interface has when it opens it
        net.start()
        if not arguments.no_server:
            agent = start_agent(net, arguments)
        for host in net.hosts:
            print(host.name, host.pid)  # mnexec -a PID COMMAND runs a command there
        print("ready", flush=True)
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print("stopping")
    finally:
        if agent:
            agent.terminate()
            agent.wait()
        if net:
            net.stop()
        sweep()


if __name__ == "__main__":
    main()
