"""An end of ESP in transport mode (RFC 4303): AES-CBC (RFC 3602), then HMAC-SHA-256-128 (RFC 4868).

Keyed by hand and without replay protection. Fragments cannot be protected (RFC 4303, 3.3.4) and are
dropped; so is what would exceed the MTU. The key is read from where the configuration says, and nothing
prints it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar, Self

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from orchestrator.errors import InputError
from orchestrator.files import read_small
from servernf.checksum import delta16, update
from servernf.config import Fields
from servernf.network_function import OTHER, NetworkFunction
from servernf.packet import IPV6_FRAGMENT, PacketView

_ESP = 50
_AUTHENTICATION_BYTES = 32
_KEY_BYTES = (16 + 32, 24 + 32, 32 + 32)
_PADDING = bytes(range(1, 16))


class EspEnd(NetworkFunction):
    """Encrypts what enters `plain_port`, decrypts what enters the other; what is not IP passes."""

    plain_port: ClassVar[str]

    def setup(self, config: Fields) -> None:
        self._spi = config.integer("spi", 256, 0xFFFF_FFFF).to_bytes(4, "big")
        self._mtu = config.integer("mtu", 576, 65_535, 1500)
        key = _read_key(config)
        self._key = key
        self._aes = algorithms.AES(key[:-_AUTHENTICATION_BYTES])
        self._mac = HMAC(key[-_AUTHENTICATION_BYTES:], SHA256())
        self._counts = {"sequence": 0}

    def continue_from(self, before: Self) -> bool:
        # A sequence number is never used twice in a security association; another one begins anew.
        if (self._spi, self._key) == (before._spi, before._key):
            self._counts = before._counts
        return True

    def metrics(self) -> dict[str, int]:
        return dict(self._counts)

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        if not packet.version:
            return OTHER[port]
        data, l3 = packet.data, packet.l3
        if packet.first_fragment or packet.later_fragment:
            return self.drop("fragment")
        if packet.version == 4:
            start = l3 + ((data[l3] & 15) << 2)
            next_header = data[l3 + 9]
        else:
            start = l3 + 40
            next_header = data[l3 + 6]
            if next_header == IPV6_FRAGMENT:
                return self.drop("fragment")
        payload = bytes(data[start : packet.end])
        if port == self.plain_port:
            # Two bytes of trailer, whole blocks, 24 bytes before and 16 behind them.
            size = ((len(payload) + 2 + 15) & ~15) + 40
            if start - l3 + size > self._mtu:
                return self.drop("too_big")
            return self._replace(packet, start, _ESP, self._encrypted(payload, next_header), port)
        if next_header != _ESP:
            return self.drop("not_protected")
        opened = self._opened(payload)
        if opened is None:
            return self.drop("not_authentic")
        return self._replace(packet, start, opened[0], opened[1], port)

    def _encrypted(self, payload: bytes, next_header: int) -> bytes:
        sequence = self._counts["sequence"] = self._counts["sequence"] + 1 & 0xFFFF_FFFF
        pad = -(len(payload) + 2) & 15
        iv = os.urandom(16)
        text = Cipher(self._aes, modes.CBC(iv)).encryptor()
        sealed = b"".join(
            (
                self._spi,
                sequence.to_bytes(4, "big"),
                iv,
                text.update(payload + _PADDING[:pad] + bytes((pad, next_header))),
            )
        )
        mac = self._mac.copy()
        mac.update(sealed)
        return sealed + mac.finalize()[:16]

    def _opened(self, sealed: bytes) -> tuple[int, bytes] | None:
        """(next header, payload); None when it is not of this association, or changed on its way."""
        if len(sealed) < 56 or len(sealed) & 15 != 8 or sealed[:4] != self._spi:
            return None
        mac = self._mac.copy()
        mac.update(sealed[:-16])
        if not bytes_eq(mac.finalize()[:16], sealed[-16:]):
            return None
        plain = Cipher(self._aes, modes.CBC(sealed[8:24])).decryptor().update(sealed[24:-16])
        pad, next_header = plain[-2], plain[-1]
        end = len(plain) - 2 - pad
        if end < 0 or plain[end:-2] != bytes(range(1, pad + 1)):
            return None
        return next_header, plain[:end]

    def _replace(
        self, packet: PacketView, start: int, next_header: int, payload: bytes, port: str
    ) -> str | None:
        data, l3 = packet.data, packet.l3
        head = data[:start]
        if packet.version == 4:
            length = start - l3 + len(payload)
            change = delta16(head[l3 + 2] << 8 | head[l3 + 3], length)
            change += delta16(head[l3 + 9], next_header)
            head[l3 + 2 : l3 + 4] = length.to_bytes(2, "big")
            head[l3 + 9] = next_header
            checksum = update(head[l3 + 10] << 8 | head[l3 + 11], change)
            head[l3 + 10 : l3 + 12] = checksum.to_bytes(2, "big")
        else:
            head[l3 + 4 : l3 + 6] = len(payload).to_bytes(2, "big")
            head[l3 + 6] = next_header
        if not packet.load(bytes(head) + payload):
            return self.drop("malformed")
        return OTHER[port]


def _read_key(config: Fields) -> bytes:
    """The key, or with a problem noted one of zeros that is never used."""
    key = b""
    if config.has("key_file") == config.has("key_environment"):
        config.problem("key_file", "give key_file or key_environment, one of them")
    elif config.has("key_file"):
        path = config.text("key_file")
        try:
            key = bytes.fromhex(read_small(Path(path), path).decode("ascii"))
        except InputError as error:
            config.problem("key_file", f"{error}: the key cannot be read")
        except ValueError:
            config.problem("key_file", f"{path} is not hexadecimal text")
    else:
        name = config.text("key_environment")
        try:
            key = bytes.fromhex(os.environ.get(name, ""))
        except ValueError:
            config.problem("key_environment", f"${name} is not hexadecimal text")
    if len(key) not in _KEY_BYTES:
        sizes = ", ".join(map(str, _KEY_BYTES))
        config.problem("", f"the key has {len(key)} bytes; valid are {sizes} (AES, then HMAC)")
        return bytes(_KEY_BYTES[0])
    return key
