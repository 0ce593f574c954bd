"""What a report of a bug should say of the surroundings."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from typing import Any

from crystalssl._version import __version__

__all__ = ["show_versions"]

# What the package imports, and what it uses where it is installed.
_PACKAGES = ["torch", "torch-geometric", "scikit-learn", "skorch", "pymatgen", "gemmi", "numpy", "scipy", "pandas"]
_PACKAGES += ["joblib", "safetensors", "pooch", "click", "tqdm"]
_OPTIONAL = ["ase", "pyarrow", "optimade", "matplotlib", "optuna", "dask", "polars", "skops", "mlflow"]


def show_versions() -> None:
    """Print versions of the package, Python and what they stand on, the machine and its devices.

    Paste it into a report of a bug. Nothing that is personal is shown but the path of the interpreter.

    See Also
    --------
    crystalssl.training.bundled_weights : The weights that ship.

    Examples
    --------
    >>> import crystalssl
    >>> crystalssl.show_versions()  # doctest: +ELLIPSIS
    crystalssl: ...
    """
    import torch

    cards = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    groups: dict[str, dict[str, Any]] = {
        "": {"crystalssl": __version__},
        "System": {
            "python": sys.version.replace("\n", " "),
            "executable": sys.executable,
            "machine": platform.platform(),
            "cores": os.cpu_count(),
            "threads of torch": torch.get_num_threads(),
            "devices": ", ".join(["cpu", *cards]),
        },
        "Needed": {name: _version(name) for name in _PACKAGES},
        "Optional": {name: _version(name) for name in _OPTIONAL},
    }
    for title, rows in groups.items():
        if title:
            print(f"\n{title}")
        for name, value in rows.items():
            print(f"{'  ' if title else ''}{name}: {value}")


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
