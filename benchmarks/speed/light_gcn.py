r"""Times a training step of LightGCN beside torch_geometric's own model, given the same tables and
triples.

.. code-block:: console

    python -m benchmarks.speed.light_gcn --root DIR --dataset tiktok
    # generated, needs no data
    python -m benchmarks.speed.light_gcn --dataset baby-shaped --repeats 10

A step is forward pass, BPR with the L2 penalty, backward pass and Adam. torch_geometric's model
takes every edge in both directions, once as a tensor (gather and scatter), once as torch's CSR
matrix and, where torch-sparse is installed, as its ``SparseTensor``. Before anything is timed, loss
and gradient of all are compared. Candidates take turns; reported are medians and their ratio to
this package.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence

import torch
import torch_geometric.nn
from torch import Tensor
from torch_geometric.utils import to_torch_csr_tensor, to_undirected

from benchmarks.common.flags import positive
from benchmarks.common.graphs import graph_parser, named_graph
from benchmarks.common.machine import machine_line, prepare
from benchmarks.common.reports import RESULTS, markdown_table, write_report
from benchmarks.common.timing import condense, interleaved_seconds
from genrec_pyg.graph import TrainingGraph, training_graph
from genrec_pyg.loader import InteractionLoader, Triples
from genrec_pyg.nn.models import LightGCN

try:
    import torch_sparse
except ImportError:
    torch_sparse = None

OURS = 'genrec_pyg'
L2 = 1e-4

logger = logging.getLogger('light_gcn')


def losses(
    graph: TrainingGraph, channels: int, num_layers: int, batch: Triples
) -> dict[str, tuple[Callable[[], Tensor], list[torch.nn.Parameter]]]:
    r"""Function that computes the loss of ``batch``, and parameters, of every candidate; all start
    from equal tables.
    """
    ours = LightGCN(graph, hidden_channels=channels, num_layers=num_layers, l2=L2)
    found = {OURS: (lambda: sum(ours.loss(batch).values()), list(ours.parameters()))}
    num_nodes = graph.num_users + graph.num_items
    edge_index = to_undirected(
        graph.edge_index + torch.tensor([[0], [graph.num_users]]), num_nodes=num_nodes
    )
    size = (num_nodes, num_nodes)
    layouts = {'edge_index': edge_index, 'CSR': to_torch_csr_tensor(edge_index, size=size)}
    if torch_sparse is not None:
        layouts['SparseTensor'] = torch_sparse.SparseTensor.from_edge_index(
            edge_index, sparse_sizes=size
        )
    positive, negative = ([batch.user, item + graph.num_users] for item in (batch.pos, batch.neg))
    pairs = torch.cat([torch.stack(positive), torch.stack(negative)], dim=1)
    # of a triple each, as the penalty counts them
    rows = torch.cat([batch.user, *pairs[1].chunk(2)])
    for name, layout in layouts.items():
        model = torch_geometric.nn.LightGCN(num_nodes, channels, num_layers)
        with torch.no_grad():
            model.embedding.weight.copy_(ours.embedding.joint())

        def loss(model: torch.nn.Module = model, layout: Tensor = layout) -> Tensor:
            ranks = model(layout, pairs)
            return model.recommendation_loss(*ranks.chunk(2), node_id=rows, lambda_reg=L2 / 2)

        found[f'torch_geometric, {name}'] = (loss, list(model.parameters()))
    return found


def check(candidates: dict[str, tuple[Callable[[], Tensor], list[torch.nn.Parameter]]]) -> None:
    r"""Compares losses and gradients. Raises :class:`AssertionError` if they differ."""

    def measured(name: str) -> tuple[Tensor, Tensor]:
        loss, parameters = candidates[name]
        value = loss()
        return value.detach(), torch.cat(torch.autograd.grad(value, parameters))

    value, gradient = measured(OURS)
    for name in candidates:
        other, other_gradient = measured(name)
        torch.testing.assert_close(
            other, value, rtol=1e-5, atol=0, msg=lambda text, name=name: f'{name}, loss: {text}'
        )
        error = (other_gradient - gradient).abs().max() / gradient.abs().max()
        assert error < 1e-5, f'{name}: the gradient differs by {error:.1e} of its largest entry'


def steps(
    candidates: dict[str, tuple[Callable[[], Tensor], list[torch.nn.Parameter]]],
) -> dict[str, Callable[[], None]]:
    r"""Training step of every candidate."""

    def make(
        loss: Callable[[], Tensor], parameters: list[torch.nn.Parameter]
    ) -> Callable[[], None]:
        optimizer = torch.optim.Adam(parameters, fused=True)

        def step() -> None:
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()

        return step

    return {name: make(*candidate) for name, candidate in candidates.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    r"""Entry point."""
    parser = graph_parser(
        'Times a step of LightGCN beside torch_geometric.', 'light-gcn', repeats=20
    )
    parser.add_argument('--channels', type=positive, default=64)
    parser.add_argument('--layers', type=positive, default=3)
    parser.add_argument('--batch_size', type=positive, default=2048)
    args = parser.parse_args(arguments)
    description = prepare(args.threads)
    graph = training_graph(named_graph(args.dataset, args.root), [])
    candidates = losses(
        graph, args.channels, args.layers, next(iter(InteractionLoader(graph, args.batch_size)))
    )
    check(candidates)
    found = condense(interleaved_seconds(steps(candidates), args.repeats))
    document = {
        'dataset': args.dataset,
        'channels': args.channels,
        'layers': args.layers,
        'batch_size': args.batch_size,
        'repeats': args.repeats,
        'machine': description,
        'steps': found,
    }
    table = markdown_table(
        ['LightGCN', 'step [ms]', 'times ours'],
        [
            [name, f'{figures["median"] * 1e3:.2f}', f'{figures["times_ours"]:.2f}']
            for name, figures in found.items()
        ],
    )
    text = (
        f'# A training step of LightGCN on {args.dataset}\n\n{graph.num_users:,} users, '
        f'{graph.num_items:,} items, {graph.edge_index.size(1):,} interactions, {args.layers} '
        f'layers of width {args.channels}, batches of {args.batch_size}; medians of '
        f'{args.repeats}.\n\n{table}\n\n{machine_line(description)}\n'
    )
    write_report(args.output or RESULTS / f'light-gcn-{args.dataset}', document, text)
    logger.info('\n%s', text)
    return 0


if __name__ == '__main__':
    sys.exit(main())
