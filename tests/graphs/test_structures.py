"""Validation: what counts as a collection of crystals, and which crystals are refused, by name."""

from __future__ import annotations

import glob
import os
import pickle
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import DummySpecies, Element, IStructure, Lattice, Molecule, Structure

from crystalssl import CrystalGraphTransformer, check_structures
from crystalssl.exceptions import CrystalSSLError, InvalidStructureError, NotACrystalError, SkippedStructureWarning

CUBE = Lattice.cubic(4.2)
CESIUM_CHLORIDE = [[0, 0, 0], [0.5, 0.5, 0.5]]


def cscl(species=("Cs", "Cl"), sites=CESIUM_CHLORIDE, lattice=CUBE):
    return Structure(lattice, species, sites)


def bare_cell(matrix):
    return Structure(Lattice(matrix), ["Cs", "Cl"], CESIUM_CHLORIDE)


def read_both_ways(items):
    """The two doors through which crystals come in."""
    yield lambda: check_structures(items)
    yield lambda: CrystalGraphTransformer().transform(items)


# ---------------------------------------------------------------------- crystals that are refused

INVALID = {
    "empty": (Structure(CUBE, [], []), "the crystal has no atoms"),
    "mixed site": (cscl([{"Cs": 0.5, "Rb": 0.5}, "Cl"]), "partially occupied; order the structure first"),
    "vacancies": (cscl(["Cs", {"Cl": 0.9}]), "'Cl:0.9.*' is partially occupied"),
    "NaN coordinates": (cscl(sites=[[0, 0, 0], [0.5, np.nan, 0.5]]), "atom 1 has NaN or infinite coordinates"),
    "infinite coordinates": (cscl(sites=[[np.inf, 0, 0], [0.5, 0.5, 0.5]]), "atom 0 has NaN or infinite coordinates"),
    "NaN in the lattice": (bare_cell([[4, 0, 0], [0, np.nan, 0], [0, 0, 4]]), "the lattice holds NaN or infinite"),
    "infinite lattice": (bare_cell([[4, 0, 0], [0, np.inf, 0], [0, 0, 4]]), "the lattice holds NaN or infinite"),
    "flat cell": (bare_cell([[4, 0, 0], [0, 4, 0], [4, 4, 0]]), "the cell has zero volume"),
    "no cell": (bare_cell(np.zeros((3, 3))), "the cell has zero volume"),
    "two atoms almost in one place": (cscl(sites=[[0, 0, 0], [0, 0, 0.02]]), "atoms 0 and 1 are 0.084 Å apart"),
    "two atoms in one place": (cscl(sites=[[0, 0, 0], [0, 0, 0]]), "atoms 0 and 1 are 0 Å apart"),
    "two atoms close across the border": (cscl(sites=[[0, 0, 0.01], [0, 0, 0.99]]), "atoms 0 and 1 are 0.084 Å apart"),
    "atom close to its own image": (Structure(Lattice.orthorhombic(5, 5, 0.05), ["H"], [[0, 0, 0]]), "0.05 Å apart"),
    "lattice in nm": (
        bare_cell(0.42 * np.eye(3)),
        "the cell has 0.037 Å³ per atom, less than any .*; is its",
    ),
    "lattice in fm": (bare_cell(4.2e5 * np.eye(3)), r"the cell is 4.2e\+05 Å long; is its lattice in Å"),
    "flat and wide": (bare_cell(np.diag([1e4, 1e4, 1e-7])), "atoms 0 and 0 are 1e-07 Å apart"),
    "skewed beyond measure": (bare_cell([[9, 0, 0], [9000, 1e-4, 0], [0, 0, 900]]), "the cell is too skewed"),
    "atoms a billion cells away": (cscl(sites=[[0, 0, 0], [1e9, 0.5, 0.5]]), "its atoms lie too far outside it"),
    "atoms beyond numbers": (cscl(sites=[[0, 0, 0], [1e80, 0.5, 0.5]]), "its atoms lie too far outside it"),
    "coordinates whose sum is infinite": (cscl(sites=[[4e307, 0, 0], [4e307, 0, 0]]), "its atoms lie too far outside"),
    "dummy species": (cscl(["Cs", DummySpecies("X")]), "dummy species, which are not elements"),
    "missing file": ("nowhere/NaCl.cif", "there is no file 'nowhere/NaCl.cif'"),
    "periodic along two axes": (
        cscl(lattice=Lattice(CUBE.matrix, pbc=(True, True, False))),
        r"periodic along \(True, True, False\) only",
    ),
}


