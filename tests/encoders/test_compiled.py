"""Passes over edges of the package crystalssl-compiled, against the layers as their equations are written."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from crystalssl.encoders import ALIGNN, DeeperGATGNN, GatedGCN
from crystalssl.encoders._kernels import AtomLengthPairs, _library
from crystalssl.encoders._kernels._compiled import (
    compiled_pair_vectors,
    compiled_statistics,
    compiled_weighted_sum,
)
from crystalssl.encoders._kernels._library import compiled_serves
from crystalssl.encoders._readout import Statistics
from crystalssl.encoders._topology import Topology

compiled = pytest.mark.skipif(_library.library() is None, reason="crystalssl-compiled is not installed")

ENCODERS = {
    "gatedgcn": (GatedGCN, {}),
    "wide": (GatedGCN, {"hidden_dim": 128, "angular_channels": 32, "l_max": 8, "n_layers": 2}),
    "narrow": (GatedGCN, {"hidden_dim": 32, "n_layers": 2}),
    "without angles": (GatedGCN, {"l_max": 0}),
    "deepergatgnn": (DeeperGATGNN, {"n_layers": 2}),
    "alignn": (ALIGNN, {}),  # two graphs; the last pairs are not updated; no envelope
}


@pytest.fixture
def without(monkeypatch):
    """A function that has everything computed without the package."""
    return lambda: monkeypatch.setattr(_library, "library", lambda: None)


@pytest.fixture
def threads():
    """A function that sets the number of threads until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def case(request, make_batch, prototypes):
    """An encoder in which all weights matter, and a batch of crystals."""
    cls, params = ENCODERS[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = cls(readout="mean", **params)  # maxima of crystals are shared by atoms that differ by rounding
        for part in encoder.modules():
            if isinstance(part, torch.nn.LayerNorm):
                torch.nn.init.uniform_(part.weight, 0.5, 1.5)
                torch.nn.init.normal_(part.bias, 0, 0.3)
    return encoder, make_batch(prototypes[:40:2], cls.name)


every_encoder = pytest.mark.parametrize("case", ENCODERS, indirect=True)
one_encoder = pytest.mark.parametrize("case", ["gatedgcn"], indirect=True)


def results(encoder, batch):
    """The outputs of an encoder and the gradients of all weights by some combination of them."""
    encoder.zero_grad()
    outputs = [tensor for tensor in encoder(batch) if tensor is not None]
    generator = torch.Generator().manual_seed(1)
    sum((x * torch.randn(x.shape, generator=generator)).sum() for x in outputs).backward()
    gradients = {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}
    return {str(i): x.detach() for i, x in enumerate(outputs)}, gradients


def tolerance_of(encoder):
    # Through batch normalisation of few crystals gradients lose digits, however the rest is computed.
    return 2e-3 if isinstance(encoder, DeeperGATGNN) else 3e-5


def assert_close(found, expected, tolerance=3e-5):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            assert (ours[name] - tensor).abs().max() <= tolerance * tensor.abs().max(), name


@compiled
@every_encoder
def test_outputs_and_gradients_are_those_of_the_equations(case):
    encoder, batch = case
    plain = copy.deepcopy(encoder).double()
    plain.use_kernels("plain")
    exact = copy.copy(batch)
    for key in ("distance", "edge_weight", "pos", "cell", "image"):
        exact[key] = batch[key].double()
    exact_outputs, exact_gradients = results(plain, exact)
    assert compiled_serves(torch.empty(1, encoder.node_dim))
    assert_close(results(encoder, batch), (exact_outputs, exact_gradients), tolerance_of(encoder))


@compiled
@pytest.mark.parametrize(("n_heads", "dim"), [(1, 32), (3, 64), (2, 256)])
def test_attention_is_that_of_the_equations(n_heads, dim, make_batch, prototypes):
    batch = make_batch(prototypes[:20:4], "deepergatgnn")
    distances, length = batch.distance.unique(return_inverse=True)
    pairs = AtomLengthPairs.of(Topology.of(batch), length)
    generator = torch.Generator().manual_seed(0)
    rows = {"atoms": batch.num_nodes, "lengths": len(distances), "edges": len(length), "pairs": len(pairs.atom)}
    values = {
        "of_atoms": 20 * torch.randn(rows["atoms"], n_heads * dim, generator=generator),  # to where softplus ends
        "of_lengths": torch.randn(rows["lengths"], n_heads * dim, generator=generator),
        "attention": torch.randn(n_heads, 2 * dim, generator=generator),
        "weights": torch.randn(rows["edges"], n_heads, generator=generator),
    }
    wanted = [
        torch.randn(rows["pairs"], 2 * n_heads, generator=generator),
        torch.randn(rows["atoms"], dim, generator=generator),
    ]

    def equations(of_atoms, of_lengths, attention, weights):
        z = F.softplus(of_atoms[pairs.atom] + of_lengths[pairs.length]).unflatten(1, (n_heads, dim))
        scores = torch.einsum("rhd,hed->reh", z, attention.view(n_heads, 2, dim)).flatten(1)
        of_edges = torch.einsum("khd,kh->kd", z[pairs.of_neighbor], weights)
        return scores, pairs.topology.sum(of_edges)

    def passes(of_atoms, of_lengths, attention, weights):
        z, scores = compiled_pair_vectors(of_atoms, of_lengths, attention, pairs)
        return scores, compiled_weighted_sum(z.unflatten(1, (n_heads, dim)), weights, pairs)

    found = []
    for function, dtype in ((passes, torch.float32), (equations, torch.float64)):
        leaves = {name: value.to(dtype, copy=True).requires_grad_() for name, value in values.items()}
        outputs = function(**leaves)
        sum((x * y).sum() for x, y in zip(outputs, wanted, strict=True)).backward()
        found.append(
            ({str(i): x.detach() for i, x in enumerate(outputs)}, {name: leaf.grad for name, leaf in leaves.items()})
        )
    assert_close(*found, tolerance=1e-5)


@compiled
@one_encoder
def test_without_the_package_results_are_the_same(case, without):
    found = results(*case)
    without()
    assert not compiled_serves(torch.empty(1, 64))
    assert_close(found, results(*case))


@compiled
@every_encoder
def test_the_number_of_threads_changes_no_bit(case, threads, monkeypatch):
    # Products with weights are PyTorch's, which adds in another order on more threads: they stay on one.
    threads(1)
    assert len(Topology.of(case[1]).parts) > 3
    expected = results(*case)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    for ours, theirs in zip(results(*case), expected, strict=True):
        for name, tensor in theirs.items():
            assert torch.equal(ours[name], tensor), name


@compiled
@pytest.mark.parametrize("case", ["gatedgcn", "deepergatgnn"], indirect=True)
@pytest.mark.parametrize("instructions", ["AVX512", "AVX2", "DEFAULT"])
def test_every_library_computes_the_same(case, instructions, monkeypatch):
    order = ["DEFAULT", "AVX2", "AVX512"]
    if order.index(instructions) > order.index(torch.backends.cpu.get_cpu_capability()):
        pytest.skip("this processor has not got these instructions")
    expected = results(*case)
    library = _library.crystalssl_compiled().library(instructions)
    monkeypatch.setattr(_library, "library", lambda: library)
    assert_close(results(*case), expected, tolerance_of(case[0]))


def test_a_forked_process_gets_threads_of_its_own():
    assert _library._pool(1, 2) is _library._pool(1, 2)
    assert _library._pool(1, 2) is not _library._pool(2, 2)


@compiled
@pytest.mark.parametrize(
    "x",
    [torch.empty(3, 24), torch.empty(3, 64, dtype=torch.float64), torch.empty(3, 64, device="meta")],
    ids=["another width", "double precision", "another device"],
)
def test_what_there_is_no_pass_for_is_left_to_torch(x):
    assert not compiled_serves(x)
    assert compiled_serves(torch.empty(3, 64))
    assert not compiled_serves(torch.empty(3, 64), channels=8)
    assert not compiled_serves(torch.empty(3, 64), l_max=9)


@pytest.fixture
def find_again():
    """The library is looked for again, in the test and after it."""
    _library.library.cache_clear()
    yield
    _library.library.cache_clear()


def test_a_package_with_other_functions_is_not_used(monkeypatch, find_again):
    monkeypatch.setattr(_library, "crystalssl_compiled", lambda: SimpleNamespace(INTERFACE=-1))
    assert _library.library() is None


def test_a_package_that_cannot_be_loaded_is_said_to_be_so(monkeypatch, find_again):
    def library(instructions):
        raise OSError("a symbol is missing")

    package = SimpleNamespace(INTERFACE=_library._INTERFACE, library=library)
    monkeypatch.setattr(_library, "crystalssl_compiled", lambda: package)
    with pytest.warns(UserWarning, match=r"cannot be loaded \(a symbol is missing\); install it again"):
        assert _library.library() is None


@compiled
@pytest.mark.parametrize("names", [["mean"], ["mean", "max"], ["mean", "max", "min"]], ids=len)
@pytest.mark.parametrize("weighted", ["neither", "weights", "both"])
def test_statistics(names, weighted):
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([3, 0, 1, 7])
    ptr = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
    crystal = torch.arange(4).repeat_interleave(lengths)
    x = torch.randn(11, 48, generator=generator)
    x[1], x[5] = x[0], x[4]  # which share extremes
    weight = torch.tensor([1.0, 1, 4, 2, 3, 3, 1, 1, 2, 5, 1])[:, None] if weighted != "neither" else None
    fading = -torch.rand(11, 1, generator=generator) if weighted == "both" else None
    if fading is not None:
        fading[1], fading[5] = fading[0], fading[4]
    fast, plain, found = Statistics(names), Statistics(names), []
    plain.kernels = "plain"
    for pooling in (fast, plain):
        leaf = x.clone().requires_grad_()
        pooled = pooling(leaf, crystal, ptr, weight, fading)
        (pooled * torch.arange(pooled.numel()).view_as(pooled).sin()).sum().backward()
        found.append((pooled.detach(), leaf.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


@compiled
def test_no_number_is_lost():
    x = torch.zeros(2, 16)
    x[1, 3] = float("nan")
    pooled = compiled_statistics(x, torch.tensor([0, 2]), None, None, ["mean", "max", "min"])
    assert pooled.isnan().any()
    assert compiled_statistics(x, torch.tensor([0, 2]), None, None, ["max"]) is None
