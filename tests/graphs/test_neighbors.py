"""Edges: the right ones, all of them, and none that hangs on how the crystal was written down."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from scipy.spatial.transform import Rotation

from crystalssl import check_structures
from crystalssl.exceptions import InvalidStructureError
from crystalssl.graphs import CrystalGraphs, GraphRecipe, _neighbors, _pairs
from crystalssl.graphs._compiled_search import compiled_search
from crystalssl.graphs._good import graphs_of_good
from crystalssl.graphs._pairs import find_pairs
from crystalssl.graphs._structures import crystal_arrays

K = 12
NEAREST = GraphRecipe(cutoff=8.0, max_neighbors=K)
RADIUS = GraphRecipe(cutoff=5.0)
COLUMNS = ["atomic_numbers", "positions", "lattice", "neighbors", "images", "distances", "atom_offsets", "edge_offsets"]


def build(structures, recipe, **params):
    return CrystalGraphs.from_arrays([crystal_arrays(s, i) for i, s in enumerate(structures)], recipe, **params)


def edges_of(graphs, index):
    """Centres, neighbours, images and distances of one crystal."""
    first = graphs.atom_offsets[index]
    offsets = graphs.edge_offsets[first : graphs.atom_offsets[index + 1] + 1]
    rows = slice(offsets[0], offsets[-1])
    centers = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    return centers, graphs.neighbors[rows], graphs.images[rows].astype(int), graphs.distances[rows]


def in_one_order(centers, neighbors, images, distances):
    order = np.lexsort((*np.asarray(images).T, neighbors, centers))
    return [np.asarray(column)[order] for column in (centers, neighbors, images, distances)]


def brute_force(structure, radius):
    """Centres, neighbours, images and distances of all pairs within a radius, without any cell list."""
    lattice, positions = structure.lattice.matrix, structure.cart_coords
    spacing = structure.lattice.volume / np.linalg.norm(
        np.cross(np.roll(lattice, -1, axis=0), np.roll(lattice, -2, axis=0)), axis=1
    )
    # Sites may lie outside the cell, by less than these cells more.
    spread = np.ptp(structure.frac_coords, axis=0)
    reach = np.ceil(radius / spacing + spread).astype(int)
    images = np.array(list(itertools.product(*(range(-n, n + 1) for n in reach))))
    vectors = (positions[None, :, None] + images @ lattice) - positions[:, None, None]
    distances = np.linalg.norm(vectors, axis=-1)
    centers, neighbors, which = np.nonzero((distances <= radius) & (distances > 1e-8))
    return centers, neighbors, images[which], distances[centers, neighbors, which]


def assert_same(graphs, others):
    assert graphs.recipe == others.recipe
    for name in COLUMNS:
        a, b = getattr(graphs, name), getattr(others, name)
        assert a.dtype == b.dtype, name
        assert np.array_equal(a, b), name


@pytest.fixture(scope="module")
def radius_graphs(crystals):
    return build(crystals, RADIUS)


@pytest.fixture(scope="module")
def nearest_graphs(crystals):
    return build(crystals, NEAREST)


def test_radius_graphs_equal_pymatgens_neighbor_lists(crystals, radius_graphs):
    for i, structure in enumerate(crystals):
        found = in_one_order(*edges_of(radius_graphs, i))
        expected = in_one_order(*structure.get_neighbor_list(RADIUS.cutoff))
        for a, b in zip(found[:3], expected[:3], strict=True):
            assert np.array_equal(a, b), (i, structure.formula)
        np.testing.assert_allclose(found[3], expected[3], rtol=0, atol=1e-6)


@pytest.mark.parametrize("index", [0, 3, 50, 100, 150, 200, 250])
def test_radius_graphs_equal_brute_force(prototypes, index):
    found = in_one_order(*edges_of(build([prototypes[index]], RADIUS), 0))
    expected = in_one_order(*brute_force(prototypes[index], RADIUS.cutoff))
    assert len(found[0]) > 0
    for a, b in zip(found[:3], expected[:3], strict=True):
        assert np.array_equal(a, b)
    np.testing.assert_allclose(found[3], expected[3], rtol=0, atol=1e-6)


def assert_k_nearest(distances_of_atoms, expected_of_atoms, k):
    for found, expected in zip(distances_of_atoms, expected_of_atoms, strict=True):
        found, expected = np.sort(found), np.sort(expected)
        kth = expected[k - 1]
        np.testing.assert_allclose(found[:k], expected[:k], rtol=0, atol=1e-6)
        assert len(found) == np.count_nonzero(expected <= kth + NEAREST.shell)
        assert (found[k:] <= kth + NEAREST.shell + 1e-6).all()


def test_nearest_neighbors_are_the_k_smallest_and_the_rest_of_their_shell(crystals, nearest_graphs):
    for i, structure in enumerate(crystals):
        centers, _, _, distances = structure.get_neighbor_list(NEAREST.cutoff)
        expected = [distances[centers == atom] for atom in range(len(structure))]
        centers, _, _, distances = edges_of(nearest_graphs, i)
        assert_k_nearest([distances[centers == atom] for atom in range(len(structure))], expected, K)


@pytest.mark.parametrize("k", [1, 3, 12, 30])
@pytest.mark.parametrize("index", [0, 3, 100, 200])
def test_nearest_neighbors_equal_brute_force(prototypes, index, k):
    structure = prototypes[index]
    centers, _, _, distances = brute_force(structure, 8.0)
    expected = [distances[centers == atom] for atom in range(len(structure))]
    centers, _, _, distances = edges_of(build([structure], GraphRecipe(8.0, k)), 0)
    assert_k_nearest([distances[centers == atom] for atom in range(len(structure))], expected, k)


def test_shells_are_known_ones():
    # Lattice, neighbours in the shells that twelve neighbours reach, and their distances in units of a.
    half = np.full(3, 0.5)
    cases = [
        (["Po"], [[0, 0, 0]], {1: 6, 2**0.5: 12}),
        (["Fe"] * 2, [[0, 0, 0], half], {0.75**0.5: 8, 1: 6}),
        (["Cs", "Cl"], [[0, 0, 0], half], {0.75**0.5: 8, 1: 6}),
        (["Cu"] * 4, [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]], {0.5**0.5: 12}),
    ]
    for species, sites, shells in cases:
        graph = build([Structure(Lattice.cubic(4.0), species, sites)], NEAREST)
        expected = np.sort(np.repeat([4.0 * d for d in shells], list(shells.values())))
        assert np.array_equal(np.diff(graph.edge_offsets), [len(expected)] * len(species))
        for atom in range(len(species)):
            found = graph.distances[graph.edge_offsets[atom] : graph.edge_offsets[atom + 1]]
            np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_rock_salt_has_six_neighbors_of_the_other_kind_then_twelve_of_its_own(salt):
    graph = build([salt], NEAREST)
    kinds = graph.atomic_numbers[graph.neighbors].reshape(8, 18)
    assert (kinds[:, :6] != graph.atomic_numbers[:, None]).all()
    assert (kinds[:, 6:] == graph.atomic_numbers[:, None]).all()
    np.testing.assert_allclose(graph.distances.reshape(8, 18)[:, 5:7], [[5.69 / 2, 5.69 / 2**0.5]] * 8, rtol=1e-6)


def test_stored_distances_are_those_of_positions_lattice_and_images(nearest_graphs):
    graphs = nearest_graphs
    centers = np.repeat(np.arange(graphs.n_atoms), np.diff(graphs.edge_offsets))
    crystal = np.repeat(np.arange(len(graphs)), np.diff(graphs.atom_offsets))[centers]
    neighbors = graphs.neighbors + graphs.atom_offsets[crystal]
    shifts = np.einsum("ei,eij->ej", graphs.images.astype(float), graphs.lattice[crystal])
    vectors = graphs.positions[neighbors] + shifts - graphs.positions[centers]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), graphs.distances, rtol=0, atol=1e-5)


def test_neighborhood_is_mutual_in_radius_graphs(radius_graphs):
    for i in range(0, len(radius_graphs), 20):
        centers, neighbors, images, _ = edges_of(radius_graphs, i)
        edges = set(zip(centers.tolist(), neighbors.tolist(), map(tuple, images.tolist()), strict=True))
        assert len(edges) == len(centers)
        assert edges == {(b, a, tuple(-n for n in image)) for a, b, image in edges}


def test_edges_are_sorted_by_center_and_distance(nearest_graphs):
    same_center = np.ones(nearest_graphs.n_edges - 1, dtype=bool)
    inner = nearest_graphs.edge_offsets[1:-1]
    same_center[inner[(inner > 0) & (inner < nearest_graphs.n_edges)] - 1] = False
    # Ties, within 1e-5 Å, are ordered by neighbour instead.
    assert (np.diff(nearest_graphs.distances.astype(float))[same_center] > -1.1e-5).all()


def test_ties_are_ordered_by_neighbor_then_image(salt):
    graph = build([salt], NEAREST)
    for atom in range(8):
        shell = slice(graph.edge_offsets[atom] + 6, graph.edge_offsets[atom + 1])
        keys = [(n, *image) for n, image in zip(graph.neighbors[shell], graph.images[shell].tolist(), strict=True)]
        assert keys == sorted(keys)


# ---------------------------------------------------------------------- unusual cells


def test_isolated_atom_has_no_edges(salt):
    argon = Structure(Lattice.cubic(50), ["Ar"], [[0.1, 0.2, 0.3]])
    graphs = build([argon, salt, argon], NEAREST)
    assert np.diff(graphs.edge_offsets).tolist() == [0, *[18] * 8, 0]
    assert build([argon, argon], NEAREST).n_edges == 0
    assert build([argon], RADIUS).n_edges == 0


def test_atoms_with_fewer_than_k_neighbors_keep_those_within_the_cutoff():
    molecule = Structure(Lattice.cubic(50), ["N", "N", "Ar"], [[0, 0, 0], [0.022, 0, 0], [0, 0.15, 0]])
    graphs = build([molecule], NEAREST)
    assert graphs.edge_offsets.tolist() == [0, 2, 4, 6]
    assert graphs.neighbors.tolist() == [1, 2, 0, 2, 0, 1]
    np.testing.assert_allclose(graphs.distances[[0, 1]], [1.1, 7.5], rtol=1e-6)


def test_one_atom_cell_has_images_of_itself_as_neighbors():
    graph = build([Structure(Lattice.cubic(3.3), ["Po"], [[0.2, 0.7, 0.1]])], GraphRecipe(8.0, 6))
    assert graph.neighbors.tolist() == [0] * 6
    assert {tuple(image) for image in graph.images.tolist()} == {
        (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, -1), (0, -1, 0), (-1, 0, 0)
    }  # fmt: skip


def test_cell_of_two_hundred_atoms(salt):
    large = salt * (5, 5, 1)
    assert len(large) == 200
    graph = build([large], NEAREST)
    assert (np.diff(graph.edge_offsets) == 18).all()
    found = in_one_order(*edges_of(build([large], RADIUS), 0))
    expected = in_one_order(*large.get_neighbor_list(RADIUS.cutoff))
    assert all(np.array_equal(a, b) for a, b in zip(found[:3], expected[:3], strict=True))


@pytest.mark.parametrize("recipe", [NEAREST, RADIUS], ids=["nearest", "radius"])
@pytest.mark.parametrize(
    "shear",
    [
        [[1, 0, 0], [20, 1, 0], [0, 0, 1]],
        [[1, -20, 0], [0, 1, 0], [0, 0, 1]],
        [[1, 0, 0], [0, 1, 0], [-20, 11, 1]],
        [[1, 0, 0], [3, 1, 0], [-2, 5, 1]],
    ],
)
def test_sheared_cell_of_the_same_crystal_has_the_same_edges(prototypes, shear, recipe):
    chosen = prototypes[::24]
    sheared = [
        Structure(np.array(shear) @ s.lattice.matrix, s.species, s.cart_coords, coords_are_cartesian=True)
        for s in chosen
    ]
    graphs, others = build(chosen, recipe), build(sheared, recipe)
    assert np.array_equal(graphs.edge_offsets, others.edge_offsets)
    for i in range(len(chosen)):
        a, b = edges_of(graphs, i), edges_of(others, i)
        # The images are others; how far each neighbour is, and how often it is one, is not.
        for x, y in zip(*(np.array([c, n, d])[:, np.lexsort((d, n, c))] for c, n, _, d in (a, b)), strict=True):
            np.testing.assert_allclose(x, y, rtol=0, atol=1e-5)


def test_cell_too_skewed_for_images_of_one_byte_is_named(salt):
    skewed = Structure(np.array([[4, 0, 0], [1200, 4, 0], [0, 0, 4]]), ["Na"], [[0, 0, 0]])
    with pytest.raises(InvalidStructureError, match=r"item 2: the cell is too skewed.*get_reduced_structure") as caught:
        build([salt, salt, skewed, salt], NEAREST)
    assert caught.value.index == 2
    reduced = build([skewed.get_reduced_structure()], NEAREST)
    np.testing.assert_allclose(reduced.distances, [4] * 6 + [4 * 2**0.5] * 12, rtol=1e-6)


@pytest.mark.parametrize("n", [127, 128])
def test_images_of_up_to_127_cells_fit(n):
    skewed = Structure(np.array([[4, 0, 0], [4 * n, 4, 0], [0, 0, 4]]), ["Na"], [[0, 0, 0]])
    if n > 127:
        with pytest.raises(InvalidStructureError, match="more than 127 cells away"):
            build([skewed], GraphRecipe(8.0, 6))
    else:
        graph = build([skewed], GraphRecipe(8.0, 6))
        np.testing.assert_allclose(graph.distances, 4)
        assert np.abs(graph.images.astype(int)).max() == n


def test_neighbors_at_exactly_the_cutoff_are_kept_in_every_orientation():
    for seed in range(20):
        lattice = 5.0 * Rotation.random(random_state=seed).as_matrix()
        assert build([Structure(lattice, ["Po"], [[0.3, 0.2, 0.1]])], RADIUS).n_edges == 6


def test_first_radius_too_small_is_grown():
    # Nine tenths of the cell are empty: the radius guessed from the mean density holds too few for some atoms.
    layer = Structure(Lattice.from_parameters(2.5, 2.5, 25, 90, 90, 120), ["B"], [[0, 0, 0.5]])
    graph = build([layer], GraphRecipe(20.0, 30))
    centers, _, _, distances = brute_force(layer, 20.0)
    assert_k_nearest([graph.distances], [distances[centers == 0]], 30)


def test_shell_that_straddles_the_first_radius_is_whole():
    # The first radius is 1.25 times that of a sphere of six atoms; the fifth and sixth neighbour lie 3e-5 Å within it,
    # and the other two of their shell as much beyond.
    radius, k = 4.0, 5
    a, b = radius - 3e-5, radius + 3e-5
    c = radius**3 / (1.25**3 * 3 * (k + 1) / (4 * np.pi) * a * b)
    graph = build([Structure(Lattice.orthorhombic(a, b, c), ["Po"], [[0, 0, 0]])], GraphRecipe(8.0, k))
    np.testing.assert_allclose(graph.distances, [c, c, 2 * c, 2 * c, a, a, b, b], rtol=1e-6)


# ---------------------------------------------------------------------- determinism


def test_shell_does_not_hang_on_the_order_of_sites():
    # The two nearest differ by less than the rounding that orders edges; from the nearest the third is beyond the
    # shell, from the second it is not.
    steps = [2.9999951, 3.0000049, 3.0100001]
    for order in itertools.permutations(range(3)):
        positions = [[0, 0, 0], *(np.eye(3)[i] * steps[i] for i in order)]
        cluster = Structure(Lattice.cubic(40), ["Fe", "O", "O", "O"], positions, coords_are_cartesian=True)
        assert np.diff(build([cluster], GraphRecipe(8.0, 1)).edge_offsets)[0] == 2


@pytest.mark.parametrize("recipe", [NEAREST, RADIUS], ids=["nearest", "radius"])
def test_graphs_do_not_hang_on_the_chunks(crystals, recipe, monkeypatch):
    some = crystals[:150]
    expected = build(some, recipe)
    for size in (1, 50, 100_000):
        monkeypatch.setattr(_neighbors, "CHUNK_ATOMS", size)
        assert_same(build(some, recipe), expected)


def test_graphs_do_not_hang_on_n_jobs(crystals):
    some = crystals[:270]  # three chunks
    assert_same(build(some, NEAREST, n_jobs=2), build(some, NEAREST))


def test_graphs_do_not_hang_on_their_neighbors_in_the_list(crystals):
    some = crystals[100:140]
    assert_same(CrystalGraphs.concatenate([build([s], NEAREST) for s in some]), build(some, NEAREST))


# ---------------------------------------------------------------------- many crystals at once, or one by one


RECIPES = [NEAREST, RADIUS, GraphRecipe(8.0, 12, shell=0.2), GraphRecipe(1.0), GraphRecipe(0.9)]


def moved(structure, rng):
    """The crystal, with sites within a few cells of the origin and all distances different."""
    cells = rng.integers(-1, 2, (len(structure), 3)) + 0.01 * rng.normal(size=(len(structure), 3))
    return Structure(structure.lattice, structure.species, structure.frac_coords + cells)


@pytest.fixture(scope="module")
def all_kinds(prototypes):
    """Small and large cells, with sites inside and outside, left-handed, flat, dense, empty and sheared ones."""
    rng = np.random.default_rng(0)
    some = prototypes[::12]
    left = [Structure(s.lattice.matrix[[1, 0, 2]], s.species, s.frac_coords[:, [1, 0, 2]]) for s in some[:4]]
    layer = Structure(Lattice.from_parameters(2.5, 2.5, 25, 90, 90, 120), ["B"], [[0, 0, 0.5]])
    argon = Structure(Lattice.cubic(50), ["Ar"], [[0.1, 0.2, 0.3]])
    sheared = Structure([[4, 0, 0], [80, 4, 0], [0, 0, 4]], ["Na"], [[0.1, 0, 0]])
    return [*some, layer, *(moved(s, rng) for s in some), argon, *left, sheared, some[3] * (2, 2, 1), some[0]]


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_all_at_once_as_by_the_compiled_search(all_kinds, recipe, monkeypatch):
    found = build(all_kinds, recipe)
    monkeypatch.setattr(_pairs, "_MAX_PAIRS", 0)
    assert_same(found, build(all_kinds, recipe))


def test_compiled_search_is_for_large_and_odd_cells_alone(all_kinds, monkeypatch):
    sizes = []

    def spy(crystal, *args):
        sizes.append(len(crystal.positions))
        return compiled_search(crystal, *args)

    monkeypatch.setattr(_pairs, "compiled_search", spy)
    build(all_kinds, NEAREST)
    assert sizes == []
    monkeypatch.setattr(_pairs, "_MAX_PAIRS", 40_000)
    build(all_kinds, NEAREST)
    assert sizes
    assert min(sizes) > 20


@pytest.mark.parametrize("limit", [0, 3000, 1e6])
@pytest.mark.parametrize("recipe", RECIPES[:3], ids=str)
def test_crystals_of_a_chunk_are_not_mixed(all_kinds, recipe, limit, monkeypatch):
    # Some are searched by themselves, some again with a larger radius: all in the middle of the others.
    alone = CrystalGraphs.concatenate([build([s], recipe) for s in all_kinds])
    monkeypatch.setattr(_pairs, "_MAX_PAIRS", limit)
    monkeypatch.setattr(_pairs, "_BLOCK", 100)
    assert_same(build(all_kinds, recipe), alone)


def test_crystals_that_need_a_larger_radius_are_searched_again(all_kinds, monkeypatch):
    searched = []

    def spy(crystals, radii, indices):
        searched.append(dict(zip(indices.tolist(), radii.tolist(), strict=True)))
        return find_pairs(crystals, radii, indices)

    monkeypatch.setattr(_neighbors, "find_pairs", spy)
    build(all_kinds, NEAREST)
    first, *others = searched
    assert list(first) == list(range(len(all_kinds)))
    assert others
    for before, after in itertools.pairwise(searched):
        assert after.keys() < before.keys()
        assert all(radius == min(8.0, 1.3 * before[index]) for index, radius in after.items())


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize("recipe", [NEAREST, RADIUS], ids=["nearest", "radius"])
@pytest.mark.parametrize("position", [0, 127, 255, 256])
def test_atoms_too_close_are_named_by_item_and_atom(salt, recipe, position):
    close = salt.copy()
    close.append("Na", [0.01, 0, 0])
    items = [salt] * 260
    items[position] = close
    with pytest.raises(InvalidStructureError, match=rf"item {position}: atoms 0 and 8 are 0.0569 Å apart") as caught:
        build(items, recipe)
    assert caught.value.index == position


def test_atoms_in_the_same_place_are_too_close(salt):
    salt.append("Na", [1, 0, 0])
    with pytest.raises(InvalidStructureError, match="item 0: atoms 0 and 8 are 0 Å apart"):
        build([salt], NEAREST)


@pytest.mark.parametrize("bad", [[], [0], [3, 4, 299], list(range(0, 300, 2)), list(range(300))], ids=len)
def test_every_bad_crystal_of_many_is_found(salt, bad):
    twice = Structure(salt.lattice, ["Na", "Na"], [[0, 0, 0], [0, 0, 1e-5]])
    crystals = {10 + i: crystal_arrays(twice if i in bad else salt) for i in range(300)}
    graphs, errors = graphs_of_good(crystals, NEAREST)
    assert list(errors) == [10 + i for i in bad]
    assert all(f"item {i}: atoms 0 and 1" in str(error) for i, error in errors.items())
    assert (0 if graphs is None else len(graphs)) == 300 - len(bad)


def test_no_crystals_are_an_error():
    with pytest.raises(ValueError, match="no crystals were given"):
        build([], NEAREST)


# ------------------------------------------------------------------ what would take hours, or all memory


@pytest.mark.parametrize("recipe", [NEAREST, RADIUS])
def test_sites_far_outside_the_cell_have_the_same_neighbours(salt, recipe):
    rng = np.random.default_rng(0)
    cells = rng.integers(-60, 60, (8, 3)) + 10**5
    moved = Structure(salt.lattice, salt.species, salt.frac_coords + cells)
    here, there = build([salt, moved], recipe)[[0]], build([salt, moved], recipe)[[1]]
    centers, neighbors, images, distances = edges_of(here, 0)
    expected = in_one_order(centers, neighbors, images + cells[centers] - cells[neighbors], distances)
    for found, wanted in zip(in_one_order(*edges_of(there, 0)), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize("lengths", [(200, 200, 200), (9000, 9000, 9000), (9000, 3, 9000), (3, 3, 9000)])
def test_cells_of_mostly_vacuum_are_searched_at_once(lengths):
    rng = np.random.default_rng(0)
    pairs = rng.random((20, 3))
    sites = np.concatenate([pairs, pairs + 1.5 / np.array(lengths)])
    crystal = Structure(Lattice.orthorhombic(*lengths), ["H"] * 40, sites)
    started = time.process_time()
    check_structures([crystal])
    graphs = build([crystal], RADIUS)
    assert time.process_time() - started < 2
    for found, wanted in zip(in_one_order(*edges_of(graphs, 0)), in_one_order(*brute_force(crystal, 5)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
