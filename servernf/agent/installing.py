"""`servernf agent --install`: the systemd unit with this installation's path, and a configuration."""

from __future__ import annotations

import json
import os
import sys
from importlib.resources import files
from pathlib import Path

from servernf.agent.config import DEFAULT_CONFIG
from servernf.wire.errors import EnvironmentMissing

UNIT = Path("/etc/systemd/system/servernf-agent.service")
_EXAMPLE = {
    "listen": "0.0.0.0:50080",
    "tls": {
        "certificate": "/etc/servernf/agent.pem",
        "key": "/etc/servernf/agent.key",
        "ca": "/etc/servernf/ca.pem",
        "writers": ["controller"],
    },
    "workers": {"listen": "ADDRESS:50100"},
}


def install(root: Path = Path("/"), config: Path = DEFAULT_CONFIG) -> list[str]:
    """Write both files, an existing configuration stays; what was done and is left to do, in words."""
    unit, settings = _below(root, UNIT), _below(root, config)
    try:
        for folder in (unit.parent, settings.parent):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        unit.write_text(unit_text(config))
        unit.chmod(0o644)
        kept = settings.exists()
        if not kept:
            descriptor = os.open(settings, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w") as file:
                json.dump(_EXAMPLE, file, indent=2)
                file.write("\n")
    except OSError as error:
        raise EnvironmentMissing(f"{error.filename}: {error.strerror} (root?)") from None
    return [
        f"wrote {unit}",
        f"{settings} is there already" if kept else f"wrote {settings}",
        "put the certificates where it says, and ADDRESS (this server's) in it; see it with "
        "`servernf agent --check`",
        "systemctl daemon-reload && systemctl enable --now servernf-agent",
    ]


def unit_text(config: Path) -> str:
    """The shipped unit, with the interpreter that this runs in."""
    shipped = files("servernf.agent").joinpath("servernf-agent.service").read_text()
    command = f"ExecStart={sys.executable} -m servernf agent --config {config}"
    return (
        "\n".join(
            command if line.startswith("ExecStart=") else line for line in shipped.splitlines()
        )
        + "\n"
    )


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")
