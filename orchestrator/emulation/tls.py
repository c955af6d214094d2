"""TLS of emulated devices: who may write, whether all files are there, and who can reach what else."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from orchestrator.clients.channel import common_name
from orchestrator.emulation.commands import BMV2, bmv2_options, engine_of, speaks_tls
from orchestrator.errors import InputError
from orchestrator.model.topology import Server, Switch, Tls, Topology


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
    found: list[str] = []
    plain = [s.name for s in topology.switches.values() if not speaks_tls(s.tls)]
    if tcp and plain:
        found.append(
            f"{', '.join(plain)}: TCP without TLS, so every user of this machine can change them"
        )
    devices = (*topology.switches.values(), *topology.servers.values())
    open_ = [
        d.name for d in devices if d.tls is not None and speaks_tls(d.tls) and not d.tls.mutual
    ]
    if open_:
        found.append(
            f"{', '.join(open_)}: TLS without client certificates, so whoever reaches them can "
            "change them"
        )
    bmv2 = [s for s in topology.switches.values() if _is_bmv2(targets.get(s.name))]
    knows_none = [
        s.name
        for s in topology.switches.values()
        if (target := targets.get(s.name)) and not engine_of(target).knows_writers
        if s.tls is not None and speaks_tls(s.tls) and s.tls.mutual
    ]
    if knows_none:
        found.append(
            f"{', '.join(knows_none)}: BMv2 knows no writers, so every certificate that tls.ca "
            "signed can change them and read sampling keys"
        )
    if bmv2 and "--thrift-port" in bmv2_options():
        found.append(
            f"{', '.join(s.name for s in bmv2)}: this BMv2 is built with Thrift, whose port asks "
            "nobody who he is and listens on all addresses (softswitch, or a build without, has none)"
        )
    return found


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
    if _is_bmv2(target) and "--grpc-server-ssl" not in bmv2_options():
        yield f"{device.name}: {BMV2} is built without TLS here; --switch softswitch speaks it"


def _is_bmv2(target: str | None) -> bool:
    return target is not None and engine_of(target).name == BMV2
