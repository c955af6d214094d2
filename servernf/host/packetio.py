"""Raw Ethernet on a Linux interface in batches: AF_PACKET with recvmmsg/sendmmsg.

`PacketSocket` reads and writes whole frames, many a system call, through ctypes
(the standard library wraps neither call). The kernel takes an 802.1Q tag off a
received frame and reports it beside the data (PACKET_AUXDATA); it is put back
before a frame is handed out. Frames that this host sends are not read back
(PACKET_IGNORE_OUTGOING, Linux 4.20).

Needs CAP_NET_RAW. A socket belongs to one thread at a time: its buffers are
shared between calls.

Sources: packet(7), recvmmsg(2), sendmmsg(2), linux/if_packet.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import sys
import threading
from collections.abc import Sequence
from types import TracebackType

ETH_P_ALL = 0x0003
SOL_PACKET = 263
PACKET_ADD_MEMBERSHIP = 1
PACKET_STATISTICS = 6
PACKET_AUXDATA = 8
PACKET_IGNORE_OUTGOING = 23
PACKET_MR_PROMISC = 1
SO_RCVBUFFORCE = 33
SO_SNDBUFFORCE = 32
SO_MEMINFO = 55
TP_STATUS_VLAN_VALID = 1 << 4
TP_STATUS_VLAN_TPID_VALID = 1 << 6

_RETRY = (errno.EAGAIN, errno.EINTR)
# What a full device queue or a link going down answers: the frame is lost, the port is not.
_DROPPED = (errno.ENOBUFS, errno.ENETDOWN, errno.ENXIO, errno.EMSGSIZE, errno.EIO, errno.ENODEV)


class _Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


class _Msghdr(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.POINTER(_Iovec)),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class _Mmsghdr(ctypes.Structure):
    _fields_ = [("hdr", _Msghdr), ("len", ctypes.c_uint32)]


_CONTROL = 64
"""Bytes of control buffer a message: cmsghdr (16) and tpacket_auxdata (20), rounded up."""

_libc = ctypes.CDLL(None, use_errno=True)
_recvmmsg = _libc.recvmmsg
_sendmmsg = _libc.sendmmsg
for _call in (_recvmmsg, _sendmmsg):
    _call.restype = ctypes.c_int
_recvmmsg.argtypes = (
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_uint,
    ctypes.c_int,
    ctypes.c_void_p,
)
_sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)


def overflowed(port: socket.socket) -> int:
    """Frames that an AF_PACKET socket's queue had no room for since this was last asked.

    tp_drops of struct tpacket_stats (packet(7), PACKET_STATISTICS).
    """
    try:
        statistics = port.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
    except OSError:  # closed meanwhile
        return 0
    return int.from_bytes(statistics[4:8], sys.byteorder)


class PacketSocket:
    """A raw socket bound to one interface.

    `batch` frames at most a system call, `snaplen` bytes a frame (longer ones
    are dropped and counted), `rcvbuf` bytes of kernel queue.
    """

    def __init__(
        self,
        ifname: str,
        *,
        batch: int = 64,
        promiscuous: bool = True,
        snaplen: int = 65_536,
        rcvbuf: int = 4 << 20,
    ) -> None:
        if batch < 1:
            raise ValueError(f"{ifname}: batch must be at least 1, not {batch}")
        self.ifname = ifname
        self.batch = batch
        self.sent = 0
        self.received = 0
        self.dropped = 0
        """Frames that the kernel did not take for sending: the device's queue was full, no link."""
        self.truncated = 0
        self._overflowed = 0
        self._statistics = threading.Lock()
        index = socket.if_nametoindex(ifname)
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        try:
            self._configure(index, promiscuous, rcvbuf)
        except OSError:
            self._socket.close()
            raise
        self._fd = self._socket.fileno()
        self._snaplen = snaplen
        self._buffer = bytearray(snaplen * batch)
        self._view = memoryview(self._buffer)
        self._control = bytearray(_CONTROL * batch)
        self._make_receive()
        self._make_send()

    def _configure(self, index: int, promiscuous: bool, rcvbuf: int) -> None:
        s = self._socket
        for forced, plain in (
            (SO_RCVBUFFORCE, socket.SO_RCVBUF),
            (SO_SNDBUFFORCE, socket.SO_SNDBUF),
        ):
            try:
                s.setsockopt(socket.SOL_SOCKET, forced, rcvbuf)
            except OSError:
                s.setsockopt(socket.SOL_SOCKET, plain, rcvbuf)
        s.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        try:
            s.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            self._ignores_outgoing = True
        except OSError:
            self._ignores_outgoing = False
        if promiscuous:
            # struct packet_mreq: ifindex, type, address length, address
            mreq = index.to_bytes(4, "little") + PACKET_MR_PROMISC.to_bytes(2, "little") + bytes(10)
            s.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, mreq)
        # Made with protocol 0 and bound last: nothing of another interface is queued before.
        s.bind((self.ifname, ETH_P_ALL))

    def _make_receive(self) -> None:
        n = self.batch
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._buffer))
        control = ctypes.addressof(ctypes.c_char.from_buffer(self._control))
        self._iovecs = (_Iovec * n)()
        self._messages = (_Mmsghdr * n)()
        # struct sockaddr_ll (20 bytes): only kept to know outgoing frames on old kernels.
        self._names = (ctypes.c_uint8 * (32 * n))()
        names = ctypes.addressof(self._names)
        for i in range(n):
            self._iovecs[i].base = base + i * self._snaplen
            self._iovecs[i].len = self._snaplen
            hdr = self._messages[i].hdr
            hdr.iov = ctypes.pointer(self._iovecs[i])
            hdr.iovlen = 1
            hdr.control = control + i * _CONTROL
            hdr.controllen = _CONTROL
            hdr.name = None if self._ignores_outgoing else names + 32 * i
            hdr.namelen = 0 if self._ignores_outgoing else 32
        self._messages_at = ctypes.addressof(self._messages)
        # The kernel writes length, flags and control length back; reading them
        # through one view is several times faster than ctypes attributes.
        self._words = memoryview(self._messages).cast("B").cast("I")
        self._stride = ctypes.sizeof(_Mmsghdr) // 4
        self._len_word = _Mmsghdr.len.offset // 4
        self._flags_word = _Msghdr.flags.offset // 4
        self._control_word = _Msghdr.controllen.offset // 4
        self._control_words = memoryview(self._control).cast("I")
        self._control_shorts = memoryview(self._control).cast("H")

    def _make_send(self) -> None:
        n = self.batch
        self._out_frames = (ctypes.c_char_p * n)()
        self._out_iovecs = (_Iovec * n)()
        self._out_messages = (_Mmsghdr * n)()
        for i in range(n):
            hdr = self._out_messages[i].hdr
            hdr.iov = ctypes.pointer(self._out_iovecs[i])
            hdr.iovlen = 1
        self._out_at = ctypes.addressof(self._out_messages)
        self._out_size = ctypes.sizeof(_Mmsghdr)
        pointers = memoryview(self._out_frames).cast("B").cast("Q")
        self._out_pointers = pointers
        # iovec is (base, len): two 64-bit words.
        self._out_words = memoryview(self._out_iovecs).cast("B").cast("Q")

    def fileno(self) -> int:
        return self._fd

    def recv_batch(self) -> list[bytes]:
        """Frames waiting, at most `batch`; empty when there are none. Never blocks."""
        got = _recvmmsg(self._fd, self._messages_at, self.batch, socket.MSG_TRUNC, None)
        if got <= 0:
            if got < 0:
                code = ctypes.get_errno()
                # ENETDOWN is reported once when the link goes down; the socket stays good.
                if code not in _RETRY and code not in _DROPPED:
                    raise OSError(code, f"{self.ifname}: recvmmsg: {os.strerror(code)}")
            return []
        frames: list[bytes] = []
        words, stride, view, snaplen = self._words, self._stride, self._view, self._snaplen
        control = self._control_words
        base = 0
        at = 0
        for i in range(got):
            length = words[at + self._len_word]
            words[at + self._control_word] = _CONTROL
            if not self._ignores_outgoing:
                words[at + 2] = 32
                if self._names[32 * i + 10] == 4:  # PACKET_OUTGOING
                    at += stride
                    base += snaplen
                    continue
            if length > snaplen:
                self.truncated += 1
            else:
                frame = bytes(view[base : base + length])
                # cmsghdr is len (8), level (4), type (4); tpacket_auxdata then has
                # status (4), len, snaplen, mac+net (2+2), vlan_tci (2), vlan_tpid (2).
                c = i * (_CONTROL // 4)
                status = control[c + 4]
                if status & TP_STATUS_VLAN_VALID and control[c + 3] == PACKET_AUXDATA:
                    h = (c + 8) * 2
                    tci = self._control_shorts[h]
                    tpid = (
                        self._control_shorts[h + 1]
                        if status & TP_STATUS_VLAN_TPID_VALID
                        else 0x8100
                    )
                    tag = tpid.to_bytes(2, "big") + tci.to_bytes(2, "big")
                    frame = frame[:12] + tag + frame[12:]
                frames.append(frame)
            at += stride
            base += snaplen
        self.received += len(frames)
        return frames

    def send_batch(self, frames: Sequence[bytes]) -> int:
        """Send frames in order; returns how many the kernel took, the rest is counted dropped."""
        taken = 0
        total = len(frames)
        for start in range(0, total, self.batch):
            taken += self._send(frames[start : start + self.batch])
        self.sent += taken
        self.dropped += total - taken
        return taken

    def _send(self, frames: Sequence[bytes]) -> int:
        words = self._out_words
        n = len(frames)
        self._out_frames[:n] = frames  # type: ignore[index]
        pointers = self._out_pointers
        j = 0
        for i, frame in enumerate(frames):
            words[j] = pointers[i]
            words[j + 1] = len(frame)
            j += 2
        done = taken = 0
        retries = 0
        while done < n:
            sent = _sendmmsg(self._fd, self._out_at + done * self._out_size, n - done, 0)
            if sent > 0:
                done += sent
                taken += sent
                continue
            code = ctypes.get_errno()
            if code == errno.EINTR and retries < 8:
                retries += 1
                continue
            if code in (errno.EAGAIN, errno.ENOBUFS):
                # The device queue is full: what is left of the batch is dropped, as a
                # switch port does; waiting would stop every other port.
                break
            if code in _DROPPED or code == errno.EINVAL:
                done += 1  # this frame is unsendable (too long, too short, link down)
                continue
            raise OSError(code, f"{self.ifname}: sendmmsg: {os.strerror(code)}")
        return taken

    def drops(self) -> dict[str, int]:
        """Frames dropped so far, by reason; any thread may ask."""
        with self._statistics:  # reading them sets the kernel's to 0
            self._overflowed += overflowed(self._socket)
        counts = {
            "receive_queue_full": self._overflowed,
            "send_queue_full": self.dropped,
            "too_long": self.truncated,
        }
        return {reason: count for reason, count in counts.items() if count}

    def queue(self) -> tuple[int, int] | None:
        """Bytes of memory that frames in the receive queue take, and may take; any thread may ask.

        SK_MEMINFO_RMEM_ALLOC and SK_MEMINFO_RCVBUF (linux/sock_diag.h); None: closed, or an old kernel.
        """
        try:
            return struct.unpack("=II", self._socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 8))
        except OSError:
            return None

    def clear_error(self) -> int:
        """Read and clear the socket's pending error (errno, 0 if none)."""
        return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def close(self) -> None:
        """Close the socket; further calls do nothing."""
        self._socket.close()

    def __enter__(self) -> PacketSocket:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
