"""p4runtime-shell, connected to a switch: its own environment, made when first used.

It needs protobuf < 3.21, so it cannot live beside this package. It never gets `--config`: that would
commit the pipeline anew and wipe every entry.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping
from pathlib import Path

from orchestrator.clients.channel import TlsFiles
from orchestrator.deployment.journal import state_directory
from orchestrator.deployment.store import next_term
from orchestrator.errors import EnvironmentMissing, InputError

REQUIREMENT = "p4runtime-shell==0.0.6"
READER_ELECTION_ID = 1
GUARD_ELECTION_ID = 2
"""A guard session with this id makes sure that a reading shell, with a lower one, is a backup."""

LOCK = Path(__file__).with_name("p4runtime_shell.lock")
"""All that its environment consists of, with hashes; docs/testing.md says how it is renewed."""
_READY = ".ready"
_INSTALL_SECONDS = 600
_INSTALL = ("install", "--quiet", "--require-hashes", "--only-binary", ":all:", "-r")


def shell_environment(note: Callable[[str], None]) -> Path:
    """The Python of the shell's environment; made on first use (needs a package index then)."""
    folder = state_directory() / "p4runtime-shell"
    python = folder / "bin" / "python"
    ready = folder / _READY
    wanted = LOCK.read_text()
    if ready.exists() and ready.read_text() == wanted and python.exists():
        return python
    note(f"making the environment of {REQUIREMENT} in {folder} (once; takes a minute)")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        venv.create(folder, with_pip=True)
        done = subprocess.run(
            [python, "-m", "pip", *_INSTALL, str(LOCK)],
            capture_output=True,
            text=True,
            timeout=_INSTALL_SECONDS,
            check=False,
            env=_clean(os.environ),
        )
    except (OSError, subprocess.SubprocessError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise EnvironmentMissing(
            f"the environment of {REQUIREMENT} cannot be made: {error} (python3-venv installed?)"
        ) from error
    if done.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no reason given"]
        raise EnvironmentMissing(f"pip install {REQUIREMENT}: {last[0]}")
    ready.write_text(wanted)
    return python


def shell_argv(
    python: Path, address: str, device_id: int, election_id: int, tls: TlsFiles | None = None
) -> list[str]:
    """The command line of the shell."""
    if tls is not None and tls.name:
        raise InputError(
            "p4runtime-shell compares a certificate with the address only: tls.device_name "
            f"('{tls.name}') does not go with it"
        )
    return [
        str(python),
        *("-m", "p4runtime_sh"),
        *("--grpc-addr", address),
        *("--device-id", str(device_id)),
        *("--election-id", f"{election_id >> 64},{election_id & (1 << 64) - 1}"),
        *(("--ssl", "--cacert", str(tls.ca)) if tls else ()),
        *(("--cert", str(tls.certificate)) if tls and tls.certificate else ()),
        *(("--private-key", str(tls.key)) if tls and tls.key else ()),
    ]


def run_shell(argv: list[str]) -> int:
    """Run it on this terminal to its end."""
    return subprocess.run(argv, check=False, env=shell_variables()).returncode


def shell_variables() -> dict[str, str]:
    """The shell's environment variables: IPython keeps its history with our state."""
    folder = state_directory() / "ipython"
    folder.mkdir(mode=0o700, exist_ok=True)
    return {**_clean(os.environ), "IPYTHONDIR": str(folder)}


def writer_election_id() -> int:
    """An election id above every earlier controller's: as high as a term that begins now."""
    return next_term(0) << 64


def _clean(variables: Mapping[str, str]) -> dict[str, str]:
    """Without what points into this process's own environment."""
    ours = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    here = str(Path(sys.executable).parent)
    clean = {name: value for name, value in variables.items() if name not in ours}
    folders = clean.get("PATH", "").split(os.pathsep)
    clean["PATH"] = os.pathsep.join(f for f in folders if f != here)
    return clean
