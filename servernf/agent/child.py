"""What becomes a worker: this process binds itself to its bounds, then executes the runtime.

A script of the standard library alone, run as `python -I -S child.py BOUNDS ARGV...`: no time between
fork and bounds in which a worker would be unbounded, and no code in a fork of a process with threads.

BOUNDS is a JSON object: `parent`, the agent's pid; `cpus` to run on; `groups`, the cgroup.procs files
to enter; `data_bytes`, the most of private memory (RLIMIT_DATA), 0 for no bound.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    bounds = json.loads(sys.argv[1])
    # A worker that nobody bounds, watches or ends any more must not go on: the next agent starts
    # another one with its MAC.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != bounds["parent"]:
        sys.exit(1)
    try:
        for group in bounds["groups"]:
            with open(group, "w") as file:
                file.write(str(os.getpid()))
        os.sched_setaffinity(0, bounds["cpus"])
        if bounds["data_bytes"]:
            resource.setrlimit(resource.RLIMIT_DATA, (bounds["data_bytes"],) * 2)
    except OSError as error:
        sys.exit(f"the worker's bounds cannot be set: {error}")
    os.execv(sys.argv[2], sys.argv[2:])


main()
