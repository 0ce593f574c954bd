"""An epoch of supervised training: forward, backward and Adam on the same batches, with the same weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch

from crystalssl.encoders import ALIGNN, CGCNN, ENCODERS, DeeperGATGNN, Encoder, GatedGCN, MEGNet
from crystalssl.encoders._kernels import _library
from crystalssl.encoders._layers import Layer
from crystalssl.training._precision import matmul_precision

from .data import Crystals, batches_of
from .limits import gemm_limit
from .packages import Alignn, Matgl, copy_alignn, copy_megnet
from .peers import find
from .published import PublishedCGCNN, PyGCGCNN
from .race import AT_LEAST, OURS, Differs, Pace, compare, same_numbers

BATCH_SIZE = 128
TOLERANCE = 1e-4  # of outputs, relative to the largest
PLAIN = "plain PyTorch"
ALL_EDGES = "all atoms and edges"
UNCOMPILED = "without crystalssl-compiled"
KEPT = 1.15
"""How many times longer a training step takes without a fast form that is worth its lines."""
EACH_VALUE_ONCE = "each length and angle once"
_SEED = 0


class WithHead(nn.Module):
    """An encoder, or a network that stands for one, with a small head on its vectors of crystals."""

    def __init__(self, encoder: nn.Module, head: nn.Module):
        super().__init__()
        self.encoder = encoder
        self.head = copy.deepcopy(head)

    def forward(self, batch: Batch) -> Tensor:
        encoded = self.encoder(batch)
        return self.head(encoded.graph if isinstance(self.encoder, Encoder) else encoded)


def make_head(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, 128), nn.SiLU(), nn.Linear(128, 1))


def epoch(model: nn.Module, inputs: list[Any], targets: list[Tensor]) -> Callable[[], None]:
    """Return a function that trains a model on all batches once."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()

    def train() -> None:
        for batch, y in zip(inputs, targets, strict=True):
            optimizer.zero_grad()
            F.l1_loss(model(batch), y).backward()
            optimizer.step()

    return train


@torch.no_grad()
def outputs_agree(what: str, model: nn.Module, batch: Any, peer: nn.Module, peers_batch: Any) -> float:
    """Return by how much the outputs of two models differ in evaluation, or raise `Differs`."""
    found, expected = model.eval()(batch), peer.eval()(peers_batch)
    if not expected.std() > 1e-3 * expected.abs().max():
        raise Differs(f"{what}: the peer predicts the same for all crystals, so that nothing can be told from it")
    return same_numbers(what, found, expected, TOLERANCE)


def train_row(
    name: str,
    model: nn.Module,
    peers: dict[str, tuple[nn.Module, list[Any]]],
    batches: list[Batch],
    pace: Pace,
    threads: int,
    **row: Any,
) -> dict[str, Any]:
    """Race our model against peers, which come with their inputs; the limit is that of its matrix products."""
    targets = [batch.y for batch in batches]
    n_crystals = sum(batch.num_graphs for batch in batches)
    models = {OURS: (model, batches), **peers}
    # The weights move while flops are counted: of a copy.
    limit = gemm_limit(epoch(copy.deepcopy(model), batches, targets), threads)
    return compare(
        name,
        {key: epoch(*parts, targets) for key, parts in models.items()},
        work=n_crystals, unit="crystals", threads=threads, pace=pace, limit=limit, **row,
    )  # fmt: skip


def time_cgcnn(crystals: Crystals, pace: Pace, threads: list[int], size: int) -> Iterator[dict[str, Any]]:
    """CGCNN against its published layer and PyG's, with our expansion of distances and with that of a user."""
    batches = crystals.batches(size, BATCH_SIZE, "cgcnn")
    torch.manual_seed(_SEED)
    encoder = CGCNN()
    for conv in encoder.convs:  # statistics of which nothing cancels
        conv.gate_norm.running_mean.normal_(0, 0.3)
        conv.core_norm.running_mean.normal_(0, 0.3)
    head = make_head(encoder.graph_dim)
    model = WithHead(encoder, head)
    published, pyg = PublishedCGCNN(encoder), PyGCGCNN(encoder)
    loaded = [batch.clone() for batch in batches]
    for batch in loaded:
        batch.gaussians = published.published_gaussians(batch)
    peers = {
        "published layer": (WithHead(published, head), loaded),
        "published layer, our Gaussians": (WithHead(published, head), batches),
        "PyG CGConv": (WithHead(PyGCGCNN(encoder, own_gaussians=True), head), batches),
        "PyG CGConv, our Gaussians": (WithHead(pyg, head), batches),
    }
    worst = max(
        outputs_agree(name, model, batches[0], peer, inputs[0])
        for name, (peer, inputs) in peers.items()
        if name.startswith("published")
    )
    n_edges = sum(batch.edge_index.shape[1] for batch in batches)
    for n in threads:
        yield train_row(
            "training CGCNN", copy.deepcopy(model),
            {name: (copy.deepcopy(peer), inputs) for name, (peer, inputs) in peers.items()}, batches, pace, n,
            goals=dict.fromkeys(peers, (AT_LEAST, 4)),
            checked=f"outputs with the published layer within {worst:.0e}; the same {n_edges:,} edges",
        )  # fmt: skip


