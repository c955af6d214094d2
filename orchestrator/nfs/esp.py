"""What aes_encrypt and aes_decrypt share: their config and the reference semantics of ESP.

ESP in transport mode (RFC 4303) with AES-CBC (RFC 3602) and HMAC-SHA-256-128 (RFC 4868), keyed by hand.
Keys never are in a graph: it says where they lie.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Self

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from pydantic import Field, field_validator, model_validator

from orchestrator.errors import InputError
from orchestrator.files import read_small
from orchestrator.model.checksums import updated_checksum
from orchestrator.model.elements import (
    DROP,
    ElementGraph,
    FilterProgram,
    FilterRule,
    Relation,
)
from orchestrator.model.match import Match
from orchestrator.model.packet import Packet
from orchestrator.nfs.base import Environment, NetworkFunction, NfConfig, Output, Reference
from orchestrator.nfs.files import Files
from orchestrator.nfs.inspecting import OPPOSITE, PASS, inspected, ip_rules

ESP = 50
BLOCK_BYTES = ICV_BYTES = 16
HEADER_BYTES = 8 + BLOCK_BYTES
KEY_BYTES = (48, 56, 64)
"""AES-128, -192 or -256, and 32 bytes for the authentication."""
MIN_REPLAY_WINDOW, MAX_REPLAY_WINDOW = 32, 4096
MAX_SENDERS = 64
LAST_SEQUENCE = (1 << 32) - 1


class EspConfig(NfConfig):
    """Where the key lies on every server, as hexadecimal text; one of the two."""

    key_file: str | None = None
    key_environment: Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    spi: Annotated[int, Field(ge=256, lt=1 << 32, strict=True)]
    mtu: Annotated[int, Field(ge=576, le=65_535, strict=True)] = 1500
    replay_window: Annotated[int, Field(ge=0, le=MAX_REPLAY_WINDOW, strict=True)] = 64

    @field_validator("replay_window")
    @classmethod
    def _wide_enough(cls, size: int) -> int:
        if 0 < size < MIN_REPLAY_WINDOW:
            raise ValueError(
                f"a replay window has {MIN_REPLAY_WINDOW} to {MAX_REPLAY_WINDOW} numbers (RFC 4303, "
                f"3.4.3), or 0: none; not {size}"
            )
        return size

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if (self.key_file is None) == (self.key_environment is None):
            raise ValueError("give key_file or key_environment: where the key lies, not the key")
        return self

    def with_files(self, files: Files) -> Self:
        """The path made absolute. The key is not read: it may lie on the servers only."""
        if self.key_file is None:
            return self
        return self.model_copy(update={"key_file": str((files.base / self.key_file).resolve())})

    def read_key(self) -> bytes:
        """The key as it lies on this machine."""
        where = f"key_file {self.key_file}" if self.key_file else f"${self.key_environment}"
        try:
            text = (
                read_small(Path(self.key_file), where).decode("ascii")
                if self.key_file
                else os.environ[self.key_environment or ""]
            )
            key = bytes.fromhex(text)
        except (InputError, KeyError):
            raise InputError(f"{where}: is not here, and the key is needed") from None
        except ValueError:
            raise InputError(f"{where}: the key is not hexadecimal text") from None
        if len(key) not in KEY_BYTES:
            sizes = ", ".join(map(str, KEY_BYTES))
            raise InputError(f"{where}: the key has {len(key)} bytes; valid are {sizes}")
        return key


class EspFunction(NetworkFunction[EspConfig]):
    """An end of protected traffic: what enters `plain_port` is encrypted, the other decrypted."""

    Config = EspConfig
    relation = Relation("equal_decrypted", "IV and sequence number are each worker's own")
    keeps_state_when_changed = frozenset(
        {"spi", "mtu", "key_file", "key_environment", "replay_window"}
    )
    plain_port: ClassVar[str]

    @property
    def cipher_port(self) -> str:
        """The port of its protected side."""
        return OPPOSITE[self.plain_port]

    def elements(self, port: str) -> ElementGraph:
        left = (OPPOSITE[port],)
        if port == self.plain_port:
            select = FilterProgram(ip_rules("encrypt"), PASS)
            return inspected(("select", select), ("encrypt", "encrypts payloads"), left)
        rules = [FilterRule(Match(version=v, protocol=ESP), "decrypt", f"ESP{v}") for v in (4, 6)]
        rules += [FilterRule(Match(version=v), DROP, f"unprotected IPv{v}") for v in (4, 6)]
        select = FilterProgram(tuple(rules), PASS)
        return inspected(("select", select), ("decrypt", "decrypts payloads"), left)

    def reference(self) -> Reference:
        return EspReference(self.config, self.plain_port)

    def canonical(self, packet: Packet) -> Packet:
        opened = Esp(self.config.read_key(), self.config.spi).decrypted(packet)
        return packet if opened is None or opened.malformed else opened


class EspReference(Reference):
    """`sequence`: number of the last packet that was encrypted."""

    def __init__(self, config: EspConfig, plain_port: str) -> None:
        self._esp = Esp(config.read_key(), config.spi)
        self._mtu = config.mtu
        self._plain_port = plain_port
        self.sequence = 0
        self._sender = 0
        self._size = config.replay_window
        self._came: dict[int | None, list[int]] = {}
        """The sequence numbers that have come, by sender, the one longest unheard in front."""
        self._latest_forgotten = 0

    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        if not packet.version:
            return ((OPPOSITE[port], packet),)
        if packet.later_fragment or packet.more_fragments or packet.layout.fragment:
            return ()
        if port == self._plain_port:
            self._sender = self._sender or env.random.randrange(1, 1 << 61)
            made = self._encrypted(packet)
        else:
            made = self._esp.decrypted(packet) if self._is_new(packet) else None
        return () if made is None or made.malformed else ((OPPOSITE[port], made),)

    def _encrypted(self, packet: Packet) -> Packet | None:
        if self.sequence == LAST_SEQUENCE:  # RFC 4303, 3.3.3
            return None
        made = self._esp.encrypted(packet, self._sender, self.sequence + 1)
        if made.layout.end - made.layout.l3 > self._mtu:
            return None
        self.sequence += 1
        return made

    def _is_new(self, packet: Packet) -> bool:
        """RFC 4303, 3.4.3: authentic, not seen before and not behind the sender's window."""
        sent = self._esp.sender_and_sequence(packet)
        if sent is None or self._size == 0:
            return sent is not None
        sender, number = sent
        came = self._came.pop(sender, None)
        if came is None:
            if sender is not None and sender <= self._latest_forgotten:
                return False
            came = []
        self._came[sender] = came
        if len(self._came) > MAX_SENDERS:
            gone = next(iter(self._came))
            del self._came[gone]
            self._latest_forgotten = max(self._latest_forgotten, -1 if gone is None else gone)
        highest = max(came, default=0)
        if number in came or number == 0 or number <= highest - self._size:
            return False
        came.append(number)
        came[:] = [n for n in came if n > max(came) - self._size]
        return True