@pytest.mark.parametrize("position", [0, 2])
@pytest.mark.parametrize(("crystal", "reason"), INVALID.values(), ids=INVALID)
def test_invalid_crystal_is_named_with_the_reason(crystal, reason, position):
    items = [cscl()] * 3
    items[position] = crystal
    for read in read_both_ways(items):
        with pytest.raises(InvalidStructureError, match=rf"(?s)^item {position}\b.*{reason}") as caught:
            read()
        assert caught.value.index == position
        assert isinstance(caught.value, ValueError)
        assert isinstance(caught.value, CrystalSSLError)


NO_CRYSTALS = {
    "None": None,
    "number": 3.5,
    "NaN": float("nan"),
    "formula as bytes": b"NaCl",
    "dict": {"lattice": 1},
    "molecule": Molecule(["H", "H"], [[0, 0, 0], [0, 0, 0.7]]),
    "site": cscl()[0],
    "list": [cscl()],
}


@pytest.mark.parametrize("cell", [[0, 0, 0], [[1, 0, 1], [-1, 0, 1], [0, 0, 1]], [4, np.nan, 4]])
def test_ase_atoms_without_a_volume_are_refused(cell):
    atoms = pytest.importorskip("ase").Atoms("H", cell=cell, pbc=True)
    for read in read_both_ways([cscl(), atoms]):
        with pytest.raises(InvalidStructureError, match=r"^item 1: ") as caught:
            read()
        assert caught.value.index == 1


@pytest.mark.parametrize("item", NO_CRYSTALS.values(), ids=NO_CRYSTALS)
def test_item_that_is_no_crystal_is_named_with_its_type(item):
    for read in read_both_ways([cscl(), item]):
        with pytest.raises(NotACrystalError, match=rf"^item 1: {type(item).__name__} is not a crystal") as caught:
            read()
        assert caught.value.index == 1
        assert isinstance(caught.value, TypeError)
        assert isinstance(caught.value, ValueError)


def test_distance_just_above_the_limit_is_accepted():
    close = cscl(sites=[[0, 0, 0], [0, 0, 0.101 / 4.2]])
    assert check_structures([close])[0] is close


def test_error_keeps_its_index_when_pickled():
    for error in (InvalidStructureError("item 7: bad", 7), NotACrystalError("item 7: bad", 7)):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), copy.index) == (type(error), "item 7: bad", 7)


def test_unreadable_file_is_named(tmp_path):
    path = tmp_path / "broken.cif"
    path.write_text("data_broken\n_cell_length_a 4.2\nloop_\n_atom_site_label\n")
    for read in read_both_ways([cscl(), path]):
        with pytest.raises(InvalidStructureError, match=r"item 1: cannot read a crystal from .*broken\.cif") as caught:
            read()
        assert caught.value.index == 1
        assert caught.value.__cause__ is not None


# ---------------------------------------------------------------------- left-handed cells

SKEWED = Lattice.from_parameters(4.1, 5.2, 6.3, 80, 95, 110)
PLACES = [[0.01, 0.02, 0.03], [0.5, 0.48, 0.55], [0.2, 0.7, 0.1]]
# The same lattice by other vectors: in another order, reversed, or as LLL reduction and standard cells make them.
HANDS = {
    "swapped": [[0, 1, 0], [1, 0, 0], [0, 0, 1]],
    "reversed": [[-1, 0, 0], [0, -1, 0], [0, 0, -1]],
    "one reversed": [[1, 0, 0], [0, 1, 0], [0, 0, -1]],
    "combined": [[1, 1, 0], [1, 0, 0], [2, 0, 1]],
}


def left_handed(structure, vectors):
    """The same crystal: Cartesian positions stay, and the vectors span the same lattice."""
    matrix = np.array(vectors) @ structure.lattice.matrix
    assert np.linalg.det(matrix) == pytest.approx(-structure.volume)
    return Structure(Lattice(matrix), structure.species, structure.cart_coords, coords_are_cartesian=True)


