"""The package as a whole: what importing it costs, and what it offers."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import crystalssl

HEAVY = ["matplotlib", "numpy", "pandas", "pymatgen", "scipy", "skorch", "sklearn", "torch", "torch_geometric"]


def run_fresh(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a Python process that has imported nothing yet."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("module", ["crystalssl", "crystalssl.exceptions"])
def test_import_loads_nothing_heavy(module):
    result = run_fresh(f"import sys, json, {module}; print(json.dumps([*sys.modules]))")
    assert result.returncode == 0, result.stderr
    assert set(json.loads(result.stdout)) & set(HEAVY) == set()


@pytest.mark.parametrize("name", crystalssl.__all__)
def test_public_name_resolves(name):
    value = getattr(crystalssl, name)
    assert getattr(crystalssl, name) is value
    if name in crystalssl._DEFINED_IN:
        assert value.__name__ == name


def test_submodule_is_an_attribute_after_plain_import():
    result = run_fresh("import crystalssl; print(crystalssl.exceptions.CrystalSSLError.__name__)")
    assert result.stdout.strip() == "CrystalSSLError", result.stderr


def test_table_of_names_and_all_agree():
    assert set(crystalssl._DEFINED_IN) < set(crystalssl.__all__)
    modules = {name for name in crystalssl._DEFINED_IN.values() if not name.startswith("_")}
    assert modules < set(crystalssl.__all__)


def test_misspelt_attribute():
    with pytest.raises(AttributeError, match="module 'crystalssl' has no attribute 'CrystalGraph'"):
        crystalssl.CrystalGraph  # noqa: B018
    assert not hasattr(crystalssl, "os")
    assert "Did you mean: 'CrystalGraphs'" in run_fresh("import crystalssl; crystalssl.CrystalGraph").stderr


def test_dir_lists_everything():
    assert set(crystalssl.__all__) <= set(dir(crystalssl))
    # Before anything was looked up, too: completion in a fresh session shows all names.
    result = run_fresh("import crystalssl; print(set(crystalssl.__all__) - set(dir(crystalssl)))")
    assert result.stdout.strip() == "set()", result.stderr


def test_limits_are_one_object_whose_fields_are_known():
    assert crystalssl.LIMITS is crystalssl.graphs.LIMITS
    with pytest.raises(AttributeError, match="side"):
        crystalssl.LIMITS.side = 5  # a misspelt limit would be set without a word


def test_versions_that_are_shown(capsys):
    import torch

    crystalssl.show_versions()
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert f"crystalssl: {crystalssl.__version__}" in lines
    assert f"torch: {torch.__version__}" in lines
    assert any(line.startswith("devices: cpu") for line in lines)
    from importlib.metadata import requires

    needed = {re.split(r"[ ;<>=!~\[(]", line)[0] for line in requires("crystalssl") if "extra ==" not in line}
    shown = {line.partition(":")[0] for line in lines}
    assert needed - {"tomli"} <= shown


def test_version_is_the_installed_one():
    from importlib.metadata import version

    assert crystalssl.__version__ == version("crystalssl")


# What these may import of the other subpackages: data come in without networks, estimators or plots. Modules that begin
# with an underscore belong to all.
ARROWS = {"graphs": set(), "io": {"graphs"}, "datasets": {"graphs", "io"}}


@pytest.mark.parametrize("package", ARROWS)
def test_arrows_point_one_way(package):
    imported = set()
    for path in (Path(crystalssl.__file__).parent / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("crystalssl"):
                inner = node.module.split(".")[1:]
                imported |= {inner[0]} if inner else {alias.name for alias in node.names}
    assert {name for name in imported if name[0] != "_"} <= ARROWS[package] | {package, "exceptions"}
