"""Columnar storage of many crystal graphs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalssl.graphs._arrays import PART_SIZE, CrystalArrays, CrystalColumns
from crystalssl.graphs._indexing import rows_of
from crystalssl.graphs._neighbors import find_columns
from crystalssl.graphs._ragged import concatenate_ranges, offsets_of
from crystalssl.graphs._recipe import GraphRecipe, check_recipe
from crystalssl.graphs._storage import load_columns, save_columns

if TYPE_CHECKING:
    from torch_geometric.data import Data

__all__ = ["CrystalGraphs"]

_COLUMNS = {
    "atomic_numbers": np.uint8,
    "positions": np.float64,
    "lattice": np.float64,
    "neighbors": np.int32,
    "images": np.int8,
    "distances": np.float32,
    "atom_offsets": np.int64,
    "edge_offsets": np.int64,
}


class CrystalGraphs(Sequence):
    """Graphs of many crystals, all arrays end to end.

    Made by :class:`~crystalssl.CrystalGraphTransformer`. It has a length and takes an integer (giving one PyG `Data`),
    a slice, an index array or a boolean mask (giving `CrystalGraphs`), so that scikit-learn splits it like an array.
    As an array it is one column of objects, `CrystalGraphs` of one crystal each, which the estimators join again.

    Parameters
    ----------
    recipe : GraphRecipe
        How the graphs were built. Graphs of different recipes are never mixed.
    atomic_numbers : ndarray of shape (n_atoms,), uint8
        Of all crystals' atoms, end to end.
    positions : ndarray of shape (n_atoms, 3), float64
        Cartesian coordinates in Å.
    lattice : ndarray of shape (n_crystals, 3, 3), float64
        Lattice vectors in rows, in Å.
    neighbors : ndarray of shape (n_edges,), int32
        Index of the neighbouring atom within its crystal. Edges are sorted by centre, then distance.
    images : ndarray of shape (n_edges, 3), int8
        Lattice translations that lead from the neighbour's site to the neighbour.
    distances : ndarray of shape (n_edges,), float32
        In Å.
    atom_offsets : ndarray of shape (n_crystals + 1,), int64
        The atoms of crystal ``i`` are ``atom_offsets[i]:atom_offsets[i + 1]``.
    edge_offsets : ndarray of shape (n_atoms + 1,), int64
        The edges centred on atom ``a`` are ``edge_offsets[a]:edge_offsets[a + 1]``.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> from crystalssl import CrystalGraphTransformer
    >>> salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    >>> graphs = CrystalGraphTransformer().fit_transform([salt, salt.get_primitive_structure()])
    >>> graphs
    CrystalGraphs(2 crystals, 10 atoms, 180 edges, cutoff=8.0, max_neighbors=12)
    >>> sorted(graphs[1].z.tolist()), len(graphs[:1]), len(graphs[[1, 1, 0]])
    ([11, 17], 1, 3)
    """

    def __init__(
        self,
        recipe: GraphRecipe,
        *,
        atomic_numbers: np.ndarray,
        positions: np.ndarray,
        lattice: np.ndarray,
        neighbors: np.ndarray,
        images: np.ndarray,
        distances: np.ndarray,
        atom_offsets: np.ndarray,
        edge_offsets: np.ndarray,
    ):
        self.recipe = recipe
        self.atomic_numbers = atomic_numbers
        self.positions = positions
        self.lattice = lattice
        self.neighbors = neighbors
        self.images = images
        self.distances = distances
        self.atom_offsets = atom_offsets
        self.edge_offsets = edge_offsets
        if atom_offsets.ndim != 1 or edge_offsets.ndim != 1:
            raise ValueError("offsets have one axis")
        sizes = {
            "atomic_numbers": (self.n_atoms,),
            "positions": (self.n_atoms, 3),
            "lattice": (len(self), 3, 3),
            "neighbors": (self.n_edges,),
            "images": (self.n_edges, 3),
            "distances": (self.n_edges,),
            "edge_offsets": (self.n_atoms + 1,),
        }
        for name, shape in sizes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} has shape {getattr(self, name).shape}, but the offsets call for {shape}")

    # ------------------------------------------------------------------ construction

    @classmethod
    def from_arrays(
        cls, crystals: Iterable[CrystalArrays], recipe: GraphRecipe, *, n_jobs: int | None = None, first: int = 0
    ) -> CrystalGraphs:
        """Find the neighbours of validated crystals and store them.

        Parameters
        ----------
        crystals : iterable of CrystalArrays
            Atomic numbers, positions (Å) and lattice (Å) of each crystal.
        recipe : GraphRecipe
            Cutoff and number of neighbours.
        n_jobs : int or None, default=None
            Processes; None means 1 unless in a joblib context.
        first : int, default=0
            Position of the first of them in what the user gave, for messages.

        Returns
        -------
        CrystalGraphs
        """
        crystals = list(crystals)
        starts = range(0, len(crystals), PART_SIZE)
        parts = (CrystalColumns.of(crystals[start : start + PART_SIZE]) for start in starts)
        return cls.from_columns(parts, recipe, n_jobs=n_jobs, first=first)

    @classmethod
    def from_columns(
        cls, parts: Iterable[CrystalColumns], recipe: GraphRecipe, *, n_jobs: int | None = None, first: int = 0
    ) -> CrystalGraphs:
        """Find the neighbours of validated crystals that come some hundred at a time.

        Parameters
        ----------
        parts : iterable of CrystalColumns
            The first are searched by other processes while the rest is read.
        recipe, n_jobs, first
            As in :meth:`from_arrays`.

        Returns
        -------
        CrystalGraphs
        """
        return cls(recipe, **find_columns(parts, recipe, n_jobs, first))

    @classmethod
    def concatenate(cls, parts: Sequence[CrystalGraphs]) -> CrystalGraphs:
        """Join graphs of the same recipe end to end.

        Parameters
        ----------
        parts : sequence of CrystalGraphs
            At least one.

        Returns
        -------
        CrystalGraphs

        Raises
        ------
        RecipeMismatchError
            If the recipes differ.
        """
        if not parts:
            raise ValueError("no CrystalGraphs were given; at least one is needed")
        for part in parts[1:]:
            part.check_recipe(parts[0].recipe)
        columns = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in _COLUMNS
            if not name.endswith("offsets")
        }
        for name in ("atom_offsets", "edge_offsets"):
            columns[name] = offsets_of(np.concatenate([np.diff(getattr(part, name)) for part in parts]))
        return cls(parts[0].recipe, **columns)

    # ------------------------------------------------------------------ sequence

    def __len__(self) -> int:
        return len(self.atom_offsets) - 1

    @property
    def shape(self) -> tuple[int, int]:
        """Tuple ``(n_crystals, 1)``: scikit-learn indexes with arrays instead of item by item, and sees one feature."""
        return (len(self), 1)

    @property
    def ndim(self) -> int:
        """Always 2."""
        return 2

    @property
    def n_atoms(self) -> int:
        """Number of atoms of all crystals."""
        return int(self.atom_offsets[-1])

    @property
    def n_edges(self) -> int:
        """Number of directed edges of all crystals."""
        return int(self.edge_offsets[-1])

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """The arrays by name."""
        return {name: getattr(self, name) for name in _COLUMNS}

    @property
    def nbytes(self) -> int:
        """Bytes held by the columns."""
        return sum(column.nbytes for column in self.columns.values())

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that occur, ascending."""
        return tuple(np.flatnonzero(np.bincount(self.atomic_numbers)).tolist())

    def n_edges_of(self, indices: np.ndarray) -> np.ndarray:
        """Return how many edges some crystals have, of shape (n_indices,).

        Parameters
        ----------
        indices : ndarray of int
            Positions of the crystals.
        """
        first, last = self.atom_offsets[indices], self.atom_offsets[indices + 1]
        return self.edge_offsets[last] - self.edge_offsets[first]

    def __getitem__(self, key: Any) -> Any:
        rows = rows_of(key, len(self))
        if isinstance(rows, int):
            return self._slice(rows, rows + 1)._as_data()
        if isinstance(rows, slice):
            return self._slice(rows.start, rows.stop)
        return self._take(rows)

    def __iter__(self) -> Iterator[Data]:
        return map(self.__getitem__, range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        # What scikit-learn makes of X where it wants a table, as bagging does: one column, a crystal in every row.
        if dtype is not None and np.dtype(dtype) != object:
            raise TypeError(f"CrystalGraphs are no numbers: they cannot become an array of {np.dtype(dtype)}")
        column = np.empty((len(self), 1), dtype=object)
        for row in range(len(self)):
            column[row, 0] = self._slice(row, row + 1)
        return column

    def _as_data(self) -> Data:
        # Of one crystal.
        import torch
        from torch_geometric.data import Data

        centers = np.repeat(np.arange(self.n_atoms), np.diff(self.edge_offsets))
        return Data(
            z=torch.tensor(self.atomic_numbers, dtype=torch.long),
            pos=torch.tensor(self.positions),
            cell=torch.tensor(self.lattice),
            edge_index=torch.tensor(np.stack([self.neighbors, centers]).astype(np.int64)),
            image=torch.tensor(self.images),
            distance=torch.tensor(self.distances),
        )

    def _slice(self, start: int, stop: int) -> CrystalGraphs:
        # Views of the columns: a slice copies nothing but the offsets.
        atoms = slice(self.atom_offsets[start], self.atom_offsets[stop])
        edges = slice(self.edge_offsets[atoms.start], self.edge_offsets[atoms.stop])
        edge_offsets = self.edge_offsets[atoms.start : atoms.stop + 1]
        return CrystalGraphs(
            self.recipe,
            atomic_numbers=self.atomic_numbers[atoms],
            positions=self.positions[atoms],
            lattice=self.lattice[start:stop],
            neighbors=self.neighbors[edges],
            images=self.images[edges],
            distances=self.distances[edges],
            atom_offsets=self.atom_offsets[start : stop + 1] - self.atom_offsets[start],
            edge_offsets=edge_offsets - edge_offsets[0],
        )

    def _take(self, crystals: np.ndarray) -> CrystalGraphs:
        n_atoms = np.diff(self.atom_offsets)[crystals]
        atoms = concatenate_ranges(self.atom_offsets[crystals], n_atoms)
        first, last = self.edge_offsets[self.atom_offsets[crystals]], self.edge_offsets[self.atom_offsets[crystals + 1]]
        edges = concatenate_ranges(first, last - first)
        return CrystalGraphs(
            self.recipe,
            atomic_numbers=self.atomic_numbers[atoms],
            positions=self.positions[atoms],
            lattice=self.lattice[crystals],
            neighbors=self.neighbors[edges],
            images=self.images[edges],
            distances=self.distances[edges],
            atom_offsets=offsets_of(n_atoms),
            edge_offsets=offsets_of(np.diff(self.edge_offsets)[atoms]),
        )

    def __repr__(self) -> str:
        return (
            f"CrystalGraphs({len(self)} crystals, {self.n_atoms} atoms, {self.n_edges} edges, "
            f"cutoff={self.recipe.cutoff}, max_neighbors={self.recipe.max_neighbors})"
        )

    # ------------------------------------------------------------------ recipe

    def check_recipe(self, recipe: GraphRecipe) -> None:
        """Raise RecipeMismatchError unless the graphs were built by a recipe.

        Parameters
        ----------
        recipe : GraphRecipe
            The one that is needed.
        """
        check_recipe(self.recipe, recipe, "build them again with CrystalGraphTransformer({})")

    def with_recipe(self, recipe: GraphRecipe, *, n_jobs: int | None = None) -> CrystalGraphs:
        """Return graphs of the same crystals by another recipe, or these if the recipe is the same.

        Parameters
        ----------
        recipe, n_jobs
            As in :meth:`from_arrays`.

        Returns
        -------
        CrystalGraphs
        """
        if recipe == self.recipe:
            return self
        columns = CrystalColumns(self.atomic_numbers, self.positions, self.lattice, self.atom_offsets)
        return self.from_columns(columns.parts(), recipe, n_jobs=n_jobs)

    # ------------------------------------------------------------------ disk

    def save(self, folder: str | os.PathLike, *, packed: bool = False) -> None:
        """Write the columns to a new folder, as ``graphs.safetensors`` beside ``graphs.json``.

        Parameters
        ----------
        folder : path
            Must not exist yet. It appears only when everything is written.
        packed : bool, default=False
            Whether to write a third of the bytes, which :meth:`load` unpacks into memory, to the very same columns. As
            they are, they can be mapped.

        Raises
        ------
        FileExistsError
            If `folder` exists, or another process writes it at the same time.
        DatasetError
            If it cannot be written, for instance because the disk is full.
        """
        save_columns(folder, self.columns, self.recipe, packed=packed)

    @classmethod
    def load(cls, folder: str | os.PathLike, *, mmap: bool = True) -> CrystalGraphs:
        """Read what :meth:`save` wrote.

        Parameters
        ----------
        folder : path
            A folder written by :meth:`save`.
        mmap : bool, default=True
            Map the file into memory instead of keeping it there, so that graphs larger than memory can be used. It is
            read once in either case, to compare its hash, and stays open as long as it is mapped. What is packed is
            not mapped.

        Raises
        ------
        DatasetError
            If a file is missing or was altered, or the folder was written by another version of the format.
        """
        return load_columns(folder, _COLUMNS, mmap, cls)