def time_megnet(crystals: Crystals, pace: Pace, threads: list[int], size: int) -> Iterator[dict[str, Any]]:
    """MEGNet against matgl's."""
    matgl, excuse = find("matgl.models")
    torch.manual_seed(_SEED)
    graphs = crystals.graphs(size, "megnet")
    full, distinct = (batches_of(graphs, BATCH_SIZE, sight) for sight in (None, MEGNet().sight))
    if matgl is None:
        encoder = MEGNet()
        model, peers, missing = WithHead(encoder, make_head(encoder.graph_dim)), {}, {"matgl": excuse}
    else:
        peer = Matgl()
        model, missing = WithHead(copy_megnet(peer), peer.head), {}
        peers = {"matgl": (peer, [Matgl.read(batch) for batch in full])}
    peers[ALL_EDGES] = (model, full)
    difference = max(outputs_agree(name, model, distinct[0], peer, inputs[0]) for name, (peer, inputs) in peers.items())
    for n in threads:
        yield train_row(
            "training MEGNet", *copy.deepcopy((model, peers)), distinct, pace, n, missing=missing,
            goals={"matgl": (AT_LEAST, 3)} if matgl else {},
            checked=f"outputs within {difference:.0e}; {_shares(distinct, full)}",
        )  # fmt: skip


