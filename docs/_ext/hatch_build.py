"""What building a wheel does beside packing files: it makes the man pages of the two commands from their own parsers."""

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManPages(BuildHookInterface[Any]):
    """Puts dbrtool.1 and scheduler.1 into the wheel's share/man/man1. Needs click, as pyproject.toml says."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the pages, and name them to the builder."""
        sys.path.insert(0, self.root)
        from dbrecon.console.man_pages import write_man_pages

        self.folder = tempfile.TemporaryDirectory()
        for page in write_man_pages(Path(self.folder.name)):
            build_data["shared_data"][str(page)] = f"share/man/man1/{page.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was written."""
        self.folder.cleanup()
