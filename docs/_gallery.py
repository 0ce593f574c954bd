"""What the examples of the gallery are called with, so that each takes less than a minute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# Without a folder of data they take the crystals that ship with pymatgen, on any machine.
QUICK = {
    "quickstart.py": ["--labels", "25", "50", "--repeats", "3", "--jobs", "1"],
    "linear_probing.py": ["--data", ""],
    "pretrain_your_own.py": ["--data", ""],
}


def arguments(gallery_conf: dict[str, Any], script_vars: dict[str, Any]) -> list[str]:
    """Return the arguments of a script, which Sphinx-Gallery then finds in ``sys.argv``."""
    return QUICK.get(Path(script_vars["src_file"]).name, [])
