"""The fast forms of layers whose equations are in the encoders' own files.

The contract of a fast form is that of :func:`crystalssl.encoders._layers.fast_form`: it takes the layer and its
inputs, and returns what the layer's plain `forward` returns. ``tests/encoders/test_kernels.py`` compares the two. A
fast form is kept if a training step of its encoder takes at least 15 % longer without it; ``python benchmarks/speed.py
--parts kernels`` measures that.

What makes them fast: on CPUs, indexing rows (``x[index]``) and scattering them back (``index_add``) cost several times
more than the arithmetic between them. `embedding_bag` sums groups of rows in one pass without temporaries. Over edges
grouped by neighbour beforehand it also does the backward pass of a gather. An elementwise operation on an array of one
row per edge takes several times longer than on as many numbers that are still in the cache from the operation before.
Where nothing but such operations follow each other, they are done on a chunk of rows, then on the next.
"""

from __future__ import annotations

from crystalssl.encoders._kernels._attention import AtomLengthPairs, agat_conv
from crystalssl.encoders._kernels._cgcnn import cg_conv
from crystalssl.encoders._kernels._compiled import compiled_statistics
from crystalssl.encoders._kernels._gated import edge_gated_conv
from crystalssl.encoders._kernels._library import compiled_serves
from crystalssl.encoders._kernels._megnet import mlp, mlp_of_edges

__all__ = [
    "AtomLengthPairs",
    "agat_conv",
    "cg_conv",
    "compiled_serves",
    "compiled_statistics",
    "edge_gated_conv",
    "mlp",
    "mlp_of_edges",
]