@pytest.mark.parametrize("encoder", ["cgcnn", "megnet"])
@pytest.mark.parametrize("vectors", HANDS.values(), ids=HANDS)
def test_left_handed_cell_is_the_same_crystal(vectors, encoder):
    crystal = Structure(SKEWED, ["Ti", "O", "O"], PLACES)
    other = left_handed(crystal, vectors)
    [checked] = check_structures([other])
    assert checked is other
    ase = pytest.importorskip("ase").Atoms("TiOO", positions=other.cart_coords, cell=other.lattice.matrix, pbc=True)
    same = [crystal, other, ase, other.as_dict()]
    assert np.abs(check_structures(same)[2].cart_coords - crystal.cart_coords).max() < 1e-12
    graphs = CrystalGraphTransformer(encoder).transform(same)
    n = len(graphs[:1].distances)
    for number in (1, 2, 3):
        one, two = graphs[:1], graphs[number : number + 1]
        assert np.array_equal(np.diff(one.edge_offsets), np.diff(two.edge_offsets))
        assert np.abs(np.sort(one.distances) - np.sort(two.distances)).max() < 1e-5
        shifts = two.images.astype(float) @ two.lattice[0]
        centers = np.repeat(np.arange(3), np.diff(two.edge_offsets))
        found = np.linalg.norm(two.positions[two.neighbors] + shifts - two.positions[centers], axis=1)
        assert found == pytest.approx(two.distances, abs=1e-5)
        assert n == len(two.distances)


@pytest.mark.parametrize("method", ["barlow", "joint"])
def test_predictions_of_left_handed_cells_are_those_of_right_handed_ones(prototypes, method):
    from crystalssl import PretrainedCrystalEmbedder

    crystals = [crystal for crystal in prototypes[::29] if len(crystal) < 30]
    others = [left_handed(crystal, vectors) for crystal, vectors in zip(crystals, 3 * [*HANDS.values()], strict=False)]
    embedder = PretrainedCrystalEmbedder(method).fit([])
    expected = embedder.transform(crystals[: len(others)])
    assert np.abs(embedder.transform(others) - expected).max() < 1e-5 * np.abs(expected).max()


def test_pretraining_takes_left_handed_cells(prototypes):
    from crystalssl import PretrainedCrystalEmbedder

    crystals = [left_handed(crystal, HANDS["swapped"]) for crystal in prototypes[:12]]
    for method in ("joint", "cdssl"):
        embedder = PretrainedCrystalEmbedder(method, weights=None, max_epochs=1, random_state=0).fit(crystals)
        assert np.isfinite(embedder.transform(crystals)).all()


# ---------------------------------------------------------------------- one element on a site, in several kinds

ONE_ELEMENT = {
    "ions": {"Fe2+": 0.5, "Fe3+": 0.5},
    "ion and element": {"Fe2+": 0.25, "Fe": 0.75},
    "thirds": {"Fe2+": 0.333, "Fe3+": 0.333, "Fe4+": 0.333},
    "rounded": {"Fe": 0.9999},
}


@pytest.mark.parametrize("species", ONE_ELEMENT.values(), ids=ONE_ELEMENT)
def test_ions_of_one_element_fill_a_site(species):
    crystal = cscl([species, "O"])
    crystal.add_site_property("magmom", [1.0, 2.0])
    [checked] = check_structures([crystal])
    assert [str(site.species) for site in checked] == ["Fe1", "O1"]
    assert checked.site_properties["magmom"] == [1.0, 2.0]
    assert np.array_equal(checked.frac_coords, crystal.frac_coords)
    assert CrystalGraphTransformer().transform([crystal]).atomic_numbers.tolist() == [26, 8]


def test_isotopes_of_hydrogen_fill_a_site():
    assert check_structures([cscl([{"H": 0.4, "D": 0.6}, "F"])])[0].formula == "H1 F1"


# ---------------------------------------------------------------------- ASE Atoms that hide what their file says

