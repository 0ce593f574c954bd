"""What the examples of the gallery are called with, so that each takes less than a minute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

QUICK = {"quickstart.py": ["--labels", "25", "50", "--repeats", "3", "--jobs", "1"]}


def arguments(gallery_conf: dict[str, Any], script_vars: dict[str, Any]) -> list[str]:
    """Return the arguments of a script, which Sphinx-Gallery then finds in ``sys.argv``."""
    return QUICK.get(Path(script_vars["src_file"]).name, [])
