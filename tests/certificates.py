"""A certificate authority for tests: its own, in a temporary folder."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


class Authority:
    """Signs certificates for localhost and 127.0.0.1; `ca` is its own."""

    def __init__(self, folder: Path, name: str = "test CA") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._name = _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(self._sign(self._name, self._key.public_key(), is_ca=True))

    def issue(
        self, common_name: str, *names: str, server_only: bool = False, expired: bool = False
    ) -> tuple[Path, Path]:
        """(certificate, key) for a name; valid for `names`, or else for localhost and 127.0.0.1.

        `server_only`: with the extended key usage serverAuth, else with none. `expired`: a day ago.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self.folder / f"{common_name}.pem"
        private = self.folder / f"{common_name}.key"
        certificate.write_bytes(
            self._sign(
                _name(common_name),
                key.public_key(),
                names=names,
                server_only=server_only,
                began=datetime.now(UTC) - timedelta(days=2 if expired else 0, hours=1),
            )
        )
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return certificate, private

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        *,
        names: tuple[str, ...] = (),
        is_ca: bool = False,
        server_only: bool = False,
        began: datetime | None = None,
    ) -> bytes:
        begin = began or datetime.now(UTC) - timedelta(hours=1)
        valid_for: list[x509.GeneralName] = [x509.DNSName(name) for name in names] or [
            x509.DNSName("localhost"),
            x509.IPAddress(ip_address("127.0.0.1")),
        ]
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + timedelta(days=1))
            .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if not is_ca:
            builder = builder.add_extension(x509.SubjectAlternativeName(valid_for), critical=False)
        if server_only:
            usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
            builder = builder.add_extension(usage, critical=False)
        return builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM)
