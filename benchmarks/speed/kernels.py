r"""Times the kernels of :mod:`genrec_pyg.ops` (sparse products, negatives, ranking, contrast)
against their alternatives.

.. code-block:: console

    python -m benchmarks.speed.kernels --root DIR --dataset tiktok --threads 1
    # generated, needs no data
    python -m benchmarks.speed.kernels --dataset electronics-shaped --repeats 10

Before anything is timed, every candidate is compared with the plain formula. Candidates take turns;
reported are medians and their ratio to the kernel of this package. All sparse candidates hold the
same normalized user-item adjacency. The share of the copy bound is the time that the machine would
take to copy what a product must move (indices and weights once, one row gathered per entry, the
result once) over the time of our product; above 1, gathered rows came from a cache.
"""

from __future__ import annotations

import logging
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from torch_geometric import EdgeIndex
from torch_geometric.nn import LGConv

from benchmarks.common.graphs import graph_parser, named_graph
from benchmarks.common.machine import machine_line, prepare
from benchmarks.common.reports import RESULTS, markdown_table, write_report
from benchmarks.common.timing import condense, interleaved_seconds
from genrec_pyg.graph import TrainingGraph, training_graph
from genrec_pyg.ops import (
    Adjacency,
    NegativeSampler,
    bipartite_adjacency,
    info_nce,
    layer_mean,
    masked_topk,
    spmm,
)
from genrec_pyg.transforms import ReorderNodes
from genrec_pyg.transforms.reorder_nodes import METHODS

try:
    import torch_sparse
except ImportError:
    torch_sparse = None

OURS = 'genrec_pyg.ops'
WIDTHS = (64, 128, 192)
#: Most users that are ranked: the loop over all of a large graph would take hours.
RANKED_USERS = 10_000
#: Users that are contrasted, a batch.
CONTRASTED_USERS = 2048
Product = Callable[[Tensor], Tensor]

logger = logging.getLogger('kernels')


def products(adj: Adjacency) -> dict[str, Product]:
    r"""Every way to multiply the adjacency with a dense matrix, by name; none may use the symmetry
    but ours.
    """
    edge_index, weight = adj.to_edge_index()
    size = adj.size
    coo = torch.sparse_coo_tensor(edge_index, weight, size).coalesce()
    csr = coo.to_sparse_csr()
    # LGConv and EdgeIndex aggregate at the target of an edge (source, target) = (column, row).
    index = EdgeIndex(edge_index, sparse_size=size, sort_order='row').fill_cache_()
    convolution = LGConv(normalize=False)
    flipped = edge_index.flip(0)
    found = {
        OURS: lambda x: spmm(adj, x),
        'torch COO': lambda x: torch.sparse.mm(coo, x),
        'torch CSR': lambda x: csr @ x,
        'PyG EdgeIndex.matmul': lambda x: index.matmul(x, weight),
        'PyG MessagePassing (LGConv)': lambda x: convolution(x, flipped, weight),
    }
    if torch_sparse_lacks(adj.device) is None:
        sparse = torch_sparse.SparseTensor(
            row=edge_index[0], col=edge_index[1], value=weight, sparse_sizes=size
        )
        sparse.storage.colptr(), sparse.storage.csr2csc(), sparse.storage.rowptr()
        found['torch_sparse'] = lambda x: torch_sparse.matmul(sparse, x)
    return found


def torch_sparse_lacks(device: torch.device) -> str | None:
    r"""Why torch-sparse does not run on ``device``, or none."""
    if torch_sparse is None:
        return 'not installed'
    return (
        'built without CUDA'
        if device.type == 'cuda' and torch.ops.torch_sparse.cuda_version() < 0
        else None
    )


def compiled_product(adj: Adjacency) -> Product:
    r"""Gather and index-add, which Inductor fuses into one loop in C++."""
    (row, col), weight = adj.to_edge_index()

    @torch.compile
    def run(x: Tensor) -> Tensor:
        return x.new_zeros(adj.size[0], x.size(1)).index_add(0, row, weight.unsqueeze(1) * x[col])

    return run


def stacked(product: Product, num_layers: int) -> Product:
    r"""The mean over layers :math:`0 \ldots L` as one writes it on top of a sparse product."""

    def run(x: Tensor) -> Tensor:
        out = total = x
        for _ in range(num_layers):
            out = product(out)
            total = total + out
        return total / (num_layers + 1)

    return run


def split_columns(product: Product, num_parts: int) -> Product:
    r"""One product per modality instead of one over all of them side by side."""
    return lambda x: torch.cat([product(part) for part in x.chunk(num_parts, dim=1)], dim=1)


