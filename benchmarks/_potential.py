"""SevenNet-0 on many crystals at once, on a GPU or a CPU.

The neighbours of an atom are found once per crystal, with some room for displacements and strains, and are filtered by
their distance in every evaluation: finite differences need no new search.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

CUTOFF = 5.0  # Å, of the potential


class Crystals(NamedTuple):
    """Crystals side by side, and the pairs of atoms that may come within the cutoff."""

    numbers: np.ndarray  # (n_atoms,)
    lattices: np.ndarray  # (n_crystals, 3, 3), Å
    positions: np.ndarray  # (n_atoms, 3), Å
    crystal: np.ndarray  # (n_atoms,)
    pairs: np.ndarray  # (2, n_pairs) int32
    images: np.ndarray  # (n_pairs, 3) int8


def side_by_side(structures: list[Any], room: float) -> Crystals:
    """Return crystals with all pairs of atoms that are nearer than the cutoff and some room, in Å."""
    from pymatgen.optimization.neighbors import find_points_in_spheres

    pairs, images, start = [], [], 0
    for structure in structures:
        positions = np.ascontiguousarray(structure.frac_coords % 1 @ structure.lattice.matrix)
        centers, neighbors, cells, distances = find_points_in_spheres(
            positions,
            positions,
            r=CUTOFF + room,
            pbc=np.ones(3, dtype=np.int64),
            lattice=np.ascontiguousarray(structure.lattice.matrix),
            tol=1e-8,
        )
        real = distances > 1e-6
        pairs.append(np.stack([centers[real], neighbors[real]]).astype(np.int32) + start)
        images.append(cells[real].astype(np.int8))
        start += len(structure)
    return Crystals(
        np.concatenate([structure.atomic_numbers for structure in structures]),
        np.stack([structure.lattice.matrix for structure in structures]),
        np.concatenate([structure.frac_coords % 1 @ structure.lattice.matrix for structure in structures]),
        np.repeat(np.arange(len(structures)), [len(structure) for structure in structures]),
        np.concatenate(pairs, axis=1),
        np.concatenate(images),
    )


class Energies(NamedTuple):
    """What the potential gives, on the device of the crystals."""

    energy: Tensor  # (n_crystals,), eV
    forces: Tensor  # (n_atoms, 3), eV/Å
    stress: Tensor  # (n_crystals, 3, 3), eV/Å³, positive under tension


class Potential:
    """The potential with crystals on its device."""

    def __init__(self, device: str):
        import e3nn
        import sevenn.util

        warnings.filterwarnings("ignore")
        # Every batch has other sizes, for each of which TorchScript would compile anew.
        e3nn.set_optimization_defaults(jit_script_fx=False)
        self.device = torch.device(device)
        self.network = sevenn.util.load_checkpoint("7net-0").build_model().to(self.device).eval()
        for parameter in self.network.parameters():
            parameter.requires_grad_(False)

    def put(self, crystals: Crystals) -> Crystals:
        """Return crystals as tensors on the device, geometry in double precision."""
        kinds = [torch.long, torch.double, torch.double, torch.long, torch.long, torch.double]
        tensors = [torch.from_numpy(array).to(self.device, kind) for array, kind in zip(crystals, kinds, strict=True)]
        return Crystals(*tensors)  # type: ignore[arg-type]

    def __call__(self, crystals: Any, moved: Tensor | None = None, strain: Tensor | None = None) -> Energies:
        """Evaluate crystals, their atoms moved by (n_atoms, 3) Å, all under strains (n_crystals, 3, 3)."""
        positions = crystals.positions if moved is None else crystals.positions + moved
        lattices = crystals.lattices
        if strain is not None:
            stretch = torch.eye(3, dtype=torch.double, device=self.device) + strain
            positions = (positions[:, None] @ stretch[crystals.crystal])[:, 0]
            lattices = lattices @ stretch
        source, target = crystals.pairs
        cells = (crystals.images[:, None] @ lattices[crystals.crystal[source]])[:, 0]
        vectors = positions[target] - positions[source] + cells
        near = (vectors * vectors).sum(dim=1) < CUTOFF**2
        volume = torch.linalg.det(lattices).abs()
        data = {
            "atomic_numbers": crystals.numbers,
            "edge_index": crystals.pairs[:, near],
            "edge_vec": vectors[near].float().requires_grad_(True),
            "num_atoms": torch.bincount(crystals.crystal, minlength=len(lattices)),
            "batch": crystals.crystal,
            "cell_volume": volume.float(),
        }
        out = self.network(data)
        xx, yy, zz, xy, yz, zx = (-out["inferred_stress"].double()).unbind(dim=1)
        stress = torch.stack([xx, xy, zx, xy, yy, yz, zx, yz, zz], dim=1).reshape(-1, 3, 3)
        return Energies(
            out["inferred_total_energy"].detach().double().reshape(-1),
            out["inferred_force"].detach().double(),
            stress.detach(),
        )
