"""The notebooks open, were run without an error, and are those of the scripts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path.stem for path in (ROOT / "examples" / "tutorials").glob("*.py"))


@pytest.fixture(params=SCRIPTS)
def name(request):
    return request.param


@pytest.fixture
def notebook(name):
    notebook = nbformat.read(ROOT / "examples" / "notebooks" / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    return notebook


def test_there_are_three():
    assert SCRIPTS == ["few_labels", "own_corpus", "screening"]


def test_every_cell_was_run_in_order_without_an_error(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
    assert any("image/png" in output.get("data", {}) for cell in code for output in cell.outputs) or any(
        "text/html" in output.get("data", {}) for cell in code for output in cell.outputs
    )


def test_notebook_is_that_of_its_script(name, notebook, monkeypatch):
    pytest.importorskip("jupytext")
    pytest.importorskip("nbclient")
    pytest.importorskip("sphinx_gallery")
    monkeypatch.syspath_prepend(ROOT / "tools")
    monkeypatch.delitem(sys.modules, "notebooks", raising=False)
    import notebooks

    assert notebooks.sources(notebook) == notebooks.sources(
        notebooks.notebook_of(ROOT / "examples" / "tutorials" / f"{name}.py")
    )