class Esp:
    """A security association."""

    def __init__(self, key: bytes, spi: int) -> None:
        self._cipher_key, self._authentication_key = key[:-32], key[-32:]
        self._spi = spi.to_bytes(4, "big")

    def encrypted(self, packet: Packet, sender: int, sequence: int) -> Packet:
        """The packet with its IP payload encrypted; the IV is an encrypted nonce."""
        nonce = bytes(4) + sender.to_bytes(8, "big") + sequence.to_bytes(4, "big")
        iv = Cipher(algorithms.AES(self._cipher_key), modes.ECB()).encryptor().update(nonce)
        next_header, payload = _payload(packet)
        padding = -(len(payload) + 2) % BLOCK_BYTES
        plain = payload + bytes(range(1, padding + 1)) + bytes((padding, next_header))
        encryptor = Cipher(algorithms.AES(self._cipher_key), modes.CBC(iv)).encryptor()
        esp = self._spi + sequence.to_bytes(4, "big") + iv + encryptor.update(plain)
        return _with_payload(packet, ESP, esp + self._icv(esp))

    def decrypted(self, packet: Packet) -> Packet | None:
        """The packet as it was; None when it is not ours or was tampered with."""
        opened = self._opened(packet) if packet.version else None
        if opened is None:
            return None
        padding, next_header = opened[-2:]
        payload = opened[: -2 - padding]
        if padding > len(opened) - 2 or opened[len(payload) : -2] != bytes(range(1, padding + 1)):
            return None
        return _with_payload(packet, next_header, payload)

    def sender_and_sequence(self, packet: Packet) -> tuple[int | None, int] | None:
        """Whose packet it is, if its IV is an encrypted nonce that tells, and its number.

        None when it is not authentic.
        """
        if not packet.version or self._opened(packet) is None:
            return None
        _, esp = _payload(packet)
        decryptor = Cipher(algorithms.AES(self._cipher_key), modes.ECB()).decryptor()
        nonce = decryptor.update(esp[8:HEADER_BYTES])
        number = int.from_bytes(esp[4:8], "big")
        if int.from_bytes(nonce[:4], "big") or int.from_bytes(nonce[12:], "big") != number:
            return None, number
        return int.from_bytes(nonce[4:12], "big"), number

    def _opened(self, packet: Packet) -> bytes | None:
        """The plain text with its trailer."""
        next_header, esp = _payload(packet)
        size = len(esp) - HEADER_BYTES - ICV_BYTES
        if next_header != ESP or esp[:4] != self._spi or size <= 0 or size % BLOCK_BYTES:
            return None
        body, icv = esp[:-ICV_BYTES], esp[-ICV_BYTES:]
        if not hmac.compare_digest(self._icv(body), icv):
            return None
        iv, text = body[8:HEADER_BYTES], body[HEADER_BYTES:]
        return Cipher(algorithms.AES(self._cipher_key), modes.CBC(iv)).decryptor().update(text)

    def _icv(self, esp: bytes) -> bytes:
        return hmac.digest(self._authentication_key, esp, hashlib.sha256)[:ICV_BYTES]


