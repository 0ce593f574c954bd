"""From structures to embeddings, and what the estimators add to a bare loop."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crystalssl import CrystalGraphs, CrystalGraphTransformer, CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.encoders import ENCODERS
from crystalssl.estimators._network import PropertyNetwork, prediction_batch_size
from crystalssl.estimators._target import TargetScaler
from crystalssl.training import CrystalDataset
from crystalssl.training._batching import batches_for
from crystalssl.training._callbacks import MovingAverage, WarmupCosine
from crystalssl.training._seeding import MAX_SEED, derive_seed, seeded

from .data import CORPUS, Crystals
from .graphs import CUTOFF
from .peers import MAX_NEIGHBORS, published_cgcnn
from .published import PublishedCGCNN
from .race import AT_LEAST, AT_MOST, OURS, Differs, Pace, compare, same_numbers

BATCH_SIZE = 256
"""Of the published way, as in its script."""

# ---------------------------------------------------------------- embeddings


class PublishedPipeline:
    """Structures to vectors as CGCNN's published code does it, re-stated: 12 neighbours of every atom, dense arrays."""

    def __init__(self, network: PublishedCGCNN):
        self.network = network.eval()

    def load(self, structure: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return atomic numbers, neighbours' indices and their expanded distances."""
        indices, distances = published_cgcnn(structure, CUTOFF)
        centers = self.network.centers.numpy()
        gaussians = np.exp(-((distances[..., None] - centers) ** 2) / self.network.width**2)
        z = torch.tensor([site.specie.Z for site in structure])
        return z, torch.LongTensor(indices), torch.Tensor(gaussians)

    @torch.no_grad()
    def __call__(self, structures: list[Any]) -> np.ndarray:
        rows = []
        for start in range(0, len(structures), BATCH_SIZE):
            loaded = [self.load(s) for s in structures[start : start + BATCH_SIZE]]
            first = np.cumsum([0, *(len(z) for z, _, _ in loaded)])
            z, neighbors, edges = (torch.cat(parts) for parts in zip(*loaded, strict=True))
            neighbors = neighbors + torch.from_numpy(np.repeat(first[:-1], np.diff(first)))[:, None]
            x = self.network.embedding(self.network.element_features[z])
            for conv in self.network.convs:
                x = self.convolve(conv, x, edges, neighbors)
            rows += [x[a:b].mean(dim=0) for a, b in pairwise(first)]
        return torch.stack(rows).numpy()

    @staticmethod
    def convolve(conv: nn.Module, x: Tensor, edges: Tensor, neighbors: Tensor) -> Tensor:
        """ConvLayer.forward of the published code."""
        n, m = neighbors.shape
        total = torch.cat([x.unsqueeze(1).expand(n, m, x.shape[1]), x[neighbors, :], edges], dim=2)
        gated = conv.fc_full(total)
        gated = conv.bn1(gated.view(n * m, -1)).view(n, m, -1)
        gate, core = gated.chunk(2, dim=2)
        return F.softplus(x + conv.bn2(torch.sum(torch.sigmoid(gate) * F.softplus(core), dim=1)))


def time_embedding(crystals: Crystals, pace: Pace, threads: list[int], size: int) -> Iterator[dict[str, Any]]:
    """Structures to vectors of a bundled CGCNN, against the published graph and network with the same weights."""
    peer = "CGCNN's published way"
    for name in ("phonons", CORPUS):
        structures = crystals.sample(name, size)
        if not structures:
            continue
        embedder = PretrainedCrystalEmbedder("barlow", readout="mean", pooled_layers="last", device="cpu").fit(
            structures
        )
        published = PublishedPipeline(PublishedCGCNN(embedder.encoder_))
        checked = check_embeddings(name, structures, embedder, published)
        for n in threads:
            yield compare(
                f"structures to CGCNN embeddings, {name}",
                {OURS: lambda s=structures, e=embedder: e.transform(s), peer: lambda s=structures, p=published: p(s)},
                work=len(structures), unit="structures", threads=n, pace=pace, checked=checked,
                goals={peer: (AT_LEAST, 40)},
            )  # fmt: skip


def check_embeddings(what: str, structures: list[Any], embedder: Any, published: PublishedPipeline) -> str:
    """Compare vectors of the crystals whose 12th neighbour has no equal, of which ours would keep the rest as well."""
    graphs = CrystalGraphTransformer("cgcnn").transform(structures)
    n_edges = np.add.reduceat(np.diff(graphs.edge_offsets), graphs.atom_offsets[:-1])
    same = np.flatnonzero(n_edges == MAX_NEIGHBORS * np.diff(graphs.atom_offsets))
    if not len(same):
        raise Differs(f"{what}: no crystal has the same graph both ways")
    chosen = [structures[i] for i in same]
    difference = same_numbers(what, embedder.transform(chosen), published(chosen), 1e-4)
    return f"embeddings of the {len(same)} crystals without ties at the 12th neighbour within {difference:.0e}"


# ---------------------------------------------------------------- overhead of the estimator


def time_overhead(crystals: Crystals, pace: Pace, threads: list[int], size: int) -> Iterator[dict[str, Any]]:
    """CrystalSSLRegressor against loops of plain PyTorch that do the same arithmetic, down to the last bit."""
    data = crystals.phonons
    rows = np.random.default_rng(0).permutation(len(data.data))[:size]
    graphs = CrystalGraphTransformer(encoder="gatedgcn").transform([data.data[i] for i in rows])
    y = np.asarray(data.target, dtype=np.float64)[rows]
    model = CrystalSSLRegressor(pretrain=None, max_epochs=2, device="cpu", random_state=0)
    for n in threads:
        torch.set_num_threads(n)  # the last bits depend on it
        module, scaler = bare_fit(model, graphs, y)
        model.fit(graphs, y)
        for name, tensor in model.net_.module_.state_dict().items():
            if not torch.equal(tensor, module.state_dict()[name]):
                raise Differs(f"fit, {n} threads: {name} is not the same")
        if not np.array_equal(model.predict(graphs), bare_predict(module, scaler, graphs)):
            raise Differs(f"predict, {n} threads: predictions are not the same")
        common = {"work": size, "unit": "crystals", "threads": n, "pace": pace, "base": "bare torch loop"}
        yield compare(
            "CrystalSSLRegressor.fit, 2 epochs",
            {"bare torch loop": lambda: bare_fit(model, graphs, y), "fit": lambda: model.fit(graphs, y)},
            checked="the same weights, bit by bit", goals={"fit": (AT_MOST, 1.05)}, **common,
        )  # fmt: skip
        yield compare(
            "CrystalSSLRegressor.predict",
            {
                "bare torch loop": lambda m=module, s=scaler: bare_predict(m, s, graphs),
                "predict": lambda: model.predict(graphs),
            },
            checked="the same predictions, bit by bit", goals={"predict": (AT_MOST, 1.05)}, **common,
        )  # fmt: skip


def bare_fit(model: CrystalSSLRegressor, graphs: CrystalGraphs, y: np.ndarray) -> tuple[nn.Module, TargetScaler]:
    """Train as `fit` does: AdamW, warm-up and cosine, clipping, moving average, the same seeds and batches."""
    seed = int(np.random.RandomState(model.random_state).randint(MAX_SEED))
    scaler = TargetScaler(model.target_transform).fit(y[:, None])
    dataset = CrystalDataset(graphs, scaler.scale(y[:, None]))
    with seeded(derive_seed(seed, 0)):
        encoder_class = ENCODERS["gatedgcn"]
        encoder = encoder_class(**encoder_class.pooling)
        module = PropertyNetwork(encoder, 1, model.head_dim, model.dropout, False, dataset.cell_features)
    seed = derive_seed(seed, 1)
    generator = torch.Generator()
    batches = batches_for(module, dataset, model.batch_size, "cpu", shuffle=True, generator=generator)
    schedule = WarmupCosine(len(batches), model.max_epochs)
    groups = [{"params": list(part.parameters())} for part in (module.encoder, module.head)]
    optimizer = torch.optim.AdamW(groups, lr=model.learning_rate, weight_decay=model.weight_decay, fused=True)
    average = MovingAverage(module, model.ema_decay)
    module.train()
    step = 0
    for epoch in range(model.max_epochs):
        generator.manual_seed(derive_seed(seed, epoch))
        for batch, target in batches:
            for group in optimizer.param_groups:
                group["lr"] = model.learning_rate * schedule.factor(step)
            optimizer.zero_grad()
            F.l1_loss(module(batch), target).backward()
            nn.utils.clip_grad_norm_(module.parameters(), model.gradient_clip)
            optimizer.step()
            average.update_parameters(module)
            step += 1
    return average.module.eval(), scaler


@torch.inference_mode()
def bare_predict(module: nn.Module, scaler: TargetScaler, graphs: CrystalGraphs) -> np.ndarray:
    """Predict as `predict` does."""
    dataset = CrystalDataset(graphs)
    batches = batches_for(module, dataset, prediction_batch_size(dataset, "cpu"), "cpu")
    rows = [module(batch).numpy() for batch, _ in batches]
    return scaler.to_unit(scaler.unscale(np.concatenate(rows)))[:, 0]
