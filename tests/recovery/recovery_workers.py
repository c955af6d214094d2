"""`recovery_workers.py NAME=MAC=ADDRESS...`: server workers without interfaces, until SIGTERM."""

from __future__ import annotations

import json
import signal
import sys

from servernf.python.runtime.service import serve
from servernf.python.runtime.worker import Worker


def main(places: list[str]) -> None:
    kept = []
    for place in places:
        name, mac, address = place.split("=", 2)
        kept.append(serve(Worker(name, int(mac)), address))
    print(json.dumps({"ready": True}), flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    for server, service, _ in kept:
        service.stopping.set()
        server.stop(0)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main(sys.argv[1:])