def _payload(packet: Packet) -> tuple[int, bytes]:
    """(next header, what follows the IPv4 header with options or the IPv6 fixed header)."""
    at = packet.layout
    if packet.version == 4:
        return packet.data[at.l3 + 9], bytes(packet.data[at.l4 : at.end])
    return packet.data[at.l3 + 6], bytes(packet.data[at.l3 + 40 : at.end])


def _with_payload(packet: Packet, next_header: int, payload: bytes) -> Packet:
    """The packet with another payload, without padding behind it; the IPv4 checksum is updated."""
    at = packet.layout
    head = bytearray(packet.data[: at.l4 if packet.version == 4 else at.l3 + 40])
    if packet.version == 6:
        head[at.l3 + 4 : at.l3 + 6] = len(payload).to_bytes(2, "big")
        head[at.l3 + 6] = next_header
        return Packet.parse(bytes(head) + payload)
    length = len(head) - at.l3 + len(payload)
    new = {2: length, 8: head[at.l3 + 8] << 8 | next_header}
    words = [(int.from_bytes(head[at.l3 + o : at.l3 + o + 2], "big"), w) for o, w in new.items()]
    checksum = int.from_bytes(head[at.l3 + 10 : at.l3 + 12], "big")
    for offset, word in {**new, 10: updated_checksum(checksum, words)}.items():
        head[at.l3 + offset : at.l3 + offset + 2] = word.to_bytes(2, "big")
    return Packet.parse(bytes(head) + payload)
