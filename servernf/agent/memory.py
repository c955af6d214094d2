"""The workers that were asked for, in a file: they run again after a reboot, or with a new agent."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from servernf.agent.specs import WorkerSpec
from servernf.wire.errors import InputError, ServerError
from servernf.wire.fields import Fields, parsed

FORMAT = 1
_MOST_U64 = (1 << 64) - 1


class WorkerMemory:
    """`workers.json` in the agent's folder, for one agent at a time."""

    def __init__(self, folder: Path) -> None:
        """InputError when the folder cannot be used, or another agent has it."""
        self._file = folder / "workers.json"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"folder: another agent runs with {folder}") from None
        except OSError as error:
            raise InputError(f"folder: {folder}: {error.strerror}") from None

    def read(self) -> list[WorkerSpec]:
        """What is remembered; InputError when the file is damaged, so that nothing is forgotten."""
        try:
            text = self._file.read_text()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{self._file}: cannot be read: {error}") from None
        try:
            fields = Fields(str(self._file), parsed(text, str(self._file)))
            fields.integer("format", FORMAT, FORMAT)
            specs = [_spec(each) for each in fields.objects("workers")]
            fields.check()
        except InputError as error:
            raise InputError(
                [*error.problems, "moved away, the agent starts without workers"]
            ) from None
        return specs

    def write(self, specs: Iterable[WorkerSpec]) -> None:
        """Replace what is remembered, at once; ServerError when it cannot be written."""
        document = {"format": FORMAT, "workers": [_document(spec) for spec in specs]}
        new = self._file.with_suffix(".new")
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "w") as file:
                json.dump(document, file, indent=1)
                file.flush()
                os.fsync(descriptor)
            new.replace(self._file)
        except OSError as error:
            raise ServerError(f"{self._file}: cannot be written: {error.strerror}") from None

    def close(self) -> None:
        """Another agent may have the folder."""
        os.close(self._lock)


def _document(spec: WorkerSpec) -> dict[str, object]:
    return {key: value for key, value in asdict(spec).items() if value not in ("", None)}


def _spec(fields: Fields) -> WorkerSpec:
    spec = WorkerSpec(
        name=fields.text("name"),
        core=fields.integer("core", 0, (1 << 16) - 2),
        runtime=fields.text("runtime"),
        mac=fields.integer("mac", 1, (1 << 48) - 1),
        macvlan_on=fields.text("macvlan_on", ""),
        interface=fields.text("interface", ""),
        memory_bytes=fields.integer("memory_bytes", 0, _MOST_U64),
        cpu=fields.integer("cpu", 0, 1 << 16) if fields.has("cpu") else None,
    )
    fields.only_known()
    return spec