SALT_CIF = """data_x
_cell_length_a 5.64
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F m -3 m'
_symmetry_Int_Tables_number 225
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
"""
PARTIAL = {
    "mixed": "Na1 Na 0 0 0 0.6\nK1 K 0 0 0 0.4\nCl1 Cl 0.5 0.5 0.5 1\n",
    "vacancies": "Na1 Na 0 0 0 0.5\nCl1 Cl 0.5 0.5 0.5 1\n",
    "few vacancies": "Na1 Na 0 0 0 1\nCl1 Cl 0.5 0.5 0.5 0.98\n",
}


@pytest.mark.parametrize("sites", PARTIAL.values(), ids=PARTIAL)
def test_partial_occupancy_is_refused_by_path_and_as_atoms(tmp_path, sites):
    read = pytest.importorskip("ase.io").read
    path = tmp_path / "partial.cif"
    path.write_text(SALT_CIF + sites)
    atoms = read(path)
    assert atoms.info["occupancy"]
    for item in (path, atoms, atoms.repeat(2)):
        for check in read_both_ways([cscl(), item]):
            with pytest.raises(InvalidStructureError, match=r"item 1.*partially occupied.*order the structure first"):
                check()


def test_full_occupancy_of_atoms_is_accepted(tmp_path):
    read = pytest.importorskip("ase.io").read
    path = tmp_path / "full.cif"
    path.write_text(SALT_CIF + "Na1 Na 0 0 0 0.9999\nCl1 Cl 0.5 0.5 0.5 1\n")
    atoms = read(path)
    assert atoms.info["occupancy"]
    assert [structure.formula for structure in check_structures([atoms, path])] == ["Na4 Cl4"] * 2
    # What is left of a crystal with a partially occupied site that was taken out.
    path.write_text(SALT_CIF + PARTIAL["vacancies"])
    atoms = read(path)
    assert check_structures([atoms[atoms.numbers == 17]])[0].formula == "Cl4"


@pytest.mark.parametrize("name", ["occupancy", "occupancies"])
def test_occupancy_by_atom_is_heeded(name):
    atoms = pytest.importorskip("ase").Atoms("CsCl", scaled_positions=CESIUM_CHLORIDE, cell=[4.2] * 3, pbc=True)
    atoms.set_array(name, np.array([1.0, 0.9999]))
    assert check_structures([atoms]) == [cscl()]
    atoms.set_array(name, np.array([1.0, 0.5]))
    with pytest.raises(InvalidStructureError, match=r"item 0: sites of the ASE Atoms are partially occupied"):
        check_structures([atoms])


# ---------------------------------------------------------------------- objects of other releases and packages


def test_lattice_of_an_old_pickle_is_periodic():
    old = cscl(lattice=Lattice.cubic(4.2))
    del old.lattice._pbc
    with pytest.raises(AttributeError):
        _ = old.lattice.pbc
    [checked] = check_structures([old])
    assert checked == cscl()
    assert checked.lattice.pbc == (True, True, True)
    graphs = CrystalGraphTransformer().transform([old, cscl()])
    assert np.array_equal(*graphs.distances.reshape(2, -1))


@pytest.mark.parametrize("missing", ["_sites", "_lattice"])
def test_incomplete_structure_is_named_with_the_remedy(missing):
    broken = cscl()
    delattr(broken, missing)
    for read in read_both_ways([cscl(), broken]):
        with pytest.raises(
            InvalidStructureError, match=r"item 1: the Structure is incomplete .*build it anew: Structure\("
        ):
            read()
    with pytest.warns(SkippedStructureWarning):
        assert len(CrystalGraphTransformer(on_error="skip").transform([cscl(), broken])) == 1


def test_subclasses_are_crystals():
    class Annotated(Structure):
        """Of another package."""

    annotated = Annotated.from_sites(cscl())
    assert check_structures([annotated])[0] is annotated


REMEDIES = {
    "molecule": (Molecule(["H", "H"], [[0, 0, 0], [0, 0, 0.7]]), "get_boxed_structure"),
    "text as bytes": (b"data_x\n", r"item.decode\(\)"),
    "missing": (None, "leave missing crystals out"),
    "nested": ([cscl()], "pass one flat list"),
    "other dict": ({"numbers": [1]}, r"Structure.as_dict\(\)"),
    "entry": (SimpleNamespace(structure=cscl()), "pass its .structure"),
}


