"""The site, built once for all tests, without running the examples."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEEDED = (
    "latex2mathml",
    "sphinx",
    "pydata_sphinx_theme",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery",
)


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Folder of the HTML pages. The sources are copied, since some pages are written beside them."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed; pip install -c constraints.txt '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    for name in ("docs", "examples"):
        made = shutil.ignore_patterns("_build", "api", "auto_examples", "figures" if name == "examples" else "")
        shutil.copytree(ROOT / name, folder / name, ignore=made)
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", "html"],
        cwd=folder,
        env={**os.environ, "CRYSTALSSL_DOCS_QUICK": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"
