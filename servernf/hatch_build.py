"""The wheel's hook: with a C compiler, what `servernf.wire.native` loads goes into it.

Without one the wheel is of Python alone, and does the same.
"""

from __future__ import annotations

import importlib.util
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Native(BuildHookInterface[Any]):
    """Makes the shared object before the files are gathered."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        path = Path(self.root) / "wire" / "native.py"
        spec = importlib.util.spec_from_file_location("native", path)
        assert spec is not None
        assert spec.loader is not None
        native = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(native)
        if not native.build(path.parent) or version == "editable":
            return
        build_data["artifacts"].append(f"wire/{native.OBJECT}")
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"
