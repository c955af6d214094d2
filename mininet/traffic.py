"""Traffic for the demo and the emulated tests; runs inside a host's namespace.

serve PORT [--bytes N]      HTTP: `/` gives N pseudo-random bytes, `/whoami` the client's address
get URL                     prints {"bytes", "sha256", "seconds"}
udp-serve PORT              answers each datagram with the sender's address
udp HOST PORT               sends datagrams until one is answered; prints {"answered", "seen_as"}
connect HOST PORT           prints {"connected"}
split HOST PORT TEXT        sends TEXT in two TCP segments; prints {"answered"}
sink PORT                   accepts TCP and answers each 4-byte prefix `END\\n`; for `split`
"""

from __future__ import annotations

import argparse
import hashlib
import http.server
import json
import random
import socket
import socketserver
import sys
import time
import urllib.request

TIMEOUT_S = 3.0
SEED = 2016


def body(size: int) -> bytes:
    """The same pseudo-random bytes on both sides."""
    return random.Random(SEED).randbytes(size)


def serve(port: int, size: int) -> None:
    content = body(size)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = self.client_address[0].encode() if self.path == "/whoami" else content
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    class Server(http.server.ThreadingHTTPServer):
        address_family = socket.AF_INET6
        daemon_threads = True

        def server_bind(self) -> None:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            super().server_bind()

    with Server(("::", port), Handler) as server:
        ready()
        server.serve_forever()


def get(url: str) -> dict[str, object]:
    started = time.monotonic()
    with urllib.request.urlopen(url, timeout=30) as answer:
        data = answer.read()
    result: dict[str, object] = {
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "seconds": round(time.monotonic() - started, 3),
    }
    if len(data) < 100:
        result["text"] = data.decode(errors="replace")
    return result


def udp_serve(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("", port))
        ready()
        while True:
            _, sender = server.recvfrom(2048)
            server.sendto(f"{sender[0]}:{sender[1]}".encode(), sender)


def udp(host: str, port: int) -> dict[str, object]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.5)
        for _ in range(6):
            client.sendto(b"hello", (host, port))
            try:
                return {"answered": True, "seen_as": client.recv(2048).decode()}
            except OSError:
                continue
    return {"answered": False, "seen_as": ""}


def connect(host: str, port: int) -> dict[str, object]:
    try:
        with socket.create_connection((host, port), timeout=TIMEOUT_S):
            return {"connected": True}
    except OSError as error:
        return {"connected": False, "error": type(error).__name__}


def sink(port: int) -> None:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            received = b""
            while not received.endswith(b"END\n"):
                data = self.request.recv(4096)
                if not data:
                    return
                received += data
            self.request.sendall(b"got it\n")

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Server(("", port), Handler) as server:
        ready()
        server.serve_forever()


def split(host: str, port: int, text: str) -> dict[str, object]:
    """Two segments: the first half at once, the second after it has surely left."""
    middle = len(text) // 2
    with socket.create_connection((host, port), timeout=TIMEOUT_S) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(text[:middle].encode())
        time.sleep(0.2)
        client.sendall(text[middle:].encode() + b"END\n")
        client.settimeout(TIMEOUT_S)
        try:
            return {"answered": client.recv(100) == b"got it\n"}
        except OSError:
            return {"answered": False}


def ready() -> None:
    print("ready", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command")
    parser.add_argument("words", nargs="*")
    parser.add_argument("--bytes", type=int, default=12_000_000)
    given = parser.parse_args()
    words: list[str] = given.words
    if given.command == "serve":
        serve(int(words[0]), given.bytes)
    elif given.command == "udp-serve":
        udp_serve(int(words[0]))
    elif given.command == "sink":
        sink(int(words[0]))
    else:
        actions = {
            "get": lambda: get(words[0]),
            "udp": lambda: udp(words[0], int(words[1])),
            "connect": lambda: connect(words[0], int(words[1])),
            "split": lambda: split(words[0], int(words[1]), words[2]),
        }
        print(json.dumps(actions[given.command]()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
