"""How this user reaches a network: in whose name, with which certificates, which store.

The command line's options and the environment say it; options win.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from orchestrator.clients.channel import TlsFiles, common_name
from orchestrator.errors import InputError, NetworkError, OwnerError
from orchestrator.model.bundle import Bundle
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.topology import Tls

_Owned = TypeVar("_Owned", ServiceGraph, Bundle)

NOBODY = "default"
"""The owner of a graph that names none."""
OWNER = "ORCHESTRATOR_OWNER"
STORE = "ORCHESTRATOR_STORE"
TLS_CA = "ORCHESTRATOR_TLS_CA"
TLS_CERTIFICATE = "ORCHESTRATOR_TLS_CERTIFICATE"
TLS_KEY = "ORCHESTRATOR_TLS_KEY"


@dataclass(frozen=True, slots=True)
class Access:
    """`owner` is the tenant that acts, empty for the network's operator, who may do everything.

    `ca`, `certificate` and `key` are this user's own, before the topology's.
    """

    owner: str = ""
    store: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""

    @classmethod
    def from_environment(cls, given_variables: Mapping[str, str] | None = None) -> Access:
        """What the variables say; a certificate of one's own says who one is."""
        variables = os.environ if given_variables is None else given_variables
        given = {name: variables.get(name, "") for name in (TLS_CA, TLS_CERTIFICATE, TLS_KEY)}
        if bool(given[TLS_CERTIFICATE]) != bool(given[TLS_KEY]):
            raise InputError(
                f"--tls-certificate (${TLS_CERTIFICATE}) and --tls-key (${TLS_KEY}) belong together"
            )
        owner = variables.get(OWNER, "")
        if given[TLS_CERTIFICATE]:
            certified = common_name(Path(given[TLS_CERTIFICATE]))
            if owner not in ("", certified):
                raise InputError(
                    f"--owner {owner}: the certificate {given[TLS_CERTIFICATE]} is '{certified}'s"
                )
            owner = certified
        return cls(owner, variables.get(STORE, ""), *given.values())

    def tls_files(self, device: str, tls: Tls | None) -> TlsFiles | None:
        """The files to reach a device with, None: plain text; NetworkError if required ones lack."""
        if tls is None:
            return None
        ca = self.ca or tls.ca
        mine = (self.certificate, self.key) if self.certificate else (tls.certificate, tls.key)
        missing = [] if ca else [f"no CA (tls.ca, --tls-ca or ${TLS_CA})"]
        if tls.mutual and not mine[0]:
            missing.append(
                "no certificate and key (tls.certificate and tls.key, --tls-certificate and "
                f"--tls-key, or ${TLS_CERTIFICATE} and ${TLS_KEY})"
            )
        if missing and tls.required:
            raise NetworkError(
                f"{device}: the topology requires TLS, but there is: {', '.join(missing)}"
            )
        if not ca:
            return None
        certificate, key = (Path(p) if p and tls.mutual else None for p in mine)
        return TlsFiles(Path(ca), certificate, key, tls.device_name)

    def own_files(self) -> TlsFiles | None:
        """The files to reach something that no topology describes with."""
        if not self.ca:
            if self.certificate:
                raise InputError(f"--tls-certificate needs --tls-ca (${TLS_CA}), too")
            return None
        certificate, key = (Path(p) if p else None for p in (self.certificate, self.key))
        return TlsFiles(Path(self.ca), certificate, key)

    def check_owner(self, graphs: Mapping[str, str]) -> None:
        """OwnerError when one of the graphs (their owners by name) belongs to another tenant."""
        others = {graph: owner for graph, owner in graphs.items() if self.owner not in ("", owner)}
        if others:
            told = ", ".join(f"{graph} belongs to {owner}" for graph, owner in others.items())
            raise OwnerError(f"{told}; you are {self.owner}")

    def claimed(self, graph: _Owned) -> _Owned:
        """The graph in this tenant's name, if it says no other."""
        if not self.owner or graph.owner != NOBODY:
            return graph
        return replace(graph, owner=self.owner)
