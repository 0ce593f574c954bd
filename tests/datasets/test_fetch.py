import dataclasses
import gzip
import hashlib
import json

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from crystalssl.datasets import _fetch, fetch_matbench, fetch_matminer
from crystalssl.datasets._registry import load_registry
from crystalssl.exceptions import DatasetError

# All cells have as many sites: then numpy and pandas are most tempted to unpack Structures into a table of sites.
CRYSTALS = [
    Structure.from_spacegroup("Pm-3m", Lattice.cubic(a), [cation, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    for a, cation in [(4.1, "Cs"), (3.9, "Tl"), (3.8, "K")]
]


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Pretend that a table is what has been published under a name of the registry."""

    def write(name, values, rows=None, structures=None):
        entry = load_registry()[name]
        structures = [crystal.as_dict() for crystal in CRYSTALS] if structures is None else structures
        data = [[value, structure, "more"] for value, structure in zip(values, structures, strict=True)]
        table = {"index": list(range(len(data))), "columns": [entry.target, "structure", "other"], "data": data}
        content = gzip.compress(json.dumps(table).encode())
        (tmp_path / entry.filename).write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        entry = dataclasses.replace(entry, sha256=sha256, rows=len(data) if rows is None else rows)
        monkeypatch.setattr(_fetch, "load_registry", lambda: load_registry() | {name: entry})
        return tmp_path

    return write


def test_bunch(publish, no_network):
    home = publish("matbench_mp_gap", [0, 1.5, 2])
    bunch = fetch_matbench("matbench_mp_gap", data_home=home)
    assert isinstance(bunch.data, list)
    assert bunch.data == CRYSTALS
    assert bunch.target.dtype == np.float64
    assert bunch.target.tolist() == [0.0, 1.5, 2.0]
    assert (bunch.frame, bunch.target_names, bunch.unit) == (None, ["gap pbe"], "eV")
    assert bunch.filename == str(home / "matbench_mp_gap.json.gz")
    for part in ("Number of crystals: 3", "gap pbe (eV)", "10.1063/1.4812323", "10.1038/s41524-020-00406-3"):
        assert part in bunch.DESCR
    assert "the published file" in bunch.DESCR


def test_return_X_y(publish):
    X, y = fetch_matbench("matbench_mp_gap", data_home=publish("matbench_mp_gap", [0, 1.5, 2]), return_X_y=True)
    assert X == CRYSTALS
    assert y.tolist() == [0.0, 1.5, 2.0]


def test_as_frame(publish):
    import pandas as pd

    bunch = fetch_matbench("matbench_mp_gap", data_home=publish("matbench_mp_gap", [0, 1.5, 2]), as_frame=True)
    assert list(bunch.frame.columns) == ["structure", "gap pbe"]
    assert bunch.frame.shape == (3, 2)
    assert isinstance(bunch.data, pd.Series)
    assert bunch.data.tolist() == CRYSTALS
    assert isinstance(bunch.target, pd.Series)
    assert bunch.target.tolist() == [0.0, 1.5, 2.0]


def test_as_frame_and_return_X_y(publish):
    home = publish("matbench_mp_gap", [0, 1.5, 2])
    X, y = fetch_matbench("matbench_mp_gap", data_home=home, as_frame=True, return_X_y=True)
    assert X.name == "structure"
    assert X.shape == (3,)
    assert all(isinstance(crystal, Structure) for crystal in X)
    assert y.name == "gap pbe"
    assert y.dtype == np.float64


@pytest.mark.parametrize("as_frame", [False, True])
def test_is_metal_stays_bool(publish, as_frame):
    home = publish("matbench_mp_is_metal", [True, False, True])
    _, y = fetch_matbench("matbench_mp_is_metal", data_home=home, return_X_y=True, as_frame=as_frame)
    assert y.dtype == bool
    assert y.tolist() == [True, False, True]


@pytest.mark.parametrize("value", [None, "False", 0.5])
def test_label_that_is_no_truth_value_is_an_error(publish, value):
    home = publish("matbench_mp_is_metal", [True, value, True])
    with pytest.raises(DatasetError, match="row 1: column 'is_metal' cannot be read"):
        fetch_matbench("matbench_mp_is_metal", data_home=home)


def test_missing_number_is_nan(publish):
    bunch = fetch_matminer("boltztrap_mp", data_home=publish("boltztrap_mp", [1.0, None, 2.0]))
    assert np.isnan(bunch.target).tolist() == [False, True, False]


def test_unreadable_structure_is_named(publish):
    structures = [CRYSTALS[0].as_dict(), {"lattice": {}}, CRYSTALS[1].as_dict()]
    home = publish("boltztrap_mp", [1.0, 2.0, 3.0], structures=structures)
    with pytest.raises(DatasetError, match="row 1: column 'structure' cannot be read"):
        fetch_matminer("boltztrap_mp", data_home=home)


def test_number_of_rows_is_checked(publish):
    with pytest.raises(DatasetError, match="has 3 rows, but matbench_mp_gap has 106113"):
        fetch_matbench("matbench_mp_gap", data_home=publish("matbench_mp_gap", [0, 1, 2], rows=106113))


def test_data_home_defaults_to_the_environment(publish, monkeypatch):
    monkeypatch.setenv("CRYSTALSSL_DATA", str(publish("matbench_mp_gap", [0, 1.5, 2])))
    assert len(fetch_matbench("matbench_mp_gap").data) == 3


def test_each_function_knows_its_own_names():
    with pytest.raises(ValueError, match="Unknown Matbench task 'dielectric_constant'"):
        fetch_matbench("dielectric_constant")
    with pytest.raises(ValueError, match="Unknown matminer data set 'matbench_phonons'"):
        fetch_matminer("matbench_phonons")


def test_missing_file_is_not_downloaded_when_forbidden(tmp_path, no_network):
    with pytest.raises(DatasetError, match="download_if_missing is False"):
        fetch_matbench("matbench_dielectric", data_home=tmp_path, download_if_missing=False)


def test_phonons(data_home, no_network):
    bunch = fetch_matbench("matbench_phonons", data_home=data_home)
    assert len(bunch.data) == len(bunch.target) == 1265
    assert bunch.data[0].reduced_formula == "BaTe"
    assert bunch.target[0] == pytest.approx(98.58577122703691)
    assert bunch.unit == "1/cm"
    assert "the published file" in bunch.DESCR
    raw = json.loads(gzip.decompress((data_home / "matbench_phonons.json.gz").read_bytes()))["data"]
    for row in (0, 17, 600, 1264):
        assert bunch.data[row] == Structure.from_dict(raw[row][0])
        assert bunch.target[row] == raw[row][1]


def test_rebuilt_jdft2d_says_that_it_is_rebuilt(data_home, no_network):
    bunch = fetch_matbench("matbench_jdft2d", data_home=data_home)
    assert len(bunch.data) == 636
    assert bunch.data[0].reduced_formula == "HfSiTe"
    assert bunch.target[0] == pytest.approx(63.593833333333016)
    if bunch.filename.endswith("rebuilt.json.gz"):
        assert "not the published file" in bunch.DESCR
        assert load_registry()["matbench_jdft2d"].rebuilt[0].sha256 in bunch.DESCR


def test_dielectric_constant(data_home, no_network):
    bunch = fetch_matminer("dielectric_constant", data_home=data_home)
    assert bunch.target_names == ["poly_total"]
    assert bunch.unit == "dimensionless"
    assert len(bunch.data) == 1056
    assert bunch.data[0].reduced_formula == "Rb2Te"
    assert bunch.target[0] == 6.23
    assert np.isfinite(np.log10(bunch.target)).all()
