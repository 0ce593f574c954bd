import gzip
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import DummySpecies, Element, Lattice, Species, Structure

from crystalssl.datasets import _prototypes, load_prototypes
from crystalssl.exceptions import DatasetError


@pytest.fixture(scope="module")
def library():
    """pymatgen's own, slow, reading of the file."""
    from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY

    return AFLOW_PROTOTYPE_LIBRARY


def test_count_order_and_tags_are_those_of_pymatgen(library):
    bunch = load_prototypes()
    assert len(bunch.data) == len(library) >= 288
    for structure, entry in zip(bunch.data, library, strict=True):
        assert structure.as_dict() == Structure.from_sites(entry["snl"].structure.sites).as_dict()
    assert bunch.tags["aflow"].tolist() == [entry["tags"]["aflow"] for entry in library]
    assert bunch.tags["pearson"].tolist() == [entry["tags"]["pearson"] for entry in library]
    assert list(bunch.tags.columns) == ["mineral", "aflow", "pearson", "strukturbericht"]


def test_missing_names_are_empty():
    tags = load_prototypes().tags
    assert tags.notna().all(axis=None)
    assert not (tags == "None").any(axis=None)
    assert (tags["mineral"] == "").sum() > 50
    assert (tags["strukturbericht"] == "").sum() > 50


def test_density_is_mass_over_volume():
    bunch = load_prototypes()
    assert bunch.target.dtype == np.float64
    assert bunch.unit == "g/cm^3"
    assert bunch.target_names == ["density"]
    for structure, density in zip(bunch.data, bunch.target, strict=True):
        # 1 u per Å³ is 1.66053907 g/cm³.
        mass = sum(float(element.atomic_mass) for element in structure.species)
        assert density == pytest.approx(1.66053906892 * mass / structure.volume, rel=1e-6)
        assert density == float(structure.density)
    assert "computed from the structure" in bunch.DESCR


@pytest.mark.parametrize(("mineral", "formula", "density"), [("Halite", "NaCl", 2.17), ("Corundum", "Al2O3", 3.98)])
def test_known_minerals(mineral, formula, density):
    bunch = load_prototypes()
    row = next(row for row, name in enumerate(bunch.tags["mineral"]) if name.startswith(mineral))
    assert bunch.data[row].reduced_formula == formula
    assert bunch.target[row] == pytest.approx(density, abs=0.05)


def test_only_ordered_crystals_of_elements():
    assert all(
        structure.is_ordered and all(isinstance(species, Element) for species in structure.species)
        for structure in load_prototypes().data
    )
    for species in (DummySpecies("X"), Species("Na", 1), {"Na": 0.5, "K": 0.5}, {"Na": 0.5}):
        assert not _prototypes._is_real(Structure(Lattice.cubic(4), [species], [[0, 0, 0]]))


def test_shapes_of_the_result():
    import pandas as pd

    bunch = load_prototypes()
    assert isinstance(bunch.data, list)
    assert bunch.frame is None
    X, y = load_prototypes(return_X_y=True)
    assert bunch.data == X
    assert np.array_equal(y, bunch.target)
    framed = load_prototypes(as_frame=True)
    assert list(framed.frame.columns) == ["structure", "mineral", "aflow", "pearson", "strukturbericht", "density"]
    assert framed.frame["structure"].tolist() == bunch.data
    X, y = load_prototypes(return_X_y=True, as_frame=True)
    assert isinstance(X, pd.Series)
    assert X.shape == (len(bunch.data),)
    assert y.name == "density"


def test_callers_do_not_share_structures():
    load_prototypes().data[0].replace(0, "He")
    assert "He" not in load_prototypes().data[0].symbol_set


def test_pymatgen_without_the_file(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("pymatgen.analysis.prototypes", tmp_path / "prototypes.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(DatasetError, match="does not carry"):
        load_prototypes()


def test_uncompressed_file_of_older_pymatgen(monkeypatch, tmp_path):
    path, records = _prototypes._read_library()
    content = path.read_bytes()
    (tmp_path / "aflow_prototypes.json").write_bytes(gzip.decompress(content) if path.suffix == ".gz" else content)
    spec = importlib.util.spec_from_file_location("pymatgen.analysis.prototypes", tmp_path / "prototypes.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    assert _prototypes._read_library() == (tmp_path / "aflow_prototypes.json", records)


def test_the_slow_module_is_not_imported():
    code = (
        "import sys; from crystalssl.datasets import load_prototypes; load_prototypes(); "
        "print('pymatgen.analysis.prototypes' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "False"
