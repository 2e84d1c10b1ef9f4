"""How well a graph hangs together, regressed by a message-passing network over the atlas of small graphs."""

import gzip
import re
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.base import Batch, data_fingerprint
from tasks.options import check_int
from tasks.tensors import TensorTask, cut, package_file, shuffled

MAX_NODES = 7
NUM_HELD_OUT = 150
SPLIT_SEED = 0


class MessagePassing(nn.Module):
    """Nodes send a linear map of their features to their neighbours; sums over nodes are read out by a perceptron."""

    def __init__(self, width: int, num_layers: int) -> None:
        super().__init__()
        self.embed = nn.Linear(1, width)
        self.own = nn.ModuleList(nn.Linear(width, width) for _ in range(num_layers))
        self.sent = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(num_layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(num_layers))
        self.readout = nn.Linear(width, width)
        self.head = nn.Linear(width, 1)

    def forward(self, adjacency: Tensor) -> Tensor:
        """Predictions [B] for adjacency matrices [B, 7, 7], whose unused nodes have no edges."""
        adjacency = adjacency.to(self.head.weight.dtype)
        degree = adjacency.sum(-1, keepdim=True)
        is_node = (degree > 0).to(adjacency.dtype)
        x = self.embed(degree)
        for own, sent, norm in zip(self.own, self.sent, self.norms, strict=True):
            x = x + F.relu(norm(own(x) + adjacency @ sent(x)))
        pooled = (x * is_node).sum(-2) / MAX_NODES
        return self.head(F.relu(self.readout(pooled))).squeeze(-1)  # type: ignore[no-any-return]


class GraphTask(TensorTask):
    """Regress the algebraic connectivity of all 995 connected graphs of two to seven nodes.

    The label is exact: the second-smallest eigenvalue of the Laplacian (Fiedler 1973), standardised over all graphs.
    The graphs are those of "An Atlas of Graphs" (Read and Wilson 1998), from the data file of networkx (BSD-3), which
    comes with torch and is not imported.

    Args:
        width: Features of a node.
        num_layers: Rounds of messages.
        batch_size: Graphs per batch.
    """

    num_eval = eval_chunk = NUM_HELD_OUT

    def __init__(self, *, width: int, num_layers: int, batch_size: int, device: torch.device) -> None:
        super().__init__(batch_size=batch_size, device=device)
        check_int("width", width, 1, 4096)
        check_int("num_layers", num_layers, 1, 64)
        self.width, self.num_layers = width, num_layers
        adjacency, num_nodes = load_atlas(package_file("networkx", "generators/atlas.dat.gz", "networkx"))
        labels = algebraic_connectivity(adjacency, num_nodes)
        kept = labels > 1e-9
        adjacency, labels = adjacency[kept], labels[kept]
        order = shuffled(len(labels), SPLIT_SEED)
        scaled = ((labels - labels.mean()) / labels.std()).float()
        self.hold(cut(adjacency[order], scaled[order], num_val=NUM_HELD_OUT, num_test=NUM_HELD_OUT))
        self.fingerprint = data_fingerprint(
            adjacency.numpy().tobytes(), split_seed=SPLIT_SEED, num_held_out=NUM_HELD_OUT
        )

    def make_model(self) -> nn.Module:
        """The message-passing network."""
        return MessagePassing(self.width, self.num_layers)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean squared error of the standardised connectivity: 1 for the mean as a guess."""
        adjacency, labels = batch
        predicted = model(adjacency)
        return F.mse_loss(predicted, labels.to(predicted.dtype))


def load_atlas(file: Path) -> tuple[Tensor, Tensor]:
    """All 1,253 graphs of up to seven nodes: adjacency matrices, int8 [1253, 7, 7], and numbers of nodes [1253]."""
    text = gzip.decompress(file.read_bytes()).decode("ascii")
    graphs = re.findall(r"GRAPH \d+\nNODES (\d)\n((?:\d \d\n)*)", text)
    adjacency = torch.zeros(len(graphs), MAX_NODES, MAX_NODES, dtype=torch.int8)
    for matrix, (_, edges) in zip(adjacency, graphs, strict=True):
        for line in edges.splitlines():
            a, b = map(int, line.split())
            matrix[a, b] = matrix[b, a] = 1
    return adjacency, torch.tensor([int(num_nodes) for num_nodes, _ in graphs])


def algebraic_connectivity(adjacency: Tensor, num_nodes: Tensor) -> Tensor:
    """Second-smallest Laplacian eigenvalue, float64 [N], of graphs that use their first `num_nodes` rows [N]."""
    is_unused = torch.arange(MAX_NODES) >= num_nodes.unsqueeze(1)
    # An unused node would add an eigenvalue 0; on the diagonal it gets one above all others, which are at most 7.
    diagonal = adjacency.double().sum(-1) + 2.0 * MAX_NODES * is_unused
    eigenvalues: Tensor = torch.linalg.eigvalsh(torch.diag_embed(diagonal) - adjacency.double())
    return eigenvalues[:, 1].where(num_nodes > 1, 0.0)
