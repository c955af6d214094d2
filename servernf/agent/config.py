"""The agent's configuration file: JSON, read strictly, every problem told at once."""

from __future__ import annotations

import os
import re
import socket
import ssl
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from servernf.agent.specs import NAME
from servernf.host.authority import DEFAULT_WRITERS, exposure
from servernf.host.devices import CoreDevice, device
from servernf.host.privileges import MAX_USER
from servernf.wire.errors import InputError, quoted
from servernf.wire.fields import Fields, parsed

DEFAULT_CONFIG = Path("/etc/servernf/agent.json")
DEFAULT_USER = 60_706
"""Of workers: a number that neither users nor services have (systemd, UIDS-GIDS)."""
UNIX = "unix:"
_LARGEST = 1 << 20
"""Bytes of a configuration."""
_MOST_CORES = 1024
"""Where workers are not pinned."""
_TCP = re.compile(r"(?:(?P<host>[^\s:/\[\]]+)|\[(?P<ipv6>[0-9a-fA-F:.]+)\]):(?P<port>\d{1,5})")
_ANY = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class ListenerTls:
    """PEM files that something here listens with; with `ca`, clients must show a certificate of it.

    Then only those made out to `writers` (common names) may change anything.
    """

    certificate: Path
    key: Path
    ca: Path | None
    writers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What all workers of the server have in common.

    `listen` is `unix:/FOLDER` for sockets there, or `HOST:PORT` for ports from there on, one a core.
    They become `user` (None: they stay what the agent is), run on `cpus`, with `pin` one a core, and
    with `restart` are started again when they end. `doors` is the folder of the sockets by which workers
    bring state to each other; None: they do where they listen. The n-th core has the n-th of `devices`
    for itself, where its runtime takes frames from devices.
    """

    listen: str
    tls: ListenerTls | None
    user: int | None
    cpus: tuple[int, ...]
    pin: bool
    restart: bool
    doors: Path | None
    devices: tuple[CoreDevice, ...] = ()

    def device(self, core: int) -> CoreDevice | None:
        """The device that is a core's alone."""
        return self.devices[core] if core < len(self.devices) else None

    def api(self, core: int) -> str:
        """Where the worker of a core listens."""
        if self.listen.startswith(UNIX):
            return f"{self.listen}/core{core + 1}.sock"
        host, _, port = self.listen.rpartition(":")
        return f"{host}:{int(port) + core}"

    @property
    def most_cores(self) -> int:
        """Cores that there can be a worker on."""
        most = len(self.cpus) if self.pin else _MOST_CORES
        if self.listen.startswith(UNIX):
            return most
        return min(most, (1 << 16) - int(self.listen.rpartition(":")[2]))


@dataclass(frozen=True, slots=True)
class Cle:
    """Where what workers tell witnesses goes: the CLE's address, and this server's certificate there."""

    address: str
    tls: ListenerTls | None


@dataclass(frozen=True, slots=True)
class Config:
    """An agent: the server's name, where it listens, with which certificates, where it keeps files.

    With `cle`, workers have rings for their records, which are shipped there.
    """

    name: str
    listen: str
    tls: ListenerTls | None
    folder: Path
    workers: WorkerSettings
    cle: Cle | None = None

    @property
    def rings(self) -> Path:
        """The folder of the workers' rings."""
        return self.folder / "rings"

    def exposures(self) -> list[str]:
        """Who could change what without a certificate, in words."""
        ends = ((self.listen, self.tls), (self.workers.listen, self.workers.tls))
        told = (
            exposure(at, tls=tls is not None, certified=tls is not None and tls.ca is not None)
            for at, tls in ends
        )
        exposed = [each for each in told if each]
        if self.cle and not self.cle.tls and not self.cle.address.startswith(UNIX):
            exposed.append(
                f"cle {self.cle.address}: without tls whoever is on the way reads and changes records"
            )
        return exposed


def read_config(path: Path) -> Config:
    """The configuration in a file; InputError with all that is wrong with it."""
    return config_of(parsed(_text(path), str(path)), str(path))


def config_of(data: Mapping[str, object], where: str) -> Config:
    """The configuration that a JSON object is; relative paths are none."""
    fields = Fields(where, data)
    name = fields.text("name", socket.gethostname())
    if not NAME.fullmatch(name):
        fields.problem("name", f"{quoted(name)} is no name ({NAME.pattern})")
    tls = _tls(fields)
    folder = _path(fields, "folder", "/var/lib/servernf")
    config = Config(
        name=name,
        listen=_address(fields, "listen"),
        tls=tls,
        folder=folder,
        workers=_workers(fields.object("workers"), tls, folder),
        cle=_cle(fields),
    )
    fields.check()
    return config


def _workers(fields: Fields, agents_tls: ListenerTls | None, folder: Path) -> WorkerSettings:
    listen = _address(fields, "listen")
    if (listens := _TCP.fullmatch(listen)) and (listens["host"] or listens["ipv6"]) in _ANY:
        fields.problem("listen", f"{listen} is no address that a controller could dial")
    pin, restart = fields.boolean("pin"), fields.boolean("restart")
    settings = WorkerSettings(
        listen=listen,
        tls=_tls(fields) or agents_tls,
        user=_user(fields),
        cpus=_cpus(fields),
        pin=pin is not False,
        restart=restart is not False,
        doors=_doors(fields, listen, folder),
        devices=_devices(fields),
    )
    fields.only_known()
    return settings


