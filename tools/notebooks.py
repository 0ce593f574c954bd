"""Make notebooks of the scripts in examples/tutorials, run them, and write them to examples/notebooks.

    python tools/notebooks.py
    python tools/notebooks.py --check   # changes and runs nothing, fails where a notebook is not that of its script

Wants the extra `docs`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "examples" / "tutorials").glob("*.py"))
FOLDER = ROOT / "examples" / "notebooks"
TIMEOUT = 1200  # seconds for a cell, on a busy machine


def notebook_of(script: Path) -> Any:
    """Return the notebook of a script in the format of Sphinx-Gallery, without outputs, its cells named in order."""
    notebook = jupytext.read(script, fmt={"extension": ".py", "format_name": "sphinx", "rst2md": True})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}})
    # What Sphinx-Gallery itself puts in front: %matplotlib inline, which is the default by now.
    notebook.cells = [cell for cell in notebook.cells if not cell.source.startswith("%matplotlib")]
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    return notebook


def sources(notebook: Any) -> list[tuple[str, str]]:
    """Return kind and text of the cells."""
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="of scripts (default: all)")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    failed = False
    for script in SCRIPTS:
        if options.names and script.stem not in options.names:
            continue
        path = FOLDER / f"{script.stem}.ipynb"
        notebook = notebook_of(script)
        if options.check:
            same = path.exists() and sources(nbformat.read(path, 4)) == sources(notebook)
            failed |= not same
            print(f"{path.relative_to(ROOT)}: {'that of its script' if same else 'run python tools/notebooks.py'}")
            continue
        FOLDER.mkdir(exist_ok=True)
        NotebookClient(
            notebook, timeout=TIMEOUT, kernel_name="python3", resources={"metadata": {"path": FOLDER}}
        ).execute()
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)  # times of day
        nbformat.validate(notebook)
        nbformat.write(notebook, path)
        print(f"{path.relative_to(ROOT)}: written")
    return failed


if __name__ == "__main__":
    sys.exit(main())
