"""From structures and files to graphs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from crystalssl import CrystalGraphs, CrystalGraphTransformer

from .data import CORPUS, Crystals
from .peers import MAX_NEIGHBORS, find, matgl_converter, nearest, neighbor_lists, published_cgcnn
from .race import AT_LEAST, OURS, Differs, Pace, compare, same_numbers

CUTOFF, RADIUS = 8.0, 5.0
PUBLISHED = "CGCNN's published way"
SEARCH = "pymatgen's compiled search alone, each crystal's radius known beforehand"
NEAREST_GOALS = {"phonons": 80, CORPUS: 200}  # the published way is slower the larger the cell
FILE_GOALS = {"all atoms listed": 10, "with symmetry": 20}
_SHELL = 1e-3  # Å beyond the last neighbour


def time_nearest(crystals: Crystals, pace: Pace, threads: list[int], size: int) -> Iterator[dict[str, Any]]:
    """Structures to their atoms' 12 nearest neighbours within 8 Å."""
    ours = CrystalGraphTransformer("cgcnn")
    lists, missing = neighbor_lists()
    for name in ("phonons", CORPUS):
        structures = crystals.sample(name, size)
        if not structures:
            continue
        contenders = {
            OURS: lambda structures=structures: ours.transform(structures),
            PUBLISHED: lambda structures=structures: [published_cgcnn(s, CUTOFF) for s in structures],
        }
        for peer, pairs in lists.items():
            contenders[f"{peer} + sort"] = lambda structures=structures, pairs=pairs: [
                nearest(pairs(s, CUTOFF), len(s)) for s in structures
            ]
        graphs = contenders[OURS]()
        for peer in contenders:
            if peer != OURS:
                check_nearest(f"{peer}, {name}", graphs, [found for _, found in contenders[peer]()])
        radii = [graphs[i : i + 1].distances.max() + _SHELL for i in range(len(graphs))]
        yield compare(
            f"structures to 12 nearest neighbours, {name}",
            contenders,
            work=len(structures),
            unit="structures",
            threads=1,
            pace=pace,
            checked=f"the same {MAX_NEIGHBORS} distances of all {graphs.n_atoms:,} atoms",
            goals={PUBLISHED: (AT_LEAST, NEAREST_GOALS[name])},
            limit={"what": SEARCH, "seconds": seconds_of_search(structures, radii)},
            missing=missing,
        )


def check_nearest(what: str, graphs: CrystalGraphs, found: list[np.ndarray]) -> None:
    """Compare the 12 smallest distances of every atom; ours keeps the rest of the last shell as well."""
    first = graphs.edge_offsets[:-1]
    counts = np.diff(graphs.edge_offsets)
    if counts.min() < MAX_NEIGHBORS:
        raise Differs(f"{what}: an atom has {counts.min()} neighbours within {CUTOFF} Å")
    expected = graphs.distances[first[:, None] + np.arange(MAX_NEIGHBORS)]
    same_numbers(what, np.concatenate(found), expected, 1e-4)


def time_radius(crystals: Crystals, pace: Pace, threads: list[int], size: int) -> Iterator[dict[str, Any]]:
    """Structures to all neighbours within 5 Å, the graphs of MEGNet."""
    ours = CrystalGraphTransformer(encoder="megnet")
    converter, excuse = matgl_converter(RADIUS)
    for name in ("phonons", CORPUS):
        structures = crystals.sample(name, size)
        if not structures:
            continue
        contenders = {OURS: lambda structures=structures: ours.transform(structures)}
        if converter is not None:
            contenders["matgl"] = lambda structures=structures: [converter.get_graph(s) for s in structures]
        graphs = contenders[OURS]()
        checked = "alone"
        if converter is not None:
            checked = check_radius(name, graphs, contenders["matgl"]())
        yield compare(
            f"structures to radius graphs of 5 Å, {name}",
            contenders,
            work=len(structures),
            unit="structures",
            threads=1,
            pace=pace,
            checked=checked,
            goals={"matgl": (AT_LEAST, 2.5)},
            limit={"what": SEARCH, "seconds": seconds_of_search(structures, [RADIUS] * len(structures))},
            missing={} if converter else {"matgl": excuse},
        )