@pytest.mark.parametrize(("item", "remedy"), REMEDIES.values(), ids=REMEDIES)
def test_remedy_is_named(item, remedy):
    with pytest.raises(NotACrystalError, match=rf"item 1: \w+ is not a crystal; .*{remedy}"):
        check_structures([cscl(), item])
    with pytest.warns(SkippedStructureWarning, match="1 of 2 crystals were skipped"):
        assert len(CrystalGraphTransformer(on_error="skip").transform([cscl(), item])) == 1


# ---------------------------------------------------------------------- elements


def test_element_that_is_not_allowed_is_named():
    items = [cscl(), cscl(["Cs", "Br"]), cscl(["Rb", "I"])]
    with pytest.raises(InvalidStructureError, match="item 1: the encoder's weights have never seen Br") as caught:
        check_structures(items, elements=[55, 17])
    assert caught.value.index == 1
    with pytest.raises(InvalidStructureError, match="never seen Rb, I"):
        check_structures(items[2:], elements={55, 17})


def test_allowed_elements_pass():
    items = [cscl(), cscl(["Cs", "Br"])]
    assert check_structures(items, elements=(17, 35, 55)) == items
    assert check_structures(items, elements=None) == items


def test_oxidation_states_do_not_hide_an_element():
    with pytest.raises(InvalidStructureError, match="never seen Cs"):
        check_structures([cscl(["Cs+", "Cl-"])], elements=[17])


def test_oxidation_states_are_dropped_and_the_input_is_left_alone():
    charged = cscl(["Cs+", "Cl-"])
    [structure] = check_structures([charged])
    assert structure.species == [Element("Cs"), Element("Cl")]
    assert structure == cscl()
    assert [str(species) for species in charged.species] == ["Cs+", "Cl-"]


def test_what_needs_no_change_is_not_copied():
    items = [cscl(), cscl(["Cs", "Br"])]
    checked = check_structures(items)
    assert checked is not items
    assert all(a is b for a, b in zip(checked, items, strict=True))


# ---------------------------------------------------------------------- containers


def object_array(items, shape=(-1,)):
    array = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        array[i] = item
    return array.reshape(shape)


def series(items):
    return pytest.importorskip("pandas").Series(items, index=[7 + 2 * i for i in range(len(items))])


def polars_series(items):
    return pytest.importorskip("polars").Series("structure", items, dtype=pytest.importorskip("polars").Object)


CONTAINERS = {
    "list": list,
    "generator": lambda items: (item for item in items),
    "map": lambda items: map(Structure.copy, items),
    "values": lambda items: dict(enumerate(items)).values(),
    "deque": deque,
    "polars series": polars_series,
    "polars frame": lambda items: polars_series(items).to_frame(),
    "tuple": tuple,
    "array": object_array,
    "column": lambda items: object_array(items, (-1, 1)),
    "series": series,
    "one-column frame": lambda items: series(items).to_frame("structure"),
}


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
@pytest.mark.parametrize("n", [1, 3])
def test_accepted_containers(container, n):
    items = [cscl(), cscl(["Cs", "Br"]), cscl(["Tl", "I"])][:n]
    assert check_structures(container(items)) == items
    assert len(CrystalGraphTransformer().transform(container(items))) == n


@pytest.mark.parametrize("container", [list, tuple, object_array, series])
def test_no_crystals_at_all(container):
    assert check_structures(container([])) == []
    with pytest.raises(ValueError, match="no crystals were given"):
        CrystalGraphTransformer().transform(container([]))


def test_immutable_structures_are_crystals():
    frozen = IStructure.from_sites(cscl())
    assert check_structures([frozen]) == [frozen]


@pytest.mark.parametrize("as_type", [str, Path])
@pytest.mark.parametrize("name", ["CsCl.cif", "POSCAR", "CsCl.json"])
def test_paths_are_read(tmp_path, name, as_type):
    path = os.fspath(tmp_path / name)
    cscl().to(path)
    [structure] = check_structures([as_type(path)])
    assert structure.matches(cscl())
    assert structure.composition == cscl().composition


