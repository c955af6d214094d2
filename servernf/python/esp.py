"""An end of ESP in transport mode (RFC 4303): AES-CBC (RFC 3602), then HMAC-SHA-256-128 (RFC 4868).

Keyed by hand. Fragments cannot be protected (RFC 4303, 3.3.4) and are dropped; so is what would exceed
the MTU. The key is read from where the configuration says, and nothing prints it.

Several workers may send by one association, and one that starts anew numbers from 1 again, so a
receiver has a replay window (RFC 4303, 3.4.3) for each sender: the IV, an encrypted nonce (NIST SP
800-38A, C), says which one it is. Senders whose IVs say nothing (others' are random) share a window.
"""

from __future__ import annotations

import os
import struct
import time
from collections import OrderedDict
from hashlib import blake2b
from typing import ClassVar

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from servernf.python.checksum import delta16, update
from servernf.python.keys import read_key_file
from servernf.python.network_function import OTHER, NetworkFunction
from servernf.python.packet import IPV6_FRAGMENT, PacketView
from servernf.python.state import TableKind
from servernf.python.tables import Fixed
from servernf.wire.errors import InputError
from servernf.wire.fields import Fields
from servernf.wire.state import RecordField

_ESP = 50
_AUTHENTICATION_BYTES = 32
KEY_BYTES = (16 + 32, 24 + 32, 32 + 32)
_PADDING = bytes(range(1, 16))
_LAST_SEQUENCE = 0xFFFF_FFFF
_MIN_WINDOW, _MAX_WINDOW = 32, 4096
_MAX_SENDERS = 64
_UNKNOWN = -1
"""The sender of packets whose IV says nothing."""


class Window:
    """Which of the latest sequence numbers have come (RFC 4303, A2)."""

    __slots__ = ("_highest", "_seen")

    def __init__(self, highest: int = 0, seen: int = 0) -> None:
        self._highest = highest
        self._seen = seen
        """Bit n: the number n below the highest."""

    def written(self) -> bytes:
        """Highest (u32), then the seen ones."""
        size = (self._seen.bit_length() + 7) // 8
        return self._highest.to_bytes(4, "big") + self._seen.to_bytes(size, "big")

    def takes(self, sequence: int, size: int) -> bool:
        """Whether a number is new and not too old; then it has come."""
        behind = self._highest - sequence
        if behind < 0:
            self._highest = sequence
            self._seen = (self._seen << min(-behind, size) | 1) & ((1 << size) - 1)
            return True
        if behind >= size or not sequence or self._seen >> behind & 1:
            return False
        self._seen |= 1 << behind
        return True