def _devices(fields: Fields) -> tuple[CoreDevice, ...]:
    polled = fields.has("poll") and fields.raw("poll") == "always"
    if fields.has("poll") and not polled:
        fields.problem("poll", f"{quoted(fields.raw('poll'))} is not 'always'")
    if polled and not fields.has("devices"):
        fields.problem("poll", "is for devices; an interface wakes who waits for its frames")
    chosen: list[CoreDevice] = []
    for index, item in enumerate(fields.items("devices", required=False)):
        try:
            named = device(item if isinstance(item, str) else "", polled=polled)
        except InputError:
            fields.problem(
                f"devices[{index}]",
                f"{quoted(item)} is no device of DPDK's ('0000:3b:02.0', 'net_ring0')",
            )
            continue
        if named.name in (other.name for other in chosen):
            fields.problem(f"devices[{index}]", f"{named.name} is named twice: a core has it alone")
        chosen.append(named)
    return tuple(chosen)


def _doors(fields: Fields, listen: str, folder: Path) -> Path | None:
    if listen.startswith(UNIX):
        return _path(fields, "doors", str(folder / "doors"))
    if fields.has("doors"):
        fields.problem("doors", "are for workers that listen on Unix sockets")
    return None


def _cle(fields: Fields) -> Cle | None:
    if not fields.has("cle"):
        return None
    cle = fields.object("cle")
    collector = Cle(_address(cle, "address"), _tls(cle))
    if collector.tls and not collector.tls.ca:
        cle.problem("tls", "needs ca, too: whose certificate the CLE must have")
    cle.only_known()
    return collector


def _user(fields: Fields) -> int | None:
    if os.geteuid() == 0:
        return fields.integer("user", 1, MAX_USER, DEFAULT_USER)
    if fields.has("user"):
        fields.problem("user", "only an agent that root runs can start workers of another user")
    return None


def _cpus(fields: Fields) -> tuple[int, ...]:
    usable = sorted(os.sched_getaffinity(0))
    if not fields.has("cpus"):
        return tuple(usable)
    chosen: list[int] = []
    for index, item in enumerate(fields.items("cpus")):
        if not isinstance(item, int) or isinstance(item, bool) or item not in usable:
            listed = ", ".join(map(str, usable))
            fields.problem(f"cpus[{index}]", f"{quoted(item)} is no CPU here (there are {listed})")
        elif item in chosen:
            fields.problem(f"cpus[{index}]", f"{item} is named twice")
        else:
            chosen.append(item)
    if not chosen:
        fields.problem("cpus", "names none")
    return tuple(chosen)


def _tls(fields: Fields) -> ListenerTls | None:
    if not fields.has("tls"):
        return None
    files = fields.object("tls")
    ca = _file(files, "ca") if files.has("ca") else None
    writers = tuple(_name(files, item) for item in files.items("writers", required=False))
    before = len(files.problems)
    tls = ListenerTls(
        _file(files, "certificate"), _file(files, "key"), ca, writers or DEFAULT_WRITERS
    )
    if len(files.problems) == before:
        _check_pem(files, tls)
    files.only_known()
    return tls


def _check_pem(files: Fields, tls: ListenerTls) -> None:
    """gRPC would say no more than that it cannot listen."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(tls.certificate, tls.key, lambda: "")
    except (ssl.SSLError, OSError):
        told = f"{tls.certificate} and {tls.key}: no certificate and its unencrypted key (PEM)"
        files.problem("certificate", told)
    if tls.ca is None:
        return
    try:
        context.load_verify_locations(tls.ca)
    except (ssl.SSLError, OSError):
        files.problem("ca", f"{tls.ca}: holds no CA certificate (PEM)")


def _name(files: Fields, item: object) -> str:
    if isinstance(item, str) and item:
        return item
    files.problem("writers", f"{quoted(item)} is no common name of a certificate")
    return ""


def _file(fields: Fields, key: str) -> Path:
    path = _path(fields, key)
    if path.is_absolute() and not os.access(path, os.R_OK):
        fields.problem(key, f"{path} {'is not readable' if path.exists() else 'is not there'}")
    return path


def _path(fields: Fields, key: str, default: str | None = None) -> Path:
    path = Path(fields.text(key, default))
    if path.parts and not path.is_absolute():
        fields.problem(key, f"{quoted(str(path))} is no absolute path")
    return path


def _address(fields: Fields, key: str) -> str:
    text = fields.text(key)
    if text.startswith(f"{UNIX}/") and not re.search(r"\s", text):
        return text
    tcp = _TCP.fullmatch(text)
    if text and not (tcp and 0 < int(tcp["port"]) < 1 << 16):
        fields.problem(key, f"{quoted(text)} is none of unix:/PATH, HOST:PORT, [IPv6]:PORT")
    return text


def _text(path: Path) -> str:
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as f:
            status = os.fstat(f.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise InputError(f"{path}: is no regular file")
            if status.st_mode & 0o022:
                raise InputError(f"{path}: others than its owner may write it: chmod go-w {path}")
            data = f.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise InputError(f"{path}: is larger than {_LARGEST >> 20} MiB")
        return data.decode()
    except FileNotFoundError:
        raise InputError(
            f"{path}: there is no such file; `servernf agent --install` writes {DEFAULT_CONFIG}"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no UTF-8 text") from None