def test_ase_atoms_are_read():
    atoms = pytest.importorskip("ase").Atoms("CsCl", scaled_positions=CESIUM_CHLORIDE, cell=[4.2] * 3, pbc=True)
    [structure] = check_structures([atoms])
    assert structure == cscl()
    graphs = CrystalGraphTransformer().transform([atoms, cscl()])
    assert np.array_equal(*graphs.distances.reshape(2, -1))


@pytest.mark.parametrize("pbc", [False, (True, True, False)])
def test_ase_atoms_that_are_not_periodic_are_refused(pbc):
    atoms = pytest.importorskip("ase").Atoms("CsCl", scaled_positions=CESIUM_CHLORIDE, cell=[4.2] * 3, pbc=pbc)
    with pytest.raises(InvalidStructureError, match=r"item 1: the ASE Atoms are periodic along \[.*False\] only"):
        check_structures([cscl(), atoms])


@pytest.mark.parametrize("kind", ["Structure", "Atoms", "str", "path"])
def test_single_crystal_must_be_wrapped_in_a_list(kind, tmp_path):
    if kind == "Atoms":
        single = pytest.importorskip("ase").Atoms("CsCl", scaled_positions=CESIUM_CHLORIDE, cell=[4.2] * 3, pbc=True)
    else:
        single = {"Structure": cscl(), "str": "POSCAR", "path": tmp_path / "POSCAR"}[kind]
    for read in read_both_ways(single):
        with pytest.raises(NotACrystalError, match=r"X is a single \w+; expected a list.*Wrap it in a list: \[X\]"):
            read()


def test_matrix_of_sites_is_explained():
    sites = np.array([cscl(), cscl()], dtype=object)
    assert sites.shape == (2, 2)  # that is what numpy makes of two crystals
    for read in read_both_ways(sites):
        with pytest.raises(NotACrystalError, match=r"shape \(2, 2\).*holds sites: numpy took each Structure for a"):
            read()


def test_column_of_sites_is_refused():
    # Crystals of one atom become a column, the shape that is otherwise welcome.
    polonium = Structure(Lattice.cubic(3.3), ["Po"], [[0, 0, 0]])
    sites = np.array([polonium, polonium], dtype=object)
    assert sites.shape == (2, 1)
    for read in read_both_ways(sites):
        with pytest.raises(NotACrystalError, match="item 0: PeriodicSite is not a crystal"):
            read()


def test_frame_with_two_columns_is_refused():
    frame = series([cscl(), cscl()]).to_frame("structure").assign(y=[1.0, 2.0])
    for read in read_both_ways(frame):
        with pytest.raises(NotACrystalError, match="DataFrame with 2 columns"):
            read()


def test_paths_from_glob_are_read(tmp_path):
    for name in ("a", "b"):
        cscl().to(str(tmp_path / f"{name}.cif"))
    assert [structure.formula for structure in check_structures(tmp_path.glob("*.cif"))] == ["Cs1 Cl1"] * 2
    assert len(CrystalGraphTransformer().transform(glob.iglob(f"{tmp_path}/*.cif"))) == 2


@pytest.mark.parametrize("single", [cscl().as_dict(), Molecule(["H"], [[0, 0, 0]]), "data_x\n"])
def test_other_single_items_must_be_wrapped_too(single):
    for read in read_both_ways(single):
        with pytest.raises(NotACrystalError, match=r"X is a single \w+; expected a list.*Wrap it in a list: \[X\]"):
            read()


@pytest.mark.parametrize(
    "X", [{cscl().formula}, np.ones((3, 4)), np.array(cscl(), dtype=object)[None, None], 3, None, {"a": cscl()}]
)
def test_other_containers_are_refused(X):
    for read in read_both_ways(X):
        with pytest.raises(NotACrystalError, match=r"X is .*expected a list"):
            read()


def test_elements_may_be_read_only_once(crystals):
    few = crystals[:3]
    allowed = {specie.Z for crystal in few for specie in crystal.species}
    assert check_structures(few, elements=iter(sorted(allowed))) == few


@pytest.mark.parametrize("label", ["sites", "read", "lattice_mat"])
def test_labels_of_tables_make_no_crystal_of_them(crystals, label):
    few = crystals[:2]
    assert check_structures(pd.Series(few, index=["a", label])) == few
    assert check_structures(pd.DataFrame({label: few})) == few
