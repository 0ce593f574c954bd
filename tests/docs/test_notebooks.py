"""The tutorials as notebooks: what a script computes, its notebook does."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXECUTED = ROOT / "docs" / "_build" / "notebooks"
TUTORIALS = re.search(r"^TUTORIALS := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[1].split()


def statements(code):
    """Return what Python makes of code, without its docstring."""
    body = ast.parse(code).body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        del body[0]
    return [ast.dump(statement) for statement in body]


def code_of(cells):
    """Return the code of all cells of a notebook."""
    return "\n".join(cell.source for cell in cells if cell.cell_type == "code")


@pytest.fixture(params=TUTORIALS)
def script(request):
    return ROOT / "examples" / f"{request.param}.py"


def test_cells_are_the_script(script, tmp_path):
    """`make notebooks` converts in the same way."""
    nbformat, notebook = pytest.importorskip("nbformat"), pytest.importorskip("sphinx_gallery.notebook")
    shutil.copy(script, tmp_path)
    notebook.python_to_jupyter_cli([str(tmp_path / script.name)])
    made = nbformat.read(tmp_path / f"{script.stem}.ipynb", as_version=4)
    nbformat.validate(made)
    assert statements(code_of(made.cells)) == statements(script.read_text(encoding="utf-8"))
    headings = [cell.source for cell in made.cells if cell.cell_type == "markdown"]
    assert headings[0].lstrip().startswith("# ")
    assert sum(text.lstrip().startswith("## ") for text in headings) >= 3
    # What is a link or code on the site's page is none in a notebook if it is left in reStructuredText.
    assert not re.search(r":\w+:`|`_|::$", "\n".join(headings), re.MULTILINE)


def test_nothing_is_asked_of_a_command_line(script):
    """In a notebook sys.argv is the kernel's, and there is no __file__."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not {"__file__", "__name__"} & names
    assert not {"argparse", "sys"} & modules


def test_the_site_runs_all_tutorials():
    """`filename_pattern` in docs/conf.py says which."""
    pattern = re.search(r'"filename_pattern": r"(.*)"', (ROOT / "docs" / "conf.py").read_text(encoding="utf-8"))[1]
    run = {path.stem for path in (ROOT / "examples").glob("*.py") if re.search(pattern, f"/{path.name}")}
    assert run == set(TUTORIALS)


def test_executed_notebooks_are_without_errors(script):
    path = EXECUTED / f"{script.stem}.ipynb"
    if not path.exists():
        pytest.skip("make notebooks writes them, in a few minutes")
    nbformat = pytest.importorskip("nbformat")
    executed = nbformat.read(path, as_version=4)
    nbformat.validate(executed)
    if statements(code_of(executed.cells)) != statements(script.read_text(encoding="utf-8")):
        pytest.skip("older than the script; make notebooks writes them, in a few minutes")
    outputs = [output for cell in executed.cells if cell.cell_type == "code" for output in cell.outputs]
    kinds = {output.output_type for output in outputs}
    assert "error" not in kinds
    assert not [output.text for output in outputs if output.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs), "no picture"
