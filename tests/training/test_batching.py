from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from crystalssl import CrystalGraphTransformer
from crystalssl.training import BatchIterator, CrystalDataset, collate

ROWS = {
    "some in order": [0, 1, 2, 3],
    "backwards": [7, 3, 1],
    "one": [4],
    "one twice": [2, 2, 9, 2],
    "all": list(range(20)),
}


@pytest.fixture(scope="module", params=["full", "slice", "isolated atoms"])
def graphs(request, real_crystals, real_graphs):
    if request.param == "isolated atoms":  # so short a cutoff that many atoms have no edges
        graphs = CrystalGraphTransformer(cutoff=2.4).transform(real_crystals[0][:20])
        assert (np.diff(graphs.edge_offsets) == 0).any()
        assert graphs.n_edges > 0
        return graphs
    return real_graphs[30:50] if request.param == "slice" else real_graphs


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_collate_equals_pyg(graphs, rows):
    ours = collate(graphs, np.array(rows))
    theirs = Batch.from_data_list([graphs[row] for row in rows])
    for name in ("edge_index", "batch", "ptr", "z", "distance"):
        assert torch.equal(ours[name], theirs[name]), name
        assert ours[name].dtype == theirs[name].dtype, name
    assert torch.equal(ours.pos, theirs.pos.float())
    assert torch.equal(ours.cell, theirs.cell.float())
    assert torch.equal(ours.image, theirs.image.float())
    assert ours.num_graphs == theirs.num_graphs == len(rows)


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_edges_are_grouped_by_centre_and_by_neighbour(graphs, rows):
    batch = collate(graphs, np.array(rows))
    neighbors, centers = batch.edge_index
    atoms = torch.arange(len(batch.z))
    assert len(batch.edge_ptr) == len(batch.neighbor_ptr) == len(atoms) + 1
    assert torch.equal(torch.repeat_interleave(atoms, batch.edge_ptr.diff()), centers)
    assert torch.equal(batch.neighbor_order.sort().values, torch.arange(len(neighbors)))
    assert torch.equal(torch.repeat_interleave(atoms, batch.neighbor_ptr.diff()), neighbors[batch.neighbor_order])


def test_distances_follow_from_positions_and_images(real_graphs):
    batch = collate(real_graphs, np.arange(30))
    neighbors, centers = batch.edge_index
    shift = torch.einsum("ei,eij->ej", batch.image, batch.cell[batch.batch[centers]])
    distances = (batch.pos[neighbors] + shift - batch.pos[centers]).norm(dim=1)
    torch.testing.assert_close(distances, batch.distance, rtol=1e-4, atol=1e-4)


def numbered(graphs, n, offset=0):
    """The rows offset..offset+n of a store, whose targets are the numbers of the rows."""
    return CrystalDataset(graphs, np.arange(len(graphs), dtype=np.float32)[:, None], np.arange(offset, offset + n))


def sizes(iterator):
    return [batch.num_graphs for batch, _ in iterator]


@pytest.mark.parametrize(
    ("n", "batch_size", "expected"), [(10, 5, [5, 5]), (12, 5, [5, 5, 2]), (11, 5, [5, 5, 1]), (1, 5, [1]), (3, 9, [3])]
)
def test_in_order_covers_every_row(real_graphs, n, batch_size, expected):
    iterator = BatchIterator(numbered(real_graphs, n, offset=7), batch_size)
    assert sizes(iterator) == expected
    assert len(iterator) == len(expected)
    rows = torch.cat([y[:, 0] for _, y in iterator])
    assert rows.tolist() == list(range(7, 7 + n))


@pytest.mark.parametrize(
    ("n", "batch_size", "expected"),
    [(10, 5, [5, 5]), (12, 5, [5, 5, 2]), (11, 5, [5, 5]), (1, 5, [1]), (6, 5, [5]), (7, 5, [5, 2]), (5, 2, [2, 2])],
)
def test_shuffled_leaves_out_only_a_lone_last_crystal(real_graphs, n, batch_size, expected):
    iterator = BatchIterator(numbered(real_graphs, n, offset=7), batch_size, shuffle=True)
    assert sizes(iterator) == expected
    assert len(iterator) == len(expected)
    rows = [row for _, y in iterator for row in y[:, 0].tolist()]
    assert len(set(rows)) == len(rows) == sum(expected)
    assert set(rows) <= set(range(7, 7 + n))
    # Not always the same crystal is left out.
    seen = {row for _ in range(40) for _, y in iterator for row in y[:, 0].tolist()}
    assert seen == set(range(7, 7 + n))


def test_batches_hold_the_crystals_of_their_targets(real_graphs):
    iterator = BatchIterator(numbered(real_graphs, 20), 6, shuffle=True)
    for batch, y in iterator:
        rows = y[:, 0].long().numpy()
        assert torch.equal(batch.z, collate(real_graphs, rows).z)
        assert torch.equal(batch.y, y)


def test_without_targets_y_has_no_columns(real_graphs):
    [(batch, y)] = BatchIterator(CrystalDataset(real_graphs[:3]), 4)
    assert batch.y.shape == y.shape == (3, 0)


def test_sample_weights_are_a_field_of_the_batch(real_graphs):
    weights = np.linspace(1, 2, 20, dtype=np.float32)
    dataset = CrystalDataset(real_graphs[:20], np.arange(20, dtype=np.float32)[:, None], [3, 9, 4], weights)
    [(batch, y)] = BatchIterator(dataset, 4, shuffle=True)
    assert batch.sample_weight.tolist() == weights[y[:, 0].long().numpy()].tolist()
    [(batch, _)] = BatchIterator(CrystalDataset(real_graphs[:3]), 4)
    assert batch.sample_weight.tolist() == [1, 1, 1]


def test_order_comes_from_a_generator(real_graphs):
    before = torch.get_rng_state()
    generator = torch.Generator().manual_seed(1)
    iterator = BatchIterator(numbered(real_graphs, 20), 6, shuffle=True, generator=generator)
    orders = [[row for _, y in iterator for row in y[:, 0].tolist()] for _ in range(2)]
    generator.manual_seed(1)
    assert orders == [torch.randperm(20, generator=generator).tolist() for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), before)


def test_order_comes_from_torchs_global_generator_unless_another_is_given(real_graphs):
    iterator = BatchIterator(numbered(real_graphs, 20), 6, shuffle=True)

    def order():
        return [row for _, y in iterator for row in y[:, 0].tolist()]

    with torch.random.fork_rng():
        torch.manual_seed(1)
        first, second = order(), order()
        torch.manual_seed(1)
        assert order() == first == torch.randperm(20, generator=torch.Generator().manual_seed(1)).tolist()
    assert first != second


def test_in_order_draws_nothing(real_graphs):
    before = torch.get_rng_state()
    list(BatchIterator(numbered(real_graphs, 20), 6))
    assert torch.equal(torch.get_rng_state(), before)
