"""`python -m orchestrator.fitting [NAME...]` asks a chip's compiler of blocks by themselves
(targets/probes), all or those named, and writes what it says to `reports.SHIPPED`: `make chip-reports`.
It takes minutes, and p4c's Tofino backend.
"""

from __future__ import annotations

import sys

from orchestrator.fitting.reports import SHIPPED, from_json, measured, to_json
from orchestrator.targets.probes import PROBES

told = from_json(SHIPPED.read_text()) if SHIPPED.exists() else {}
for name in sys.argv[1:] or PROBES:
    told[name] = measured(PROBES[name])
    SHIPPED.write_text(to_json({n: told[n] for n in told if n in PROBES}))  # each once it is known
