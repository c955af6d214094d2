"""`python -m orchestrator.simulation NAME`: the network in memory of an inventory, until SIGTERM.

It ends by itself when its inventory is gone, or when nobody has asked for anything for `--idle` seconds;
then it removes the inventory, too. Prints one JSON line when it is ready.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence

from orchestrator.errors import NetworkError, ReportedError
from orchestrator.network.inventory import changed_at, forget_inventory, load_inventory
from orchestrator.network.registry import registry_lock
from orchestrator.simulation.serving import ServedNetwork

_LOOK_S = 1.0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m orchestrator.simulation", description=__doc__)
    parser.add_argument("name", help="name of the network; its inventory says the rest")
    parser.add_argument(
        "--idle", type=float, default=0, metavar="S", help="end after so long (0: never)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of its links' faults")
    options = parser.parse_args(argv)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    os.umask(0o077)  # who may open the sockets may change everything
    try:
        inventory = load_inventory(options.name)
        written = changed_at(options.name)
        network = ServedNetwork(inventory, seed=options.seed)
    except (ReportedError, OSError) as error:
        print(f"network {options.name}: {error}", file=sys.stderr)
        return 2
    # Table entries are many, long-lived and acyclic.
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)
    print(json.dumps({"ready": True, "name": options.name}), flush=True)
    while not stopped.wait(_LOOK_S) and _is_there(options.name, written):
        if options.idle and time.monotonic() - network.used_at > options.idle:
            with registry_lock():
                if _is_there(options.name, written):
                    forget_inventory(options.name)
            break
    network.stop()
    if not _is_there(options.name, written):
        shutil.rmtree(inventory.folder, ignore_errors=True)
    return 0


def _is_there(name: str, written: int) -> bool:
    """Whether the inventory is still the one that the network was made of."""
    try:
        return changed_at(name) == written
    except NetworkError:
        return False


if __name__ == "__main__":
    sys.exit(main())
