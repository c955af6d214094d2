"""ClassBench filter sets: `@src dst low : high low : high protocol/mask [flags/mask]` a line.

(Taylor and Turner, ClassBench, INFOCOM 2005.) Addresses are IPv4. The 16 bits of the last column are,
for TCP, its flags in the upper byte: 0x1000/0x1000 asks for ACK, 0x0000/0x0200 for no SYN; for ICMP,
type and code: 0x0800/0xff00 asks for echo requests.
"""

from __future__ import annotations

import re
from functools import lru_cache

from orchestrator.errors import quoted
from orchestrator.model.match import Match, PortRange, Prefix
from orchestrator.nfs.values import parse_prefix


class _At(ValueError):
    """A problem at a column (from 1)."""

    def __init__(self, column: int, text: str) -> None:
        super().__init__(text)
        self.column = column


_PORTS = re.compile(r"(\d+)\s*:\s*(\d+)(?=\s|$)")
_BYTE_MASK = re.compile(r"0x([0-9a-fA-F]{1,2})/0x([0-9a-fA-F]{1,2})(?=\s|$)")
_WORD_MASK = re.compile(r"0x([0-9a-fA-F]{1,4})/0x([0-9a-fA-F]{1,4})(?=\s|$)")
_PREFIX = re.compile(r"\S+")
_ICMP = 1
_BLANK = re.compile(r"\s*")
_COLUMNS = (
    ("source prefix", _PREFIX, "10.0.0.0/8"),
    ("destination prefix", _PREFIX, "10.0.0.0/8"),
    ("source port range", _PORTS, "0 : 65535"),
    ("destination port range", _PORTS, "0 : 65535"),
    ("protocol/mask", _BYTE_MASK, "0x06/0xFF"),
    ("flags/mask", _WORD_MASK, "0x0000/0x0200"),
)


@lru_cache(1 << 16)
def parse_rule(line: str) -> Match | None:
    """The match of one line; None for an empty line or a comment; ValueError with `column`.

    A file that is read again, with a rule changed, gives the same objects for the other lines.
    """
    text = line.rstrip()
    if not text or text.lstrip().startswith("#"):
        return None
    if not text.startswith("@"):
        raise _At(1, "a ClassBench rule begins with '@'")
    at = 1
    fields: list[tuple[int, re.Match[str]]] = []
    for name, pattern, example in _COLUMNS:
        at = _end(_BLANK, text, at)
        if at == len(text) and len(fields) == 5:
            break
        match = pattern.match(text, at)
        if match is None:
            got = f"'{text[at:].split(None, 1)[0]}'" if at < len(text) else "the end of the line"
            raise _At(at + 1, f"expected a {name} like '{example}', found {got}")
        fields.append((at + 1, match))
        at = match.end()
    at = _end(_BLANK, text, at)
    if at < len(text):
        raise _At(at + 1, f"unexpected '{text[at:]}' behind the rule")

    src, dst = (_prefix(column, match.group()) for column, match in fields[:2])
    src_port, dst_port = (_ports(column, match) for column, match in fields[2:4])
    column, match = fields[4]
    protocol, mask = int(match[1], 16), int(match[2], 16)
    if mask not in (0, 0xFF):
        raise _At(column, f"protocol mask {mask:#04x}: only 0xFF and 0x00 can be matched")
    flags = icmp_type = icmp_code = None
    if len(fields) == 6:
        column, match = fields[5]
        value, flag_mask = int(match[1], 16), int(match[2], 16)
        if mask and protocol == _ICMP:
            if any(byte not in (0, 0xFF) for byte in (flag_mask >> 8, flag_mask & 0xFF)):
                raise _At(
                    column,
                    f"flags mask {flag_mask:#06x}: of ICMP only the whole type (0xff00), the whole "
                    "code (0x00ff) or both can be matched",
                )
            icmp_type = value >> 8 if flag_mask >> 8 else None
            icmp_code = value & 0xFF if flag_mask & 0xFF else None
            flag_mask = 0
        if flag_mask & 0xFF:
            raise _At(
                column, f"flags mask {flag_mask:#06x}: only TCP flags (0xff00) can be matched"
            )
        if flag_mask and mask and protocol != 6:
            raise _At(column, f"flags of protocol {protocol}: only TCP (and ICMP) have them")
        if flag_mask:
            flags = (value & flag_mask) >> 8, flag_mask >> 8
    return Match(
        version=4,
        src=src if src.length else None,
        dst=dst if dst.length else None,
        protocol=protocol if mask else None,
        src_port=src_port,
        dst_port=dst_port,
        tcp_flags=flags,
        icmp_type=icmp_type,
        icmp_code=icmp_code,
    )


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _prefix(column: int, text: str) -> Prefix:
    try:
        prefix = parse_prefix(text, strict=False)
    except ValueError as error:
        raise _At(column, str(error)) from None
    if prefix.version != 4:
        raise _At(column, f"{quoted(text)}: ClassBench rules are IPv4")
    return prefix


def _ports(column: int, match: re.Match[str]) -> PortRange | None:
    """None for the whole range: it asks nothing, not even for ports."""
    low, high = int(match[1]), int(match[2])
    if high > 65535 or low > high:
        raise _At(column, f"'{match.group()}' is not a range of ports (0 : 65535)")
    return None if (low, high) == (0, 65535) else PortRange(low, high)
