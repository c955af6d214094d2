"""Network interfaces as switch ports, and the loop that moves packets.

`PortLoop` waits with epoll, so that an idle switch costs nothing, takes one
bounded batch from each ready port a turn (no port starves another), and sends
what leaves grouped by port. The switch's lock is taken once a batch.
"""

from __future__ import annotations

import os
import select
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack

from orchestrator.errors import SwitchError
from orchestrator.softswitch.switch import Frame, SoftSwitch
from servernf.host.packetio import PacketSocket

BATCH = 64


def open_ports(interfaces: Mapping[int, str], batch: int = BATCH) -> dict[int, PacketSocket]:
    """Sockets for {port number: interface}; raises SwitchError naming what is missing."""
    with ExitStack() as stack:
        out: dict[int, PacketSocket] = {}
        for number, name in interfaces.items():
            try:
                out[number] = stack.enter_context(PacketSocket(name, batch=batch))
            except PermissionError as e:
                raise SwitchError(
                    f"port {number}@{name}: raw sockets need root or CAP_NET_RAW"
                ) from e
            except OSError as e:
                reason = e.strerror or str(e)
                present = sorted(os.listdir("/sys/class/net"))
                if name not in present:
                    reason = f"no such interface (found: {', '.join(present)})"
                raise SwitchError(f"port {number}@{name}: {reason}") from e
        stack.pop_all()
        return out


class PortLoop:
    """Moves packets between sockets and a switch until `stop`."""

    def __init__(self, switch: SoftSwitch, ports: Mapping[int, PacketSocket]) -> None:
        self.switch = switch
        self.ports = dict(ports)
        self.unknown_port = 0
        self._epoll = select.epoll()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._epoll.register(self._wake_read, select.EPOLLIN)
        self._by_fd: dict[int, tuple[int, PacketSocket]] = {}
        for number, sock in self.ports.items():
            self._by_fd[sock.fileno()] = (number, sock)
            self._epoll.register(sock.fileno(), select.EPOLLIN)
        self._stopped = False
        switch.transmit = self.send

    def stop(self) -> None:
        """Make `run` return; callable from a signal handler or another thread."""
        self._stopped = True
        os.write(self._wake_write, b"\0")

    def run(self) -> None:
        switch = self.switch
        while not self._stopped:
            for fd, events in self._epoll.poll():
                readable = self._by_fd.get(fd)
                if readable is None:
                    continue
                number, sock = readable
                try:
                    frames = sock.recv_batch()
                except OSError:
                    # The interface is gone: without it in epoll the others go on.
                    self._epoll.unregister(fd)
                    continue
                if frames:
                    with switch.locked():
                        self.send(switch.process_batch(number, frames))
                elif events & select.EPOLLERR and not events & select.EPOLLIN:
                    # A link that went down raises EPOLLERR until its error is read.
                    sock.clear_error()

    def send(self, out: list[Frame]) -> None:
        """Send frames by port, order kept a port; under the switch's lock."""
        if not out:
            return
        by_port: dict[int, list[bytes]] = {}
        for number, frame in out:
            queue = by_port.get(number)
            if queue is None:
                by_port[number] = [frame]
            else:
                queue.append(frame)
        for number, frames in by_port.items():
            sock = self.ports.get(number)
            if sock is None:
                self.unknown_port += len(frames)
                continue
            try:
                sock.send_batch(frames)
            except OSError:
                sock.dropped += len(frames)

    def drops(self) -> dict[str, int]:
        """Frames that sockets have dropped, and those for ports that are not there; by reason."""
        counts = Counter({"unknown_port": self.unknown_port} if self.unknown_port else {})
        for sock in self.ports.values():
            counts.update(sock.drops())
        return dict(counts)

    def close(self) -> None:
        self.switch.transmit = None
        self._epoll.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
        for sock in self.ports.values():
            sock.close()
