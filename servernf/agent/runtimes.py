"""The runtimes that a server can start: each is a program that takes the same options.

To add one: its package in servernf, with a `__main__` that takes them, and a line here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from servernf.agent.config import ListenerTls, WorkerSettings
from servernf.agent.specs import WorkerSpec
from servernf.host.compiling import dpdk_missing
from servernf.host.devices import CoreDevice
from servernf.wire.addresses import mac_text


@dataclass(frozen=True, slots=True)
class RuntimeModule:
    """A worker program: it announces itself by a JSON line with `"ready": true` on its output."""

    name: str
    module: str
    missing: Callable[[], str] = str
    """What it lacks on this machine; "": nothing."""
    takes_devices: bool = False
    """Whether its workers may have devices of DPDK's, not only interfaces of the kernel's."""

    def device(self, spec: WorkerSpec, settings: WorkerSettings) -> CoreDevice | None:
        """The device that a worker has instead of an interface."""
        return settings.device(spec.core) if self.takes_devices else None

    def argv(self, spec: WorkerSpec, settings: WorkerSettings, cpu: int | None) -> list[str]:
        """The command line of a worker, which runs on one CPU or any."""
        argv = [sys.executable, "-m", self.module, "--name", spec.name]
        device = self.device(spec, settings)
        if device is None:
            argv += ["--interface", spec.device]
        else:
            argv += ["--device", device.text, "--mac", mac_text(spec.mac)]
            argv += ["--poll", "always"] if device.polled else []
        argv += ["--api", settings.api(spec.core), *_tls_argv(settings.tls)]
        if cpu is not None:
            argv += ["--cpu", str(cpu)]
        if settings.doors is not None:
            argv += ["--door", str(settings.doors / f"{spec.name}.sock")]
        if settings.user is not None:
            argv += ["--user", str(settings.user)]
        return argv


KNOWN = {
    each.name: each
    for each in (
        RuntimeModule("dpdk", "servernf.dpdk", dpdk_missing, takes_devices=True),
        RuntimeModule("python", "servernf.python"),
    )
}


def runtimes() -> Mapping[str, RuntimeModule]:
    """Those that can start here, by name."""
    installed = (each for each in KNOWN.values() if find_spec(each.module) is not None)
    return {each.name: each for each in installed if not each.missing()}


def _tls_argv(tls: ListenerTls | None) -> list[str]:
    if tls is None:
        return []
    argv = ["--tls-cert", str(tls.certificate), "--tls-key", str(tls.key)]
    if tls.ca is None:
        return argv
    writers = [word for name in tls.writers for word in ("--writer", name)]
    return [*argv, "--tls-ca", str(tls.ca), *writers]
