"""The networks of matgl and alignn, with the weights that ours are given, and batches as they read them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from crystalssl.encoders import ALIGNN, MEGNet

# ---------------------------------------------------------------- matgl


class Matgl(nn.Module):
    """matgl's MEGNet with CDSSL's widths, reading our batches."""

    def __init__(self) -> None:
        super().__init__()
        from matgl.models import MEGNet as Peer
        from pymatgen.core import Element

        self.peer = Peer(
            hidden_layer_sizes_input=(128, 64), hidden_layer_sizes_conv=(128, 128, 64),
            hidden_layer_sizes_output=(64, 32), cutoff=5.0,
            element_types=tuple(Element.from_Z(z).symbol for z in range(1, 119)),
        )  # fmt: skip

    @property
    def head(self) -> nn.Module:
        return self.peer.output_proj

    def forward(self, inputs: tuple[Data, Tensor]) -> Tensor:
        return self.peer(*inputs).view(-1, 1)

    @staticmethod
    def read(batch: Batch) -> tuple[Data, Tensor]:
        """Return a batch as matgl reads it: edges from the centre, into which it sums, to the neighbour."""
        neighbors, centers = batch.edge_index
        shift = torch.einsum("ei,eij->ej", batch.image, batch.cell[batch.batch[centers]])
        data = Data(
            node_type=batch.z - 1, pos=batch.pos, edge_index=torch.stack([centers, neighbors]), pbc_offshift=shift
        )
        data.batch, data.num_graphs = batch.batch, batch.num_graphs
        return data, torch.zeros(batch.num_graphs, 2)


@torch.no_grad()
def copy_megnet(matgl: Matgl) -> MEGNet:
    """Return our MEGNet with the weights of matgl's."""
    peer, encoder = matgl.peer, MEGNet()
    encoder.elements.weight[1:] = peer.embedding.layer_node_embedding.weight
    _copy_mlp(encoder.node_encoder, peer.node_encoder)
    _copy_mlp(encoder.edge_encoder, peer.edge_encoder)
    encoder.state.copy_(_linears(peer.state_encoder)[0].bias)
    _copy_mlp(encoder.state_encoder, peer.state_encoder, skip=1)
    for ours, theirs in zip(encoder.blocks, peer.blocks, strict=True):
        for name in ("node", "edge", "state"):
            _copy_mlp(getattr(ours, f"{name}_update"), getattr(theirs.conv, f"{name}_func"))
            if theirs.has_dense:
                _copy_mlp(getattr(ours, f"{name}_dense"), getattr(theirs, f"{name}_func"))
    encoder.readout.nodes.lstm.load_state_dict(peer.node_s2s.lstm.state_dict())
    encoder.readout.edges.lstm.load_state_dict(peer.edge_s2s.lstm.state_dict())
    return encoder


def _linears(mlp: nn.Module) -> list[nn.Linear]:
    return [part for part in mlp.layers if isinstance(part, nn.Linear)]


def _copy_mlp(ours: nn.Module, theirs: nn.Module, skip: int = 0) -> None:
    for a, b in zip(ours.layers, _linears(theirs)[skip:], strict=True):
        a.load_state_dict(b.state_dict())


# ---------------------------------------------------------------- alignn


class Alignn(nn.Module):
    """The authors' ALIGNN in pure PyTorch, which makes its line graph and angles of our edges.

    Parameters
    ----------
    encoder : ALIGNN
        Whose sizes it gets, and which gets its weights.
    """

    def __init__(self, encoder: ALIGNN):
        super().__init__()
        from alignn.models.alignn_atomwise_pure import ALIGNNAtomWisePure, ALIGNNAtomWisePureConfig

        self.register_buffer("element_features", encoder.element_features)
        config = encoder.config
        self.peer = ALIGNNAtomWisePure(
            ALIGNNAtomWisePureConfig(
                name="alignn_atomwise_pure", atom_input_features=self.element_features.shape[1],
                hidden_features=config["hidden_dim"], alignn_layers=config["n_layers"],
                gcn_layers=config["n_gcn_layers"], calculate_gradient=False,
            )
        )  # fmt: skip

    @property
    def head(self) -> nn.Module:
        return self.peer.fc

    def forward(self, batch: Batch) -> Tensor:
        from alignn.torch_graph_builder import TorchGraph, _line_graph_edges

        starts, ends = batch.edge_index
        shift = torch.einsum("ei,eij->ej", batch.image, batch.cell[batch.batch[ends]])
        graph = TorchGraph(
            len(batch.z), starts, ends, ndata={"atom_features": self.element_features[batch.z]},
            edata={"r": batch.pos[ends] - batch.pos[starts] - shift}, batch_num_nodes=batch.ptr.diff(),
        )  # fmt: skip
        line = TorchGraph(len(starts), *_line_graph_edges(starts, ends, len(batch.z)))
        return self.peer((graph, line, None))["out"].view(-1, 1)


@torch.no_grad()
def copy_alignn(alignn: Alignn, encoder: ALIGNN) -> None:
    """Give our ALIGNN the weights of the authors'."""
    peer = alignn.peer
    encoder.embedding.load_state_dict(peer.atom_embedding.layer.state_dict())
    for mlp, theirs in ((encoder.lengths, peer.edge_embedding), (encoder.cosines, peer.angle_embedding)):
        for part, of_peer in zip(mlp, theirs[1:], strict=True):
            part.load_state_dict(of_peer.layer.state_dict())
    convs = [*(conv.node_update for conv in peer.alignn_layers), *peer.gcn_layers]
    line_convs = [conv.edge_update for conv in peer.alignn_layers]
    for theirs, ours in zip([*convs, *line_convs], [*encoder.convs, *encoder.line_convs], strict=True):
        # What they call destination is where an edge ends, our centre.
        parts = (theirs.dst_gate, theirs.src_gate, theirs.dst_update, theirs.src_update)
        ours.nodes.weight.copy_(torch.cat([part.weight for part in parts]))
        ours.nodes.bias.copy_(torch.cat([part.bias for part in parts]))
        ours.nodes.bias[: len(theirs.edge_gate.bias)] += theirs.edge_gate.bias
        ours.edge.weight.copy_(theirs.edge_gate.weight)
        ours.node_norm.load_state_dict(theirs.bn_nodes.state_dict())
        if ours.edge_norm is not None:
            ours.edge_norm.load_state_dict(theirs.bn_edges.state_dict())
