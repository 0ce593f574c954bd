"""Frames of crystals, their labels, and how pretraining reads them; the potential is one of ASE's."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from pymatgen.core import Lattice, Structure

FRAMES = [-2, -1, 0, 1]
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


def lennard_jones(structure, *, moved=0.0, strain=None):
    """Return energy, forces and stress of a structure, displaced and strained, by ASE."""
    from ase.calculators.lj import LennardJones

    atoms = structure.to_ase_atoms()
    atoms.positions += moved
    if strain is not None:
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    atoms.calc = LennardJones(sigma=3.4, epsilon=0.01, rc=9.0, smooth=True)
    return atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(voigt=False)


@pytest.fixture
def potential(monkeypatch):
    """benchmarks/potential.py with the potential of Lennard and Jones."""
    pytest.importorskip("ase.calculators.lj")
    import potential
    from _potential import Energies, Potential

    class Simple(Potential):
        def __init__(self, device):
            self.device = torch.device(device)

        def __call__(self, crystals, moved=None, strain=None):
            found = []
            for i, lattice in enumerate(crystals.lattices.numpy()):
                atoms = crystals.crystal == i
                structure = Structure(
                    lattice, crystals.numbers[atoms], crystals.positions[atoms], coords_are_cartesian=True
                )
                move = 0.0 if moved is None else moved[atoms].numpy()
                found.append(lennard_jones(structure, moved=move, strain=None if strain is None else strain[i].numpy()))
            energies, forces, stresses = zip(*found, strict=True)
            return Energies(*(torch.from_numpy(join(item)) for join, item in (
                (np.array, energies), (np.concatenate, forces), (np.stack, stresses),
            )))  # fmt: skip

    monkeypatch.setattr(potential, "Potential", Simple)
    monkeypatch.setattr(
        potential.joblib, "parallel_config", lambda *_, **__: potential.joblib.parallel_backend("threading")
    )
    return potential


@pytest.fixture
def labelled(corpus, potential, monkeypatch):
    """The folder after benchmarks/potential.py has run over all crystals of up to three atoms, four frames each."""
    frames = [str(frame) for frame in FRAMES]
    arguments = ["--data", str(corpus), "--work", str(corpus), "--max-atoms", "3", "--chunk", "4", "--frames", *frames]
    monkeypatch.setattr(sys, "argv", ["potential.py", *arguments])
    potential.main()
    from _common import sha256
    from dispersion import dispersion_file

    np.savez(
        dispersion_file(corpus, sha256(corpus / "mp_pretrain.parquet")),
        row=[0, 1, 3],
        rest=-np.ones(3),
        layer=np.zeros(3),
    )
    return corpus


def labels_in(folder):
    from _common import sha256
    from _frames import read_frames
    from potential import labels_folder

    return read_frames(labels_folder(folder, sha256(folder / "mp_pretrain.parquet")))


def test_labels_are_those_of_the_frames(labelled):
    from _frames import frame_of

    from crystalssl.datasets import read_optimade_parquet

    read = labels_in(labelled)
    assert list(zip(read["row"], read["frame"], strict=True)) == [(row, frame) for row in (0, 1, 3) for frame in FRAMES]
    structures = read_optimade_parquet(labelled / "mp_pretrain.parquet").data
    for i, (row, frame) in enumerate(zip(read["row"], read["frame"], strict=True)):
        structure = frame_of(structures[row], row, frame)
        energy, forces, stress = lennard_jones(structure)
        start, stop = read["offsets"][i : i + 2]
        np.testing.assert_allclose(read["forces"][start:stop], forces, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(read["stress"][i], stress, rtol=1e-4, atol=1e-5)
        assert read["energy"][i] == pytest.approx(energy / len(structure))
        assert np.isnan(read["frequency"][i]) == np.isnan(read["stiffness"][i]).any() == (frame != -1)


def test_the_highest_frequency_is_that_of_all_force_constants(potential):
    from _potential import side_by_side
    from ase.data import atomic_masses

    positions = [[0, 0, 0], [3.6, 0.2, 0], [0.1, 3.7, 0.3], [0.2, 0.1, 3.9], [3.5, 3.8, 0.1]]
    chain = Structure(Lattice.cubic(7.4), ["Ar", "Kr", "Ar", "Kr", "He"], positions, coords_are_cartesian=True)
    pair = Structure(Lattice.cubic(4.2), ["Ar", "Kr"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    simple = potential.Potential("cpu")
    found = potential.highest_frequencies(simple, simple.put(side_by_side([chain, pair], 0.0)), steps=12)
    for structure, frequency in zip([chain, pair], found.tolist(), strict=True):
        constants, size = [], 0.01
        for atom, axis in np.ndindex(len(structure), 3):
            move = np.zeros((len(structure), 3))
            move[atom, axis] = size
            forces = [lennard_jones(structure, moved=sign * move)[1].ravel() for sign in (-1, 1)]
            constants.append((forces[0] - forces[1]) / (2 * size))
        masses = np.repeat(atomic_masses[list(structure.atomic_numbers)], 3)
        largest = np.linalg.eigvalsh(np.array(constants) / np.sqrt(np.outer(masses, masses)))[-1]
        assert frequency == pytest.approx(np.sqrt(largest) * potential.INVERSE_CM, rel=0.01)


def test_the_stiffness_is_the_curvature_of_the_energy(potential):
    from _potential import side_by_side

    crystal = Structure(Lattice.cubic(5.3), ["Ar"] * 4, [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    simple = potential.Potential("cpu")
    (stiffness,) = potential.clamped_stiffness(simple, simple.put(side_by_side([crystal], 0.0))).numpy()
    np.testing.assert_allclose(stiffness, stiffness.T, atol=0.02 * abs(stiffness).max())
    for column, strain in ((0, np.diag([0.01, 0, 0])), (5, np.array([[0, 0.005, 0], [0.005, 0, 0], [0, 0, 0]]))):
        energies = [lennard_jones(crystal, strain=sign * strain)[0] for sign in (-1, 0, 1)]
        # The energy's curvature is that of the stress but for terms of the stress itself, which is small here.
        curvature = (energies[0] - 2 * energies[1] + energies[2]) / 0.01**2 / crystal.volume * potential.GPA
        assert stiffness[column, column] == pytest.approx(curvature, rel=0.2)


def test_what_is_there_is_not_computed_again(labelled, potential, capsys):
    capsys.readouterr()
    potential.main()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("turn", [0, 1, 2])
def test_a_layer_is_one_of_the_crystal(turn):
    from _frames import VACUUM, layer

    # Two layers of MoS2 in the cell, along each of its axes.
    sites = [(0, 0, 0.25), (1, 0, 0.75), (2, 0, 0.12), (2, 0, 0.38), (2, 0, 0.62), (2, 0, 0.88)]
    species = ["Mo" if kind < 2 else "S" for kind, *_ in sites]
    corners = np.array([[1 / 3, 2 / 3, height] for _, _, height in sites])
    matrix = Lattice.hexagonal(3.2, 12.3).matrix
    bulk = Structure(matrix[np.roll([0, 1, 2], turn)], species, corners[:, np.roll([0, 1, 2], turn)])
    found = layer(bulk)
    assert found.composition.reduced_formula == "MoS2"
    assert len(found) == 3
    assert np.linalg.det(found.lattice.matrix) > 0
    heights = found.cart_coords @ found.lattice.matrix[2] / found.lattice.c
    assert np.ptp(heights) == pytest.approx(0.26 * 12.3)
    assert found.lattice.c == pytest.approx(0.26 * 12.3 + VACUUM)
    assert sorted(found.lattice.abc[:2]) == pytest.approx([3.2, 3.2])
    # Bonds inside of the layer are those of the crystal.
    assert found.get_distance(0, 1) == pytest.approx(bulk.get_distance(0, 2))


def test_frames_differ_and_are_always_the_same(corpus):
    from _frames import rattled

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
    graphs, labels = frames_of(path, sha256(path), labelled, "gatedgcn")
    assert len(graphs) == len(labels) == 12
    assert [len(forces) for forces in labels.forces] == np.diff(graphs.atom_offsets).tolist()
    frames = np.tile(FRAMES, 3)
    read = labels_in(labelled)
    # The database says nothing of a layer.
    assert labels.formation_energy_per_atom.tolist()[1:4] == [1, 1, 1]
    assert labels.formation_energy_per_atom.isna().tolist() == (frames == -2).tolist()
    assert labels.total_magnetization[frames == 0].tolist() == [2, 1, 2 / 3]
    assert labels.exfoliation.notna().tolist() == (frames == -2).tolist()
    expected = read["energy"][frames == -2] - read["energy"][frames == -1] + 1  # of dispersion
    np.testing.assert_allclose(10 ** labels.exfoliation[frames == -2] - 0.01, np.maximum(expected, 0), rtol=1e-6)
    for name in ("frequency", "log10_k", "log10_g"):
        assert labels[name].notna().tolist() == (frames == -1).tolist()
    assert np.shape(labels.virial[2]) == (3, 3)
    graphs, some = frames_of(path, sha256(path), labelled, "gatedgcn", [1])
    assert len(graphs) == 3
    assert some.formation_energy_per_atom.tolist() == [1, 2, 3]


def test_moduli_are_those_of_an_isotropic_solid():
    from pretrain import voigt_averages

    bulk, shear = 100.0, 40.0
    stiffness = np.zeros((1, 6, 6))
    stiffness[0, :3, :3] = bulk - 2 * shear / 3
    stiffness[0, range(3), range(3)] += 2 * shear
    stiffness[0, range(3, 6), range(3, 6)] = shear
    assert [float(value[0]) for value in voigt_averages(stiffness)] == pytest.approx([bulk, shear])


def test_without_labels_the_script_says_what_to_run(tmp_path):
    from _frames import read_frames

    with pytest.raises(SystemExit, match=r"run benchmarks/potential.py first"):
        read_frames(tmp_path)
