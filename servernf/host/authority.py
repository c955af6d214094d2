"""Who may change a device: the right of a client by the certificate that it shows over mutual TLS.

Whoever can read a device is told apart from whoever may write it by the subject's common name
(RFC 5280, 4.1.2.6): a certificate of the same CA alone makes nobody a controller, since switches,
workers and tenants have one, too. Where clients show no certificate (a Unix socket in a private
folder, TCP without TLS), who connects has every right: there, reaching the device is the right.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc

DEFAULT_WRITERS = ("controller",)
"""Common names that may write where nobody says which."""

DEFAULT_WITNESSES = ("cle",)
"""Common names that may say what is witnessed where nobody says which."""

_UNIX = "unix:"


@dataclass(frozen=True, slots=True)
class Authority:
    """`writers` may change the device, all others only read; None: clients show no certificate.

    `listeners` may also hear what the device reports to controllers (sampled packets, digests), in
    the P4Runtime role of their own name.
    """

    writers: frozenset[str] | None = None
    listeners: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, writers: Collection[str], *, certified: bool, listeners: Collection[str] = ()
    ) -> Authority:
        """`certified`: clients must show a certificate of the device's CA."""
        return cls(frozenset(writers) if certified else None, frozenset(listeners))

    def may_write(self, context: grpc.ServicerContext) -> bool:
        """Whether the caller's certificate is a writer's."""
        return self.writers is None or caller(context) in self.writers

    def refusal(self, context: grpc.ServicerContext) -> str:
        """Why the caller may change nothing, empty if it may."""
        if self.may_write(context):
            return ""
        return f"the certificate of '{caller(context)}' may read this device, not change it"

    def listening_role(self, context: grpc.ServicerContext) -> str:
        """The role in which a caller that may change nothing may listen, empty for none."""
        name = caller(context)
        return name if name in self.listeners else ""


def caller(context: grpc.ServicerContext) -> str:
    """The common name that the caller's certificate is made out to, empty without one."""
    names = context.auth_context().get("x509_common_name", ())
    return next((bytes(name).decode(errors="replace") for name in names), "")


def exposure(address: str, *, tls: bool, certified: bool) -> str:
    """Who can change a device that listens at `address` without asking for certificates; or empty."""
    if certified or address.startswith(_UNIX):
        return ""
    how = "without client certificates" if tls else "without TLS"
    return f"{address} {how}: whoever can connect may change everything here"
