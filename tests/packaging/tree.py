"""Copies of the source tree to plant a fault in: what the rules of `pyproject.toml` say about a
tree that breaks them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["ROOMS", "ROOT", "check", "copy"]

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("protocol", "runtime", "feeder", "consumers", "monitors", "config")
"""The folders at the top that `tapecast/` links to."""


def copy(folder: Path, *rooms: str) -> Path:
    """Copy `tapecast/`, these rooms (default: all) and the configuration of the tools into
    `folder`, links as links; return it.
    """
    skipped = shutil.ignore_patterns("__pycache__", "*.so", "*.o", "_native.c", "vectors")
    for name in ("tapecast", *(rooms or ROOMS)):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=skipped)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def check(tree: Path, tool: str, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a tool of the development environment on a tree."""
    return subprocess.run(
        [Path(sys.executable).parent / tool, *words],
        cwd=tree,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