def time_alignn(crystals: Crystals, pace: Pace, threads: list[int], size: int) -> Iterator[dict[str, Any]]:
    """ALIGNN against the authors', line graph included, in our default size and in the paper's."""
    module, excuse = find("alignn.models.alignn_atomwise_pure")
    sizes = {
        "64 wide, 2+2 layers": ({}, size // 8),
        "256 wide, 4+4 layers": ({"hidden_dim": 256, "n_layers": 4, "n_gcn_layers": 4}, size // 64),
    }
    for name, (params, n_crystals) in sizes.items():
        batches = crystals.batches(max(n_crystals, 4), 32, "alignn")
        torch.manual_seed(_SEED)
        encoder = ALIGNN(**params)
        if module is None:
            model, checked = WithHead(encoder, make_head(encoder.graph_dim)), "alone"
            peers: dict[str, tuple[nn.Module, list[Any]]] = {}
        else:
            peer = Alignn(encoder)
            copy_alignn(peer, encoder)
            model, peers = WithHead(encoder, peer.head), {"alignn": (peer, batches)}
            difference = outputs_agree("ALIGNN", model, batches[0], peer, batches[0])
            checked = f"outputs within {difference:.0e}"
        for n in threads:
            yield train_row(
                f"training ALIGNN, {name}", *copy.deepcopy((model, peers)), batches, pace, n,
                goals={"alignn": (AT_LEAST, 3)}, checked=checked, missing={} if module else {"alignn": excuse},
            )  # fmt: skip


def time_deepergatgnn(crystals: Crystals, pace: Pace, threads: list[int], size: int) -> Iterator[dict[str, Any]]:
    """DeeperGATGNN against its equations in plain PyTorch, the authors' layer, and without crystalssl-compiled."""
    batches = crystals.batches(size, BATCH_SIZE, "deepergatgnn")
    torch.manual_seed(_SEED)
    encoder = DeeperGATGNN(readout="mean")
    model = WithHead(encoder, make_head(encoder.graph_dim))
    plain = copy.deepcopy(model)
    plain.encoder.use_kernels("plain")
    uncompiled, missing = _without_compiled(model, batches)
    peers = {PLAIN: (plain, batches), **uncompiled}
    difference = max(outputs_agree(name, model, batches[0], peer, batches[0]) for name, (peer, _) in peers.items())
    for n in threads:
        yield train_row(
            "training DeeperGATGNN", *copy.deepcopy((model, peers)), batches, pace, n, missing=missing,
            goals={PLAIN: (AT_LEAST, 3)}, checked=f"outputs within {difference:.0e}",
        )  # fmt: skip


def time_gatedgcn(crystals: Crystals, pace: Pace, threads: list[int], size: int) -> Iterator[dict[str, Any]]:
    """GatedGCN as the estimators train it, against its equations in plain PyTorch, and without each of two things.

    These are to compute atoms and edges that are alike once, and the passes of crystalssl-compiled.
    """
    model, plain, full, distinct = _gatedgcn(crystals, size)
    uncompiled, missing = _without_compiled(model, distinct)
    peers = {PLAIN: (plain, full), ALL_EDGES: (model, full), **uncompiled}
    difference = max(outputs_agree(name, model, distinct[0], peer, inputs[0]) for name, (peer, inputs) in peers.items())
    for n in threads:
        yield train_row(
            "training GatedGCN", *copy.deepcopy((model, peers)), distinct, pace, n, missing=missing,
            goals={PLAIN: (AT_LEAST, 2)},
            checked=f"outputs within {difference:.0e}; {_shares(distinct, full)}",
        )  # fmt: skip


def _gatedgcn(crystals: Crystals, size: int) -> tuple[nn.Module, nn.Module, list[Batch], list[Batch]]:
    """Return the network, its plain form, batches of all atoms and edges, and batches of what is distinct."""
    torch.manual_seed(_SEED)
    encoder = GatedGCN(**GatedGCN.pooling)
    model = WithHead(encoder, make_head(encoder.graph_dim))
    plain = copy.deepcopy(model)
    plain.encoder.use_kernels("plain")
    graphs = crystals.graphs(size, "gatedgcn")
    full, distinct = (batches_of(graphs, BATCH_SIZE, sight) for sight in (None, encoder.sight))
    return model, plain, full, distinct


def _shares(distinct: list[Batch], full: list[Batch]) -> str:
    n_distinct, n_edges = (sum(batch.edge_index.shape[1] for batch in batches) for batches in (distinct, full))
    return f"{n_distinct:,} of {n_edges:,} edges are distinct"


def time_levers(crystals: Crystals, pace: Pace, threads: list[int], size: int) -> Iterator[dict[str, Any]]:
    """What else could make GatedGCN faster on a processor and does not: Inductor, and products in bfloat16."""
    model, plain, full, distinct = _gatedgcn(crystals, size)
    induced = copy.deepcopy(plain)
    for conv in induced.encoder.convs:
        conv.forward = torch.compile(conv.forward, dynamic=True)
    peers = {PLAIN: (plain, full), "plain PyTorch, torch.compile": (induced, full)}
    difference = max(outputs_agree(name, model, distinct[0], peer, inputs[0]) for name, (peer, inputs) in peers.items())
    targets = [batch.y for batch in full]
    contenders = {name: epoch(*parts, targets) for name, parts in {OURS: (model, distinct), **peers}.items()}
    train_another = epoch(copy.deepcopy(model), distinct, targets)

    def rounded() -> None:
        with matmul_precision("medium"):
            train_another()

    yield compare(
        "levers for GatedGCN", {**contenders, "crystalssl, products in bfloat16": rounded},
        work=sum(batch.num_graphs for batch in full), unit="crystals", threads=1, pace=pace,
        checked=f"outputs within {difference:.0e}, but for those of bfloat16",
    )  # fmt: skip


def _without_compiled(
    model: nn.Module, batches: list[Batch]
) -> tuple[dict[str, tuple[nn.Module, list[Batch]]], dict[str, str]]:
    """Return what computes without crystalssl-compiled, or, if that is all there is, why it is missing."""
    if _library.library() is None:
        return {}, {UNCOMPILED: "crystalssl-compiled is not installed"}
    return {UNCOMPILED: (Uncompiled(model), batches)}, {}


class Uncompiled(nn.Module):
    """A network that computes without crystalssl-compiled."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, batch: Batch) -> Tensor:
        with mock.patch.object(_library, "library", return_value=None):
            return self.network(batch)


def time_kernels(crystals: Crystals, pace: Pace, threads: list[int], size: int) -> Iterator[dict[str, Any]]:
    """Every encoder with the fast forms of all its layers, against the same without that of one kind of layer.

    On one thread, in CPU time. The encoders are pooled as they are finetuned.
    """
    for name, encoder_class in ENCODERS.items():
        batch_size = BATCH_SIZE // 4 if encoder_class is ALIGNN else BATCH_SIZE
        batches = crystals.batches(max(size * batch_size // BATCH_SIZE, 4), batch_size, name)
        torch.manual_seed(_SEED)
        encoder = encoder_class(**encoder_class.pooling)
        model = WithHead(encoder, make_head(encoder.graph_dim))
        peers, worst = {}, 0.0
        for what, switch in _kernels_of(encoder).items():
            without = copy.deepcopy(model)
            switch(without.encoder)
            worst = max(worst, outputs_agree(f"{name}, {what}", model, batches[0], without, batches[0]))
            peers[f"without {what}"] = (without, batches)
        if peers:
            # Each value once is for the many angles of ALIGNN; the others have it for nothing.
            judged = [what for what in peers if what != f"without {EACH_VALUE_ONCE}" or encoder_class is ALIGNN]
            yield train_row(
                f"kernels of {name}", model, peers, batches, pace, 1,
                goals=dict.fromkeys(judged, (AT_LEAST, KEPT)), checked=f"outputs within {worst:.0e}",
            )  # fmt: skip


def _kernels_of(encoder: Encoder) -> dict[str, Callable[[Encoder], None]]:
    """Return the fast forms that an encoder has, and functions that switch each of them off."""

    def switch_off(kind: type[Layer]) -> Callable[[Encoder], None]:
        def switch(encoder: Encoder) -> None:
            for part in encoder.modules():
                if isinstance(part, kind):
                    part.kernels = "plain"

        return switch

    layers = {type(part) for part in encoder.modules() if hasattr(type(part).forward, "__wrapped__")}
    kernels = {kind.__name__: switch_off(kind) for kind in sorted(layers, key=lambda kind: kind.__name__)}
    if hasattr(encoder, "embed_lengths"):
        kernels[EACH_VALUE_ONCE] = switch_off(type(encoder))
    return kernels
