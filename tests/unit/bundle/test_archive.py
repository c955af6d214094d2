"""A bundle's zip file: bombs and odd members are refused before they are unpacked."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest

from orchestrator.bundle import archive
from orchestrator.errors import InputError


def packed(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return out.getvalue()


def refused(data: bytes) -> str:
    with pytest.raises(InputError, match=r"^x: not a bundle \(") as caught:
        archive.unpack(data, "x")
    assert len(str(caught.value)) < 1000
    return str(caught.value)


def test_round_trip() -> None:
    members = {"manifest.json": b"{}", "programs/leaf1.entries.bin": b"\0" * 1000}
    assert archive.unpack(archive.pack(members), "x") == members
    assert archive.pack(members) == archive.pack(dict(members))


def test_a_bomb_is_not_unpacked() -> None:
    """100 MB from 100 kB; the sizes that it admits to are looked at, so nothing is unpacked."""
    data = packed({f"programs/s{i}.entries.bin": bytes(10 << 20) for i in range(10)})
    assert len(data) < 200_000
    assert "104,857,600 bytes unpacked" in refused(data)


def test_one_that_lies_about_its_size() -> None:
    """The local and the central size say 10 bytes; no more are read, and the checksum tells."""
    data = bytearray(packed({"plan.json": bytes(1 << 20)}))
    size = struct.pack("<L", 1 << 20)
    while (at := data.find(size)) >= 0:
        data[at : at + 4] = struct.pack("<L", 10)
    refused(bytes(data))


@pytest.mark.parametrize(
    "name",
    [
        "../etc/passwd",
        "/etc/passwd",
        "programs/../x",
        "a" * 500,
        "x\x1b[2J",
        "A",
        "a/b/c",
        "a\\b",
    ],
)
def test_names_of_members(name: str) -> None:
    refused(packed({name: b"x"}))


def test_a_member_twice() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("plan.json", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("plan.json", b"2")
    assert "member plan.json is there twice" in refused(out.getvalue())


def test_other_methods() -> None:
    assert "in another way than deflate" in refused(packed({"plan.json": b"x"}, zipfile.ZIP_BZIP2))


def test_a_directory_of_many_members_is_not_parsed() -> None:
    data = bytearray(packed({"plan.json": b"x"}))
    end = struct.Struct("<4s4H2LH")
    fields = list(end.unpack_from(data, len(data) - end.size))
    fields[5] = 200 << 20
    end.pack_into(data, len(data) - end.size, *fields)
    assert "more than 16,384 members" in refused(bytes(data))


def test_one_of_64_bits() -> None:
    data = packed({"plan.json": b"x"})
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1)
    assert "64-bit kind" in refused(data[:-22] + locator + data[-22:])
