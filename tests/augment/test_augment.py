"""Augmentations: how much they change, what they leave alone, and where their randomness comes from."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from crystalssl import CrystalGraphTransformer
from crystalssl.augment import (
    AUGMENTATIONS,
    AtomMasking,
    Augmentation,
    Compose,
    EdgeMasking,
    GaussianPerturbation,
    NeighborDistanceNoising,
    RandomPerturbation,
    RandomStrain,
    recompute_distances,
    resolve_view,
)
from crystalssl.training import collate

CHANGED = {
    "perturb": {"pos", "distance"},
    "perturb-gaussian": {"pos", "distance"},
    "gndn": {"distance"},
    "mask-atoms": {"z"},
    "mask-edges": {"distance"},
    "strain": {"pos", "cell", "distance"},
}
"""The tensors that each augmentation may replace; all others must stay the same, bit by bit."""


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def graphs(prototypes):
    return CrystalGraphTransformer().transform(prototypes[:200])


@pytest.fixture
def batch(graphs):
    return collate(graphs, np.arange(len(graphs)))


@pytest.fixture
def twin(graphs):
    """The same batch in other memory, to tell whether the first was changed."""
    return collate(graphs, np.arange(len(graphs)))


def assert_equal_but(batch, other, names):
    assert batch.keys() == other.keys()
    assert batch.num_graphs == other.num_graphs
    for key in sorted(batch.keys()):
        assert torch.equal(batch[key], other[key]) == (key not in names), key


# ---------------------------------------------------------------------- all of them

every = pytest.mark.parametrize("name", AUGMENTATIONS)


def test_table_covers_all_augmentations():
    assert set(AUGMENTATIONS) == set(CHANGED)


@every
def test_names_and_types(name):
    assert AUGMENTATIONS[name].name == name
    assert issubclass(AUGMENTATIONS[name], Augmentation)


@every
def test_only_what_is_meant_to_change_changes(name, batch, twin):
    view = AUGMENTATIONS[name]()(batch, generator())
    assert_equal_but(view, twin, CHANGED[name])
    for key in CHANGED[name]:
        assert view[key].dtype == batch[key].dtype
        assert view[key].shape == batch[key].shape


@every
def test_input_is_left_alone(name, batch, twin):
    AUGMENTATIONS[name]()(batch, generator())
    assert_equal_but(batch, twin, set())


@every
def test_other_tensors_are_shared_not_copied(name, batch):
    view = AUGMENTATIONS[name]()(batch, generator())
    for key in set(batch.keys()) - CHANGED[name]:
        assert view[key] is batch[key], key


@every
def test_all_randomness_comes_from_the_generator(name, batch):
    augmentation = AUGMENTATIONS[name]()
    state = torch.random.get_rng_state()
    views = [augmentation(batch, generator(seed)) for seed in (0, 0, 1)]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert_equal_but(views[0], views[1], set())
    assert_equal_but(views[0], views[2], CHANGED[name])


@every
def test_second_view_from_one_generator_differs(name, batch):
    source = generator()
    augmentation = AUGMENTATIONS[name]()
    assert_equal_but(augmentation(batch, source), augmentation(batch, source), CHANGED[name])


@every
def test_labels_stay(name, batch):
    batch.y = torch.arange(batch.num_graphs)[:, None].float()
    assert AUGMENTATIONS[name]()(batch, generator()).y is batch.y


@every
def test_equal_parameters_make_equal_augmentations(name):
    cls = AUGMENTATIONS[name]
    assert cls(0.25) == cls(0.25)
    assert cls(0.25) != cls(0.5)
    for other in AUGMENTATIONS.values():
        assert (cls(0.25) == other(0.25)) == (other is cls)
    assert cls(0.25) != 0.25
    with pytest.raises(TypeError, match="unhashable"):
        hash(cls(0.25))


@every
def test_repr_shows_the_parameters(name):
    augmentation = AUGMENTATIONS[name](0.25)
    assert repr(augmentation) == f"{AUGMENTATIONS[name].__name__}({next(iter(augmentation.config))}=0.25)"


# ---------------------------------------------------------------------- perturbation


def steps_of(view, batch):
    return view.pos.double() - batch.pos.double()


@pytest.mark.parametrize("distance", [0.05, 0.5])
def test_every_atom_moves_by_exactly_the_distance(batch, distance):
    lengths = steps_of(RandomPerturbation(distance)(batch, generator()), batch).norm(dim=1)
    # Positions of tens of Å in single precision.
    torch.testing.assert_close(lengths, torch.full_like(lengths, distance), rtol=0, atol=1e-5)


def test_default_distance_is_the_papers():
    assert RandomPerturbation().distance == 0.05


def test_directions_have_no_preference(batch):
    source = generator()
    steps = torch.cat([steps_of(RandomPerturbation()(batch, source), batch) for _ in range(5)]) / 0.05
    n = len(steps)
    assert n > 10_000
    # A component of a random unit vector has mean 0 and variance 1/3, its square variance 4/45; five standard errors.
    assert steps.mean(dim=0).abs().max() < 5 * (1 / 3 / n) ** 0.5
    assert (steps.T @ steps / n - torch.eye(3) / 3).abs().max() < 5 * (4 / 45 / n) ** 0.5
    # Uniform on the sphere, not on the cube: Archimedes says that a component is uniform between -1 and 1.
    shares = torch.histc(steps[:, 2], 10, -1, 1) / n
    assert (shares - 0.1).abs().max() < 5 * (0.09 / n) ** 0.5


def test_atoms_move_independently(batch):
    steps = steps_of(RandomPerturbation()(batch, generator()), batch) / 0.05
    n = len(steps) - 1
    assert (steps[1:] * steps[:-1]).sum(dim=1).mean().abs() < 5 * (1 / 3 / n) ** 0.5


def test_distance_zero_changes_nothing(batch):
    view = RandomPerturbation(0.0)(batch, generator())
    assert torch.equal(view.pos, batch.pos)
    torch.testing.assert_close(view.distance, batch.distance, rtol=0, atol=1e-5)


def brute_force_distances(batch):
    """Edge by edge, in double precision."""
    pos, cell, image = (batch[key].double().numpy() for key in ("pos", "cell", "image"))
    neighbors, centers = batch.edge_index.numpy()
    crystals = batch.batch.numpy()
    return np.array(
        [
            np.linalg.norm(pos[n] + sum(image[e, i] * cell[crystals[c], i] for i in range(3)) - pos[c])
            for e, (n, c) in enumerate(zip(neighbors, centers, strict=True))
        ]
    )


def test_recomputed_distances_are_those_that_were_stored(batch):
    torch.testing.assert_close(recompute_distances(batch), batch.distance, rtol=0, atol=2e-5)


def test_distances_after_perturbation_are_those_of_the_moved_atoms(graphs):
    batch = collate(graphs, np.arange(0, 200, 10))
    view = RandomPerturbation(0.3)(batch, generator())
    np.testing.assert_allclose(view.distance.numpy(), brute_force_distances(view), rtol=0, atol=1e-5)
    assert (view.distance - batch.distance).abs().max() > 0.2
    # No distance changes by more than both atoms moved.
    assert (view.distance - batch.distance).abs().max() <= 0.6 + 1e-5


def test_an_atom_and_its_own_image_move_together(batch):
    neighbors, centers = batch.edge_index
    own = neighbors == centers
    assert own.any()
    view = RandomPerturbation(0.5)(batch, generator())
    torch.testing.assert_close(view.distance[own], batch.distance[own], rtol=0, atol=1e-5)


moves = pytest.mark.parametrize("move", [RandomPerturbation(0.05), GaussianPerturbation(0.3)], ids=repr)


@moves
def test_masked_distances_stay_masked_when_atoms_move(move, batch):
    masked = EdgeMasking(0.3)(batch, generator())
    view = move(masked, generator(1))
    assert masked.distance.isinf().any()
    assert torch.equal(view.distance.isinf(), masked.distance.isinf())
    unmasked = move(batch, generator(1))
    kept = ~masked.distance.isinf()
    assert torch.equal(view.distance[kept], unmasked.distance[kept])


@pytest.mark.parametrize("distance", [-0.05, -1])
def test_negative_distance_is_refused(distance):
    with pytest.raises(ValueError, match=f"distance must not be negative .Å., got {distance}"):
        RandomPerturbation(distance)


# ---------------------------------------------------------------------- Gaussian perturbation


@pytest.mark.parametrize("sigma", [0.1, 0.5])
def test_steps_are_normally_distributed(batch, sigma):
    source = generator()
    steps = torch.cat([steps_of(GaussianPerturbation(sigma)(batch, source), batch) for _ in range(5)]) / sigma
    n = len(steps)
    assert n > 10_000
    # Five standard errors; a standard normal's second moment has variance 2, its product with another has variance 1.
    assert steps.mean(dim=0).abs().max() < 5 / n**0.5
    assert (steps.T @ steps / n - torch.eye(3)).abs().max() < 5 * (2 / n) ** 0.5
    for bound, share in ((0.5, 0.3829), (1, 0.6827), (2, 0.9545)):
        within = (steps.abs() < bound).double().mean(dim=0)
        assert (within - share).abs().max() < 5 * (share * (1 - share) / n) ** 0.5


def test_atoms_step_independently(batch):
    steps = steps_of(GaussianPerturbation()(batch, generator()), batch) / 0.5
    assert (steps[1:] * steps[:-1]).mean().abs() < 5 / (3 * len(steps)) ** 0.5


def test_edges_are_kept_and_their_lengths_are_those_of_the_moved_atoms(graphs):
    batch = collate(graphs, np.arange(0, 200, 10))
    view = GaussianPerturbation(0.3)(batch, generator())
    for key in ("edge_index", "image", "edge_ptr", "neighbor_order", "neighbor_ptr"):
        assert view[key] is batch[key]
    np.testing.assert_allclose(view.distance.numpy(), brute_force_distances(view), rtol=0, atol=1e-5)
    assert (view.distance - batch.distance).abs().max() > 0.2


def test_default_sigma_is_the_papers():
    assert GaussianPerturbation().sigma == 0.5


@pytest.mark.parametrize("sigma", [0, -0.5, float("nan")])
def test_sigma_that_is_not_positive_is_refused(sigma):
    with pytest.raises(ValueError, match=f"sigma must be positive .Å., got {sigma}"):
        GaussianPerturbation(sigma)


# ---------------------------------------------------------------------- noise on distances


@pytest.mark.parametrize("delta", [0.1, 0.5])
def test_noise_is_uniform_within_its_bounds(batch, delta):
    view = NeighborDistanceNoising(delta)(batch, generator())
    assert batch.distance.min() > delta  # nothing is cut off at zero
    noise = (view.distance - batch.distance).double() / delta
    n = len(noise)
    assert n > 10_000
    assert noise.abs().max() <= 1 + 1e-5
    shares = torch.histc(noise, 10, -1, 1) / n
    assert (shares - 0.1).abs().max() < 5 * (0.09 / n) ** 0.5
    # Also both directions of an edge have their own.
    assert (noise[1:] * noise[:-1]).mean().abs() < 5 / 3 / n**0.5


def test_noise_leaves_positions_and_edges_alone(batch):
    view = NeighborDistanceNoising()(batch, generator())
    for key in ("pos", "edge_index", "image", "z"):
        assert view[key] is batch[key]
    assert not torch.allclose(recompute_distances(view), view.distance, atol=0.1)


def test_noisy_distances_are_never_negative(batch):
    view = NeighborDistanceNoising(10.0)(batch, generator())
    assert view.distance.min() == 0
    assert (view.distance > 0).any()
    assert batch.distance.min() > 0


def test_masked_distances_stay_masked_under_noise(batch):
    masked = EdgeMasking(0.3)(batch, generator())
    view = NeighborDistanceNoising()(masked, generator(1))
    assert torch.equal(view.distance.isinf(), masked.distance.isinf())
    kept = ~masked.distance.isinf()
    assert torch.equal(view.distance[kept], NeighborDistanceNoising()(batch, generator(1)).distance[kept])


def test_no_noise_changes_nothing(batch, twin):
    assert_equal_but(NeighborDistanceNoising(0.0)(batch, generator()), twin, set())


def test_default_noise_is_the_papers():
    assert NeighborDistanceNoising().delta == 0.5


@pytest.mark.parametrize("delta", [-0.1, -1])
def test_negative_noise_is_refused(delta):
    with pytest.raises(ValueError, match=f"delta must not be negative .Å., got {delta}"):
        NeighborDistanceNoising(delta)


# ---------------------------------------------------------------------- masking

MASKINGS = {AtomMasking: ("z", 0), EdgeMasking: ("distance", torch.inf)}
maskings = pytest.mark.parametrize("masking", MASKINGS)


@maskings
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_share_of_masked_is_the_rate(masking, rate, batch):
    key, hidden = MASKINGS[masking]
    view = masking(rate)(batch, generator())
    masked = view[key] == hidden
    n = len(masked)
    assert n > 1000
    assert abs(masked.float().mean() - rate) < 4 * (rate * (1 - rate) / n) ** 0.5
    assert torch.equal(view[key][~masked], batch[key][~masked])


@maskings
def test_each_is_drawn_by_itself(masking, batch):
    key, hidden = MASKINGS[masking]
    masked = (masking(0.5)(batch, generator())[key] == hidden).double() - 0.5
    # Neighbours in the list are uncorrelated, and the number per hundred varies as that of independent draws does.
    assert (4 * masked[1:] * masked[:-1]).mean().abs() < 4 / len(masked) ** 0.5
    hundreds = masked[: len(masked) // 100 * 100].reshape(-1, 100).sum(dim=1)
    assert 0.3 < hundreds.var() / 25 < 2


@maskings
def test_rate_zero_masks_nothing(masking, batch, twin):
    assert_equal_but(masking(0.0)(batch, generator()), twin, set())


@maskings
def test_rate_one_masks_everything(masking, batch):
    key, hidden = MASKINGS[masking]
    assert (masking(1.0)(batch, generator())[key] == hidden).all()


@maskings
def test_default_rate_is_the_papers(masking):
    assert masking().rate == 0.1


@maskings
@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_rate_that_is_no_fraction_is_refused(masking, rate):
    with pytest.raises(ValueError, match=f"rate must lie between 0 and 1, got {rate}"):
        masking(rate)


# ---------------------------------------------------------------------- composition


def test_compose_applies_one_after_the_other(batch):
    parts = [RandomPerturbation(), AtomMasking(), EdgeMasking()]
    source = generator()
    expected = batch
    for part in parts:
        expected = part(expected, source)
    found = Compose(parts)(batch, generator())
    assert_equal_but(found, expected, set())
    assert_equal_but(found, batch, {"pos", "distance", "z"})


moving = pytest.mark.parametrize("name", ["perturb", "perturb-gaussian", "strain"])


@moving
def test_noise_of_a_view_before_stays_when_atoms_move(name, batch):
    noised = NeighborDistanceNoising(0.3)(batch, generator())
    move = AUGMENTATIONS[name](0.01)
    alone, both = move(batch, generator(1)), move(noised, generator(1))
    assert torch.equal(both.pos, alone.pos)
    # Less than a rounding error is no noise.
    torch.testing.assert_close(both.distance - alone.distance, noised.distance - batch.distance, rtol=0, atol=2e-4)


@moving
def test_lengths_do_not_fall_below_zero_when_atoms_move(name, batch):
    noised = NeighborDistanceNoising(10.0)(batch, generator())
    assert AUGMENTATIONS[name](0.1)(noised, generator(1)).distance.min() == 0


@moving
def test_lengths_of_one_view_are_computed_from_positions_alone(name, batch):
    view = AUGMENTATIONS[name](0.1)(batch, generator())
    assert torch.equal(view.distance, recompute_distances(view))


def test_compose_of_nothing_changes_nothing(batch, twin):
    assert_equal_but(Compose([])(batch, generator()), twin, set())


def test_compositions_are_equal_if_their_parts_and_order_are():
    parts = [RandomPerturbation(), AtomMasking()]
    assert Compose(parts) == Compose([RandomPerturbation(), AtomMasking()])
    assert Compose(parts) != Compose(parts[::-1])
    assert Compose(parts) != Compose([RandomPerturbation(), AtomMasking(0.2)])
    assert Compose(parts[:1]) != parts[0]


@every
def test_isolated_atoms_can_be_augmented(name):
    from pymatgen.core import Lattice, Structure

    argon = Structure(Lattice.cubic(50), ["Ar"], [[0, 0, 0]])
    batch = collate(CrystalGraphTransformer().transform([argon, argon]), np.arange(2))
    view = AUGMENTATIONS[name](1.0)(batch, generator())
    assert view.distance.shape == (0,)
    assert torch.isfinite(view.pos).all()


# ---------------------------------------------------------------------- strain


def test_strain_is_symmetric_and_atoms_follow(batch):
    batch.cell, batch.pos, batch.image = batch.cell.double(), batch.pos.double(), batch.image.double()
    view = AUGMENTATIONS["strain"](0.05)(batch, generator())
    # The tensor that leads from one cell to the other: a crystal's vectors are rows.
    strain = torch.linalg.solve(batch.cell, view.cell) - torch.eye(3)
    torch.testing.assert_close(strain, strain.mT, rtol=0, atol=1e-10)
    assert strain.std() == pytest.approx(0.05 * ((3 + 6 / 2) / 9) ** 0.5, rel=0.1)
    moved = batch.pos + torch.einsum("ai,aij->aj", batch.pos, strain[batch.batch])
    torch.testing.assert_close(view.pos, moved, rtol=0, atol=1e-5)
    # Fractional coordinates stay.
    fractions = [torch.linalg.solve(part.cell.mT[batch.batch], part.pos[..., None]) for part in (batch, view)]
    torch.testing.assert_close(*fractions)


def test_lengths_change_as_the_strain_says(batch):
    view = AUGMENTATIONS["strain"](0.05)(batch, generator())
    strain = torch.linalg.solve(batch.cell.double(), view.cell.double()) - torch.eye(3)
    neighbor, center = batch.edge_index
    crystal = batch.batch[center]
    vector = batch.pos[neighbor] + torch.einsum("ei,eij->ej", batch.image, batch.cell[crystal]) - batch.pos[center]
    expected = torch.linalg.vector_norm(
        vector.double() + torch.einsum("ei,eij->ej", vector.double(), strain[crystal]), dim=1
    )
    torch.testing.assert_close(view.distance.double(), expected, rtol=1e-4, atol=1e-4)
    assert view.edge_index is batch.edge_index
    # To first order, the volume changes by the trace.
    ratio = torch.linalg.det(view.cell.double()) / torch.linalg.det(batch.cell.double())
    torch.testing.assert_close(ratio, torch.linalg.det(torch.eye(3) + strain))
    assert (ratio - 1).abs().max() > 0.05
    assert 0.7 < (ratio - 1).std() / (0.05 * 3**0.5) < 1.3


def test_strain_has_no_preferred_direction(batch):
    view = RandomStrain(1e-3)(batch, generator())
    strain = torch.linalg.solve(batch.cell.double(), view.cell.double()) - torch.eye(3)
    for direction in ([1.0, 0, 0], [1, 1, 0], [1, 1, 1], [1, -2, 3]):
        n = torch.tensor(direction).double()
        along = torch.einsum("i,cij,j->c", n, strain, n) / (n @ n)
        assert along.std() == pytest.approx(1e-3, rel=0.15)
        assert along.mean() == pytest.approx(0, abs=3e-4)


def test_no_strain_and_masked_lengths(batch):
    view = RandomStrain(0)(batch, generator())
    torch.testing.assert_close(view.distance, batch.distance, rtol=1e-5, atol=1e-5)
    assert torch.equal(view.cell, batch.cell)
    masked = EdgeMasking(0.5)(batch, generator())
    assert torch.equal(RandomStrain(0.1)(masked, generator()).distance.isinf(), masked.distance.isinf())
    with pytest.raises(ValueError, match="sigma must not be negative"):
        RandomStrain(-0.1)


def test_config_is_json_and_makes_the_same_augmentation():
    for name in AUGMENTATIONS:
        augmentation = AUGMENTATIONS[name](0.25)
        assert json.loads(json.dumps(augmentation.to_config())) == {"name": name, "params": augmentation.config}
        assert resolve_view(augmentation.to_config()) == augmentation
    both = Compose([RandomStrain(0.1), AtomMasking()])
    assert resolve_view(both.to_config()) == both


def test_augmentation_without_parameters():
    class Nothing(Augmentation):
        name = "nothing"

    assert Nothing().config == {}
    assert Nothing() == Nothing()
    assert repr(Nothing()) == "Nothing()"
