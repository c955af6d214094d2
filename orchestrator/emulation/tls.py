"""TLS of emulated devices: who may write, whether all files are there, and who can reach what else."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from orchestrator.clients.channel import common_name
from orchestrator.emulation.commands import engine_of, speaks_tls
from orchestrator.errors import InputError
from orchestrator.model.topology import Server, Switch, Tls, Topology
from orchestrator.targets.engine import TargetEngine


def with_writers(topology: Topology, certificate: str) -> Topology:
    """The topology with the writers of every device that asks for client certificates.

    Where it names none, that is whom `tls.certificate` is made out to, or else `certificate`, which
    whoever starts the network shows. InputError when there is neither, or a device would be a writer.
    """

    def filled(device: str, tls: Tls | None) -> Tls | None:
        if tls is None or not speaks_tls(tls) or not tls.mutual:
            return tls
        mine = tls.certificate or certificate
        if not tls.writers and not mine:
            raise InputError(
                f"{device}: with mutual TLS nobody could change it: name whose certificates may "
                "(tls.writers), or give tls.certificate or --tls-certificate"
            )
        writers = tls.writers or (common_name(Path(mine)),)
        if (own := common_name(Path(tls.device_certificate))) in writers:
            raise InputError(
                f"{device}: its own certificate is made out to '{own}', who may write: give "
                "devices certificates of their own (tls.device_certificate)"
            )
        return replace(tls, writers=writers)

    return replace(
        topology,
        switches={n: replace(s, tls=filled(n, s.tls)) for n, s in topology.switches.items()},
        servers={n: replace(s, tls=filled(n, s.tls)) for n, s in topology.servers.items()},
    )


def check_tls(topology: Topology, targets: Mapping[str, str]) -> None:
    """InputError with all files that devices need, by what the topology says, and do not have."""
    problems = dict.fromkeys(
        problem
        for device in (*topology.switches.values(), *topology.servers.values())
        if device.tls is not None and (device.tls.required or speaks_tls(device.tls))
        for problem in _problems(device, device.tls, targets.get(device.name))
    )
    if problems:
        raise InputError(list(problems))


def exposures(topology: Topology, targets: Mapping[str, str], *, tcp: bool) -> list[str]:
    """What others than the writers could do in the network as it will be started, in words."""
    open_to: list[str] = []
    plain = [s.name for s in topology.switches.values() if not speaks_tls(s.tls)]
    if tcp and plain:
        open_to.append(
            f"{', '.join(plain)}: TCP without TLS, so every user of this machine can change them"
        )
    devices = (*topology.switches.values(), *topology.servers.values())
    open_ = [
        d.name for d in devices if d.tls is not None and speaks_tls(d.tls) and not d.tls.mutual
    ]
    if open_:
        open_to.append(
            f"{', '.join(open_)}: TLS without client certificates, so whoever reaches them can "
            "change them"
        )
    for engine, devices in _by_engine(topology, targets).items():
        mutual = [d.name for d in devices if d.tls and speaks_tls(d.tls) and d.tls.mutual]
        if mutual and not engine.knows_writers:
            open_to.append(
                f"{', '.join(mutual)}: {engine.title} knows no writers, so every certificate that "
                "tls.ca signed can change them and read sampling keys"
            )
        if exposed := engine.exposes():
            open_to.append(f"{', '.join(d.name for d in devices)}: {exposed}")
    return open_to


def _problems(device: Switch | Server, tls: Tls, target: str | None) -> Iterator[str]:
    if not speaks_tls(tls):
        yield (
            f"{device.name}: the topology requires TLS, but names no certificate for it "
            "(tls.device_certificate, tls.device_key)"
        )
    if tls.mutual and not tls.ca:
        yield f"{device.name}: mutual TLS needs the CA of client certificates (tls.ca)"
    for path in filter(None, (tls.device_certificate, tls.device_key, tls.ca)):
        if not os.access(path, os.R_OK):
            yield f"TLS file {path}: {'not readable' if Path(path).exists() else 'not there'}"
    if target is not None and not engine_of(target).speaks_tls():
        title = engine_of(target).title
        yield f"{device.name}: {title} is built without TLS here; --switch softswitch speaks it"


def _by_engine(topology: Topology, targets: Mapping[str, str]) -> dict[TargetEngine, list[Switch]]:
    """The switches by what will run them."""
    switches: dict[TargetEngine, list[Switch]] = {}
    for switch in topology.switches.values():
        if target := targets.get(switch.name):
            switches.setdefault(engine_of(target), []).append(switch)
    return switches
