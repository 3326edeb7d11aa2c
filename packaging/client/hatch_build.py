"""Where the package is: beside this file in a source distribution, two folders up in the repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "klani_resp/client"
LICENSE = {"sdist": "LICENSE", "wheel": f"{PACKAGE}/LICENSE"}


class ClientPackage(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        here = Path(self.root)
        root = next(root for root in (here, here.parent.parent) if (root / PACKAGE).is_dir())
        build_data["force_include"] |= {
            str(root / PACKAGE): PACKAGE,
            str(root / "LICENSE"): LICENSE[self.target_name],
        }
