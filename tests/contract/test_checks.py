"""scikit-learn's checks: those that need no table as X, and that none is forgotten."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import sklearn
from sklearn.utils import estimator_checks
from sklearn.utils.fixes import parse_version

from .cases import ESTIMATORS
from .checks import CHECKS, NotApplicable, Rewritten, Used

USED = [name for name, fate in CHECKS.items() if isinstance(fate, Used)]
TESTS = {
    node.name
    for path in Path(__file__).parent.glob("test_*.py")
    for node in ast.parse(path.read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef)
}


@pytest.mark.parametrize("check", USED)
@pytest.mark.parametrize("cls", ESTIMATORS, ids=lambda cls: cls.__name__)
def test_scikit_learns_check(cls, check):
    if not hasattr(estimator_checks, check):
        pytest.skip(f"scikit-learn {sklearn.__version__} has no {check}")
    getattr(estimator_checks, check)(cls.__name__, cls())


@pytest.mark.skipif(parse_version(sklearn.__version__) < parse_version("1.9"), reason="the table is that of 1.9")
def test_table_holds_every_check_of_scikit_learn_and_no_other():
    existing = {
        name
        for name, value in vars(estimator_checks).items()
        if name.startswith("check_") and getattr(value, "__module__", None) == estimator_checks.__name__
    }
    assert existing - CHECKS.keys() == set(), "say in checks.py what becomes of them"
    assert CHECKS.keys() - existing == set(), "scikit-learn has them no longer; drop them from checks.py"


@pytest.mark.parametrize("name", [name for name, fate in CHECKS.items() if isinstance(fate, Rewritten)])
def test_rewritten_tests_exist(name):
    assert CHECKS[name].tests
    assert set(CHECKS[name].tests) <= TESTS


def test_documentation_counts_them_right():
    counts = [sum(isinstance(fate, kind) for fate in CHECKS.values()) for kind in (Used, Rewritten, NotApplicable)]
    page = Path(__file__).parents[2] / "docs" / "scikit-learn.md"
    text = " ".join(page.read_text(encoding="utf-8").split())
    assert f"Of the {len(CHECKS)} checks" in text
    assert "{} run as they are, {} are rewritten for crystals, and {} do not apply".format(*counts) in text


def test_what_does_not_apply_says_why():
    assert all(fate.why for fate in CHECKS.values() if isinstance(fate, NotApplicable))


def test_the_known_estimators_are_discovered():
    names = {cls.__name__ for cls in ESTIMATORS}
    assert {
        "CrystalGraphTransformer",
        "CrystalSSLClassifier",
        "CrystalSSLRegressor",
        "PretrainedCrystalEmbedder",
    } <= names