def check_radius(what: str, graphs: CrystalGraphs, found: list[Any], tolerance: float = 1e-4) -> str:
    """Compare edge counts and distances, crystal by crystal; matgl leaves the distances to its model."""
    for i, (graph, lattice, _) in enumerate(found):
        ours = graphs[i : i + 1]
        if ours.n_edges != graph.edge_index.shape[1]:
            raise Differs(f"{what}: crystal {i} has {ours.n_edges} and {graph.edge_index.shape[1]} edges")
        shifted = graph.frac_coords[graph.edge_index[1]] + graph.pbc_offset - graph.frac_coords[graph.edge_index[0]]
        distances = (shifted @ lattice[0].to(shifted.dtype)).norm(dim=1).numpy()
        same_numbers(f"{what}, crystal {i}", np.sort(distances), np.sort(ours.distances), tolerance)
    return f"the same {graphs.n_edges:,} edges and distances"


def seconds_of_search(structures: list[Any], radii: list[float], rounds: int = 3) -> float:
    """Return the CPU time of the search for all pairs on arrays that are ready."""
    from pymatgen.optimization.neighbors import find_points_in_spheres

    periodic = np.ones(3, dtype=np.int64)
    arrays = [(np.array(s.cart_coords), np.array(s.lattice.matrix)) for s in structures]
    times = []
    for _ in range(rounds):
        started = time.process_time()
        for (positions, lattice), radius in zip(arrays, radii, strict=True):
            find_points_in_spheres(positions, positions, r=float(radius), pbc=periodic, lattice=lattice, tol=1e-8)
        times.append(time.process_time() - started)
    return min(times)


def time_files(crystals: Crystals, pace: Pace, threads: list[int], size: int) -> Iterator[dict[str, Any]]:
    """CIF files to radius graphs: cells written out in full, and conventional ones with their symmetry operations."""
    ours = CrystalGraphTransformer(encoder="megnet")
    converter, excuse = matgl_converter(RADIUS)
    gemmi, no_gemmi = find("gemmi")
    peer = "pymatgen + matgl"
    with tempfile.TemporaryDirectory() as folder:
        for kind, options in (("all atoms listed", {}), ("with symmetry", {"symprec": 0.01})):
            paths = [Path(folder) / f"{kind} {i}.cif" for i in range(size)]
            for path, structure in zip(paths, crystals.sample("phonons", size), strict=True):
                structure.to(str(path), fmt="cif", **options)
            contenders = {OURS: lambda paths=paths: ours.transform(paths)}
            checked, limit = "alone", None
            if converter is not None:
                contenders[peer] = lambda paths=paths: read_and_convert(paths, converter)
                # A file has few digits, and the two readers need not round alike.
                checked = check_radius(f"CIF, {kind}", contenders[OURS](), contenders[peer](), tolerance=1e-3)
            if gemmi is not None:
                limit = {"what": "gemmi reading the files alone", "seconds": seconds_of_gemmi(gemmi, paths)}
            yield compare(
                f"CIF files to radius graphs of 5 Å, {kind}",
                contenders,
                work=len(paths),
                unit="files",
                threads=1,
                pace=pace,
                checked=checked,
                goals={peer: (AT_LEAST, FILE_GOALS[kind])},
                limit=limit,
                missing={**({} if converter else {peer: excuse}), **({} if gemmi else {"gemmi": no_gemmi})},
            )


def read_and_convert(paths: list[Path], converter: Any) -> list[Any]:
    from pymatgen.core import Structure

    return [converter.get_graph(Structure.from_file(path)) for path in paths]


def seconds_of_gemmi(gemmi: Any, paths: list[Path], rounds: int = 3) -> float:
    times = []
    for _ in range(rounds):
        started = time.process_time()
        for path in paths:
            gemmi.make_small_structure_from_block(gemmi.cif.read(str(path)).sole_block())
        times.append(time.process_time() - started)
    return min(times)
