"""A CLE's folder as what verdicts are made of: records that are sealed, and by whom."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from orchestrator.errors import InputError
from orchestrator.verification.cle.audit import audit, entries
from orchestrator.verification.cle.running import log_folder
from orchestrator.verification.cle.seals import Head
from orchestrator.verification.verdicts import Told, once
from servernf.wire import records


def told(folder: Path, cle: str, kept: Iterable[Head] = ()) -> Told:
    """What a log holds, once it has been looked at: InputError if it is not as the CLE (its public key)
    sealed it, or does not lead through the heads that were kept. Nothing is judged by such a one."""
    where = log_folder(folder)
    if not where.is_dir():
        raise InputError(f"{folder}: holds no log of a CLE")
    problems = audit(where, cle, kept).problems
    if problems:
        raise InputError(problems)
    return once(
        records.read(data) for entry in entries(where) for data in records.split(entry.payload)
    )
