"""The zip file of a bundle, looked at before it is unpacked: whoever made it is a stranger.

What it says of itself bounds what is read: how many members there are, what they are called, and how
large they will be, together and for what they take in the file.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping

from orchestrator.errors import InputError

MAGIC = b"PK"
"""What every bundle begins with, and no graph does."""
MAX_FILE_BYTES = 256 << 20
MAX_BYTES = 1 << 30
"""Of all members together, unpacked."""
MAX_MEMBERS = 1 << 14
MAX_NAME = 160
MAX_RATIO = 200
"""Entries of the same kind are packed to a fiftieth; deflate itself could do a thousandth."""
_FREE_BYTES = 64 << 20
"""Unpacked sizes below this may have any ratio: a tiny bundle packs well."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*(/[a-zA-Z0-9][a-zA-Z0-9_.-]*)?")
_END = struct.Struct("<4s4H2LH")
"""End of central directory record (APPNOTE 4.3.16), without a comment."""
_END_MARK, _ZIP64_MARK = b"PK\5\6", b"PK\6\7"
_ZIP64_BYTES = 20
_HEADER_BYTES = 46
"""Of a member in the central directory, besides its name."""


def pack(members: Mapping[str, bytes | bytearray]) -> bytes:
    """The members as a zip file: equal ones give equal bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def unpack(data: bytes, source: str) -> dict[str, bytes]:
    """The members of a zip file; InputError when it is none, or larger than a bundle may be."""
    try:
        _check_directory(data)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            _check_members(members, len(data))
            return {member.filename: archive.read(member) for member in members}
    # A damaged archive may also seem to be encrypted, of another method, or to end early.
    except (
        *(zipfile.BadZipFile, zlib.error, struct.error),
        *(RuntimeError, OSError, EOFError, ValueError, OverflowError),
    ) as error:
        raise InputError(f"{source}: not a bundle ({error})") from error


def _check_directory(data: bytes) -> None:
    """The table of members is parsed whole by whoever opens the file, so its size comes first."""
    at = len(data) - _END.size
    if at < 0 or data[at : at + 4] != _END_MARK:
        raise ValueError("it does not end as a zip file")
    if data[max(0, at - _ZIP64_BYTES) : at].startswith(_ZIP64_MARK):
        raise ValueError("it is of the 64-bit kind, larger than a bundle may be")
    size = _END.unpack_from(data, at)[5]
    if size > MAX_MEMBERS * (_HEADER_BYTES + MAX_NAME):
        raise ValueError(f"it has more than {MAX_MEMBERS:,} members")


def _check_members(members: list[zipfile.ZipInfo], file_bytes: int) -> None:
    if len(members) > MAX_MEMBERS:
        raise ValueError(f"it has {len(members):,} members; at most {MAX_MEMBERS:,} are read")
    seen: set[str] = set()
    for member in members:
        name = member.filename
        if len(name) > MAX_NAME or not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a bundle's member")
        if name in seen:
            raise ValueError(f"member {name} is there twice")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"member {name} is packed in another way than deflate")
        seen.add(name)
    total = sum(member.file_size for member in members)
    most = min(MAX_BYTES, max(_FREE_BYTES, MAX_RATIO * file_bytes))
    if total > most:
        raise ValueError(
            f"its members are {total:,} bytes unpacked; of a file of {file_bytes:,} bytes at most "
            f"{most:,} are read"
        )
