"""The `tls` of a topology and of its devices: files by path, a device's own words first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from orchestrator.errors import quoted
from orchestrator.graph.schema import FileModel
from orchestrator.model.topology import Tls

_FILES = ("ca", "certificate", "key", "device_certificate", "device_key")


CommonName = Annotated[str, Field(min_length=1, max_length=64)]
"""RFC 5280, ub-common-name."""


class TlsFile(FileModel):
    """TLS towards devices; `"required"` alone leaves the files to the controller's environment."""

    required: bool = True
    mutual: bool = True
    ca: str = ""
    certificate: str = ""
    key: str = ""
    device_certificate: str = ""
    device_key: str = ""
    device_name: str = ""
    writers: Annotated[
        tuple[CommonName, ...],
        Field(
            min_length=1,
            description="Common names of the certificates that may change devices (mutual TLS); others "
            "only read. Left out: whom `certificate` is made out to.",
        ),
    ] = ()
    listeners: Annotated[
        tuple[CommonName, ...],
        Field(
            description="Common names of the certificates that may hear sampled packets and digests of "
            "switches (mutual TLS), each in the P4Runtime role of its name, and change nothing.",
        ),
    ] = ()


def _shorthand(value: object) -> object:
    if isinstance(value, str) and value != "required":
        raise ValueError(f'{quoted(value)} is neither "required" nor an object')
    return {} if value == "required" else value


TlsSetting = Annotated[
    TlsFile,
    BeforeValidator(_shorthand, json_schema_input_type=TlsFile | Literal["required"]),
]


def merged(network: TlsFile | None, device: TlsFile | None, folder: Path) -> Tls | None:
    """What holds for a device; relative paths are relative to the topology's folder."""
    if network is None and device is None:
        return None
    values = {
        name: getattr(file, name)
        for file in (network, device)
        if file is not None
        for name in file.model_fields_set
    }
    for name in _FILES:
        if given := values.get(name):
            values[name] = str((folder / given).absolute())
    return Tls(**values)


def problems_of(tls: Tls) -> Iterator[tuple[str, str]]:
    """(key, problem): a certificate without its key or the other way round, writers not told apart."""
    if tls.writers and not tls.mutual:
        yield (
            "writers",
            "without mutual TLS devices see no certificates: whoever connects may write",
        )
    if tls.listeners and not tls.mutual:
        yield (
            "listeners",
            "without mutual TLS devices see no certificates: whoever connects may listen",
        )
    for pair in (("certificate", "key"), ("device_certificate", "device_key")):
        given = [name for name in pair if getattr(tls, name)]
        if len(given) == 1:
            yield given[0], f"{pair[0]} and {pair[1]} belong together"