class _Association:
    """What a key and an SPI have been used for."""

    __slots__ = ("forgotten", "sender", "sequence", "windows")

    def __init__(self) -> None:
        self.sequence = 0
        self.sender = (time.time_ns() // 1000 << 10) + int.from_bytes(os.urandom(2), "big") % 1024
        """Later ones have higher numbers; below 2^64."""
        self.windows: OrderedDict[int, Window] = OrderedDict()
        """By sender, the one longest unheard in front."""
        self.forgotten = 0
        """The latest sender whose window is kept no more."""

    @property
    def written_windows(self) -> list[bytes]:
        """Sender (i64), then its window; the one longest unheard in front."""
        return [_SENDER.pack(sender) + w.written() for sender, w in self.windows.items()]

    @written_windows.setter
    def written_windows(self, written: list[bytes]) -> None:
        self.windows = OrderedDict()
        for raw in written:
            if not _SENDER.size + 4 <= len(raw) <= _SENDER.size + 4 + _MAX_WINDOW // 8:
                raise InputError(f"state of associations: a window has {len(raw)} bytes")
            highest, seen = raw[_SENDER.size : _SENDER.size + 4], raw[_SENDER.size + 4 :]
            window = Window(int.from_bytes(highest, "big"), int.from_bytes(seen, "big"))
            self.windows[_SENDER.unpack_from(raw)[0]] = window

    def takes(self, sender: int, sequence: int, size: int) -> bool:
        """Whether a packet that is authentic is new."""
        window = self.windows.get(sender)
        if window is None:
            if 0 <= sender <= self.forgotten:
                return False
            window = self.windows[sender] = Window()
            while len(self.windows) > _MAX_SENDERS:
                self.forgotten = max(self.forgotten, self.windows.popitem(last=False)[0])
        self.windows.move_to_end(sender)
        return window.takes(sequence, size)


_SENDER = struct.Struct("!q")
_ASSOCIATIONS = TableKind(
    "associations",
    _Association,
    (
        RecordField("sequence", "u32"),
        RecordField("sender", "i64"),
        RecordField("forgotten", "i64"),
        RecordField("windows", "list", _MAX_SENDERS),
    ),
    key=(RecordField("spi", "bytes", 4), RecordField("key_digest", "bytes", 16)),
    paths={"windows": "written_windows"},
)


class EspEnd(NetworkFunction):
    """Encrypts what enters `plain_port`, decrypts what enters the other; what is not IP passes."""

    plain_port: ClassVar[str]
    _associations: Fixed[tuple[bytes, bytes], _Association]
    """The one that there is. A sequence number is never used twice in it; another one begins anew."""

    def setup(self, config: Fields) -> None:
        self._spi = config.integer("spi", 256, 0xFFFF_FFFF).to_bytes(4, "big")
        self._mtu = config.integer("mtu", 576, 65_535, 1500)
        key = _read_key(config)
        self._aes = algorithms.AES(key[:-_AUTHENTICATION_BYTES])
        self._mac = HMAC(key[-_AUTHENTICATION_BYTES:], SHA256())
        self._window = config.integer("replay_window", 0, _MAX_WINDOW, 64)
        if 0 < self._window < _MIN_WINDOW:
            config.problem("replay_window", f"must be 0 (off) or from {_MIN_WINDOW} on")
        digest = blake2b(key, digest_size=16, person=b"association").digest()
        self._name = self._spi, digest
        self.state.declare("_associations", _ASSOCIATIONS, Fixed([(self._name, _Association())]))

    def bound(self) -> None:
        association = self._associations.get(self._name)
        assert association is not None
        self._association = association

    def metrics(self) -> dict[str, int]:
        association = self._association
        return {"sequence": association.sequence, "senders": len(association.windows)}

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
            if self._association.sequence == _LAST_SEQUENCE:
                return self.drop("sequence_exhausted")  # RFC 4303, 3.3.3: another key is needed
            return self._replace(packet, start, _ESP, self._encrypted(payload, next_header), port)
        if next_header != _ESP:
            return self.drop("not_protected")
        opened = self._opened(payload)
        if opened is None:
            return self.drop("not_authentic")
        if self._window and not self._is_new(payload):
            return self.drop("replayed")
        return self._replace(packet, start, opened[0], opened[1], port)

    def _encrypted(self, payload: bytes, next_header: int) -> bytes:
        association = self._association
        sequence = association.sequence = association.sequence + 1
        pad = -(len(payload) + 2) & 15
        nonce = bytes(4) + association.sender.to_bytes(8, "big") + sequence.to_bytes(4, "big")
        iv = Cipher(self._aes, modes.ECB()).encryptor().update(nonce)
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

    def _is_new(self, sealed: bytes) -> bool:
        """Whether an authentic packet has not come before, as far as the window tells."""
        sequence = sealed[4:8]
        nonce = Cipher(self._aes, modes.ECB()).decryptor().update(sealed[8:24])
        told = nonce[:4] == bytes(4) and nonce[12:] == sequence
        sender = int.from_bytes(nonce[4:12], "big") if told else _UNKNOWN
        number = int.from_bytes(sequence, "big")
        return self._association.takes(sender, number, self._window)

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
            key = read_key_file(path)
        except OSError as error:
            config.problem("key_file", f"{path} cannot be read: {error.strerror}")
            return bytes(KEY_BYTES[0])
        except ValueError:
            sizes = ", ".join(map(str, KEY_BYTES))
            config.problem(
                "key_file", f"{path} holds no key: {sizes} bytes (AES, then HMAC) in hexadecimal"
            )
            return bytes(KEY_BYTES[0])
    else:
        name = config.text("key_environment")
        try:
            key = bytes.fromhex(os.environ.get(name, ""))
        except ValueError:
            config.problem("key_environment", f"${name} is not hexadecimal text")
    if len(key) not in KEY_BYTES:
        sizes = ", ".join(map(str, KEY_BYTES))
        config.problem("", f"the key has {len(key)} bytes; valid are {sizes} (AES, then HMAC)")
        return bytes(KEY_BYTES[0])
    return key