def plain_product(adj: Adjacency) -> Product:
    r"""The formula :math:`y_r = \sum_{(r, c)} w_{rc} x_c` in float64."""
    (row, col), weight = adj.to_edge_index()

    def run(x: Tensor) -> Tensor:
        x = x.double()
        return x.new_zeros(adj.size[0], x.size(1)).index_add(
            0, row, weight.double().unsqueeze(1) * x[col]
        )

    return run


def check_products(candidates: Mapping[str, Product], plain: Product, x: Tensor) -> None:
    r"""Raises :class:`AssertionError` unless every candidate gives the value and gradient of the
    plain formula.
    """
    upstream = torch.randn(x.size(0), x.size(1), generator=torch.Generator().manual_seed(1)).to(
        x.device
    )
    wanted = value_and_gradient(plain, x, upstream.double())
    for name, candidate in candidates.items():
        for part, found, expected in zip(
            ('value', 'gradient'), value_and_gradient(candidate, x, upstream), wanted
        ):
            torch.testing.assert_close(
                found.double(),
                expected.double(),
                rtol=1e-4,
                atol=1e-5,
                msg=lambda text, label=f'{name}, {part}': f'{label}: {text}',
            )


def value_and_gradient(product: Product, x: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
    r"""The product with ``x`` and the gradient at ``x`` for the gradient ``upstream`` of the
    result.
    """
    x = x.detach().clone().requires_grad_()
    out = product(x)
    out.backward(upstream)
    return out.detach(), x.grad


def time_products(candidates: Mapping[str, Product], x: Tensor, repeats: int) -> dict[str, dict]:
    r"""Median seconds of every candidate, forward without gradient, and forward with backward."""
    leaf, upstream = x.clone().requires_grad_(), torch.ones_like(x)

    def forward(product: Product) -> Callable[[], object]:
        def run() -> Tensor:
            with torch.no_grad():
                return product(x)

        return run

    def both(product: Product) -> Callable[[], object]:
        def run() -> None:
            leaf.grad = None
            product(leaf).backward(upstream)

        return run

    return {
        'forward': condense(
            interleaved_seconds({name: forward(run) for name, run in candidates.items()}, repeats)
        ),
        'forward+backward': condense(
            interleaved_seconds({name: both(run) for name, run in candidates.items()}, repeats)
        ),
    }


def measure_products(adj: Adjacency, repeats: int, inductor: bool = False) -> dict[str, dict]:
    r"""Single products and layer means (two layers) at all widths; the widest is three modalities
    side by side.
    """
    results = {}
    base, plain = products(adj), plain_product(adj)
    if inductor:
        base['torch.compile, gather and index_add'] = compiled_product(adj)
    for width in WIDTHS:
        x = torch.randn(adj.size[1], width, generator=torch.Generator().manual_seed(width))
        single = dict(base)
        if width == 192:
            single[f'{OURS}, 3 passes of 64'] = split_columns(base[OURS], 3)
        check_products(single, plain, x)
        label = f'product, d = {width}' + (' (3 modalities of 64)' if width == 192 else '')
        results[label] = time_products(single, x, repeats)
        layers = {OURS: lambda x: layer_mean(adj, x, 2)}
        layers.update({name: stacked(run, 2) for name, run in base.items() if name != OURS})
        layers[f'{OURS}.spmm, unfused'] = stacked(base[OURS], 2)
        check_products(layers, stacked(plain, 2), x)
        results[label.replace('product', 'mean of layers 0 to 2')] = time_products(
            layers, x, repeats
        )
        logger.info('%s done', label)
    return results


def copy_bandwidth(size: int = 2**28, repeats: int = 7) -> float:
    r"""Bytes per second, read and written, of copying ``size`` bytes."""
    source = torch.zeros(size // 4)
    target = torch.empty_like(source)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        target.copy_(source)
        seconds.append(time.perf_counter() - start)
    return 2 * size / sorted(seconds)[repeats // 2]


def product_bytes(adj: Adjacency, width: int) -> int:
    r"""Bytes that a product with ``width`` float32 columns must move."""
    layout = adj.rowptr.numel() * adj.rowptr.element_size() + adj.nnz * (adj.col.element_size() + 4)
    return layout + 4 * width * (adj.nnz + adj.size[0])


def measure_negatives(graph: TrainingGraph, repeats: int) -> dict[str, dict]:
    r"""One negative per training edge: the vectorized sampler and rejection loops over pairs."""
    user = graph.edge_index[0]
    adjacency = Adjacency.from_edge_index(graph.edge_index, size=(graph.num_users, graph.num_items))
    seen = [set() for _ in range(graph.num_users)]
    for row, item in graph.edge_index.t().tolist():
        seen[row].add(item)

    def loop() -> Tensor:
        drawn = []
        for row in user.tolist():
            item = random.randrange(graph.num_items)
            while item in seen[row]:
                item = random.randrange(graph.num_items)
            drawn.append(item)
        return torch.tensor(drawn)

    rows, columns = graph.edge_index.numpy()
    matrix = sp.coo_matrix(
        (np.ones(len(rows)), (rows, columns)), shape=(graph.num_users, graph.num_items)
    ).todok()

    def sparse_loop() -> Tensor:  # how public implementations look pairs up
        drawn = np.empty(len(rows), dtype=np.int64)
        for place, row in enumerate(rows):
            drawn[place] = np.random.randint(graph.num_items)
            while (row, drawn[place]) in matrix:
                drawn[place] = np.random.randint(graph.num_items)
        return torch.from_numpy(drawn)

    sample = NegativeSampler(adjacency)

    def sampler() -> Tensor:
        negative, valid = sample(user)
        return negative[valid]

    candidates = {
        OURS: sampler,
        'loop over pairs, Python sets': loop,
        'loop over pairs, scipy dok_matrix': sparse_loop,
    }
    for name, draw in candidates.items():
        negative = draw().tolist()
        if len(negative) != user.numel() or any(
            item in seen[row] for row, item in zip(user.tolist(), negative)
        ):
            raise AssertionError(f'{name}: a negative is missing or is a training item')
    return condense(interleaved_seconds(candidates, repeats, warmup=1))


def measure_bound(
    adj: Adjacency, results: Mapping[str, dict], bandwidth: float
) -> dict[str, float]:
    r"""Share of the copy bound that our single products reach, by the label of the measurement."""
    shares = {}
    for width in WIDTHS:
        label = next(name for name in results if name.startswith(f'product, d = {width}'))
        shares[label] = (
            product_bytes(adj, width) / bandwidth / results[label]['forward'][OURS]['median']
        )
    return shares


def measure_ranking(graph: TrainingGraph, repeats: int, k: int = 20) -> dict[str, dict]:
    r"""The ``k`` best unseen items of the first users: blocks of users and a loop over users."""
    generator = torch.Generator().manual_seed(0)
    num_users = min(graph.num_users, RANKED_USERS)
    users = torch.randn(num_users, 64, generator=generator)
    items = torch.randn(graph.num_items, 64, generator=generator)
    adjacency = Adjacency.from_edge_index(graph.edge_index, size=(graph.num_users, graph.num_items))
    rowptr = adjacency.rowptr[: num_users + 1]
    col = adjacency.col[: int(rowptr[-1])]

    def loop() -> Tensor:
        best = []
        for user in range(num_users):
            scores = items @ users[user]
            scores[col[rowptr[user] : rowptr[user + 1]].long()] = -torch.inf
            best.append(scores.topk(k).indices)
        return torch.stack(best)

    def blocks() -> Tensor:
        return masked_topk(users, items, k, rowptr, col)[1]

    # Rounding may swap two items of nearly equal score, so the scores of the chosen items are
    # compared, not their ids.
    chosen = [
        (users.unsqueeze(1) * items[index.long()]).sum(dim=-1) for index in (blocks(), loop())
    ]
    torch.testing.assert_close(chosen[0], chosen[1], rtol=1e-4, atol=1e-4)
    return condense(
        interleaved_seconds({OURS: blocks, 'Python loop over users': loop}, repeats, warmup=1)
    )


def measure_contrast(
    graph: TrainingGraph, repeats: int, temperature: float = 0.2
) -> dict[str, dict]:
    r"""InfoNCE of a batch of users against all users, forward and backward: in blocks, and by
    torch's cross entropy.
    """
    generator = torch.Generator().manual_seed(0)
    positive = torch.randperm(graph.num_users, generator=generator)[:CONTRASTED_USERS]
    anchors = torch.randn(positive.numel(), 64, generator=generator, requires_grad=True)
    bank = torch.randn(graph.num_users, 64, generator=generator, requires_grad=True)

    def plain() -> Tensor:
        logits = F.normalize(anchors) @ F.normalize(bank).t() / temperature
        return F.cross_entropy(logits, positive)

    losses = {
        OURS: lambda: info_nce(anchors, None, temperature, bank, positive),
        'cross entropy': plain,
        'cross entropy, checkpointed': lambda: checkpoint(plain, use_reentrant=False),
    }

    def both(loss: Callable[[], Tensor]) -> Callable[[], tuple[Tensor, ...]]:
        def run() -> tuple[Tensor, ...]:
            value = loss()
            return value.detach(), *torch.autograd.grad(value, (anchors, bank))

        return run

    candidates = {name: both(loss) for name, loss in losses.items()}
    wanted = candidates['cross entropy']()
    for part, found, expected in zip(
        ('value', 'gradient of the anchors', 'gradient of the bank'), candidates[OURS](), wanted
    ):
        torch.testing.assert_close(
            found,
            expected,
            rtol=1e-4,
            atol=1e-4 * float(expected.abs().max()),
            msg=lambda text, part=part: f'{part}: {text}',
        )
    return condense(interleaved_seconds(candidates, repeats, warmup=1))


def render(document: Mapping[str, object]) -> str:
    r"""The report as Markdown."""
    sections = []
    for label, passes in document['products'].items():
        rows = [
            [
                name,
                *(f'{passes[part][name]["median"] * 1e3:.2f}' for part in passes),
                *(f'{passes[part][name]["times_ours"]:.2f}' for part in passes),
            ]
            for name in passes['forward']
        ]
        header = [
            'candidate',
            *(f'{part} [ms]' for part in passes),
            *(f'{part}, times ours' for part in passes),
        ]
        sections.append(f'## {label[0].upper()}{label[1:]}\n\n{markdown_table(header, rows)}')
    ranking = f'Best 20 unseen items of {min(document["num_users"], RANKED_USERS)} users, d = 64'
    contrast = (
        f'InfoNCE of {min(document["num_users"], CONTRASTED_USERS)} users against all, d = 64, '
        f'forward and backward'
    )
    for title, key in (
        ('Negatives of one epoch', 'negatives'),
        (ranking, 'ranking'),
        (contrast, 'contrast'),
    ):
        rows = [
            [name, f'{values["median"] * 1e3:.1f}', f'{values["times_ours"]:.1f}']
            for name, values in document[key].items()
        ]
        sections.append(f'## {title}\n\n{markdown_table(["candidate", "ms", "times ours"], rows)}')
    bound = [[label, f'{share:.2f}'] for label, share in document['share_of_copy_bound'].items()]
    sections.append(
        f'## Share of the copy bound\n\nCopying moves {document["copy_bandwidth"] / 1e9:.1f} GB/s '
        f'(read and written).\n\n{markdown_table(["forward", "share"], bound)}'
    )
    text = '\n\n'.join(sections)
    order = f', renumbered by {document["reorder"]}' if document['reorder'] else ''
    return f"""# Kernels on {document['dataset']}{order}

{document['num_users']} users, {document['num_items']} items, {document['nnz']} non-zeros in the
normalized adjacency. Medians
of {document['repeats']} calls, candidates in turn, equality of values and gradients with the plain
formula checked before.

{text}

{machine_line(document['machine'])}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    r"""Entry point."""
    parser = graph_parser(
        'Times the kernels of genrec_pyg.ops against their alternatives.', 'kernels', repeats=50
    )
    parser.add_argument('--reorder', choices=METHODS, help='renumber users and items first')
    parser.add_argument(
        '--inductor', action='store_true', help='also torch.compile; needs a C++ compiler'
    )
    args = parser.parse_args(arguments)
    description = prepare(args.threads)
    data = named_graph(args.dataset, args.root)
    if args.reorder:
        data = ReorderNodes(args.reorder)(data)
    graph = training_graph(data, [])
    adj = bipartite_adjacency(graph.edge_index, graph.num_users, graph.num_items, self_loops=True)
    few = max(3, args.repeats // 10)
    measured = measure_products(adj, args.repeats, args.inductor)
    bandwidth = copy_bandwidth()
    document = {
        'dataset': args.dataset,
        'reorder': args.reorder,
        'num_users': graph.num_users,
        'num_items': graph.num_items,
        'nnz': adj.nnz,
        'repeats': args.repeats,
        'machine': description,
        'products': measured,
        'copy_bandwidth': bandwidth,
        'share_of_copy_bound': measure_bound(adj, measured, bandwidth),
        'negatives': measure_negatives(graph, few),
        'ranking': measure_ranking(graph, few),
        'contrast': measure_contrast(graph, few),
    }
    markdown = render(document)
    name = '-'.join(['kernels', args.dataset, *filter(None, [args.reorder])])
    write_report(args.output or RESULTS / name, document, markdown)
    logger.info('\n%s', markdown)
    return 0


if __name__ == '__main__':
    sys.exit(main())
