"""Frames of crystals, their labels, and how pretraining reads them; the potential is one of ASE's."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure

pytestmark = pytest.mark.usefixtures("benchmarks")


@pytest.fixture
def corpus(tmp_path):
    """A Parquet file of crystals of argon and krypton, of one to four atoms."""
    rng = np.random.default_rng(0)
    rows = []
    for n_atoms in (1, 2, 4, 3):
        crystal = Structure(Lattice.cubic(6 + n_atoms), ["Ar", "Kr"] * 2, rng.random((4, 3)))[:n_atoms]
        structure = Structure.from_sites(crystal)
        rows.append(
            {
                "immutable_id": str(n_atoms),
                "lattice_vectors": structure.lattice.matrix.tolist(),
                "species_at_sites": [str(species) for species in structure.species],
                "cartesian_site_positions": structure.cart_coords.tolist(),
                "chemical_formula_reduced": structure.reduced_formula,
                "formation_energy_per_atom": float(n_atoms),
                "band_gap": 0.5,
                "efermi": 0.1,
                "total_magnetization": -2.0,
                "e_above_hull": None,
            }
        )
    pd.DataFrame(rows).to_parquet(tmp_path / "mp_pretrain.parquet")
    return tmp_path


@pytest.fixture
def labelled(corpus, monkeypatch):
    """The folder after benchmarks/forces.py has run over all crystals of up to three atoms, two frames each."""
    ase = pytest.importorskip("ase.calculators.lj")
    fake = ModuleType("sevenn.calculator")
    fake.SevenNetCalculator = lambda name, device: ase.LennardJones(sigma=3.4, epsilon=0.01, rc=9.0)
    monkeypatch.setitem(sys.modules, "sevenn", ModuleType("sevenn"))
    monkeypatch.setitem(sys.modules, "sevenn.calculator", fake)
    import forces

    monkeypatch.setattr(
        forces.joblib, "parallel_config", lambda *args, **kwargs: forces.joblib.parallel_backend("threading")
    )
    arguments = ["--data", str(corpus), "--work", str(corpus), "--max-atoms", "3", "--frames", "0", "1"]
    monkeypatch.setattr(sys, "argv", ["forces.py", *arguments])
    forces.main()
    return corpus


def test_labels_are_those_of_the_frames(labelled):
    from _common import sha256
    from ase.calculators.lj import LennardJones
    from forces import rattled, read_frames

    from crystalssl.datasets import read_optimade_parquet

    path = labelled / "mp_pretrain.parquet"
    read = read_frames(labelled, sha256(path))
    assert list(zip(read["row"], read["frame"], strict=True)) == [(0, 0), (0, 1), (1, 0), (1, 1), (3, 0), (3, 1)]
    structures = read_optimade_parquet(path).data
    for i, (row, frame) in enumerate(zip(read["row"], read["frame"], strict=True)):
        atoms = rattled(structures[row], row, frame).to_ase_atoms()
        atoms.calc = LennardJones(sigma=3.4, epsilon=0.01, rc=9.0)
        start, stop = read["offsets"][i : i + 2]
        np.testing.assert_allclose(read["forces"][start:stop], atoms.get_forces(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(read["stress"][i], atoms.get_stress(voigt=False), rtol=1e-5, atol=1e-6)
        assert read["energy"][i] == pytest.approx(atoms.get_potential_energy() / len(atoms))


def test_what_is_there_is_not_computed_again(labelled, capsys):
    import forces

    forces.main()
    assert capsys.readouterr().out == ""


def test_frames_differ_and_are_always_the_same(corpus):
    from forces import rattled

    from crystalssl.datasets import read_optimade_parquet

    structure = read_optimade_parquet(corpus / "mp_pretrain.parquet").data[2]
    first, second, again = rattled(structure, 2, 0), rattled(structure, 2, 1), rattled(structure, 2, 0)
    assert first == again
    assert first != second
    strain = np.linalg.inv(structure.lattice.matrix) @ first.lattice.matrix - np.eye(3)
    np.testing.assert_allclose(strain, strain.T, atol=1e-12)
    assert 0 < abs(strain).max() < 0.1


def test_pretraining_reads_frames(labelled):
    from _common import sha256
    from pretrain import frames_of

    path = labelled / "mp_pretrain.parquet"
    graphs, labels = frames_of(path, sha256(path), labelled, "gatedgcn", [1])
    assert np.diff(graphs.atom_offsets).tolist() == [1, 2, 3]
    assert [len(forces) for forces in labels.forces] == [1, 2, 3]
    assert labels.formation_energy_per_atom.tolist() == [1, 2, 3]
    assert labels.total_magnetization.tolist() == [2, 1, 2 / 3]
    assert np.shape(labels.virial[2]) == (3, 3)
    # Relative to the elements, of which a fit of three energies by two elements leaves little.
    assert abs(labels.energy).max() < 0.1


def test_without_labels_the_script_says_what_to_run(corpus):
    from forces import read_frames

    with pytest.raises(SystemExit, match=r"run benchmarks/forces.py first"):
        read_frames(corpus, "0" * 64)
