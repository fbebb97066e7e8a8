r"""Times the Triton kernels of :mod:`genrec_pyg.ops` on a GPU against what one would use without them.

.. code-block:: console

    python benchmarks/gpu.py                                    # a random graph with skewed degrees
    python benchmarks/gpu.py --root DIR --dataset tiktok

Every candidate is compared with a plain formula first. A measurement is a number of calls and one wait for the device, and
candidates take turns. *Eager* is the time of a call as a program sees it, in which small kernels wait for their launches;
*device* is the time of the same call replayed from a CUDA graph, where it can be recorded. Rates follow from a model of the
work given beside each table, not from counters: gathered rows that come out of the cache count, so they may exceed what the
memory delivers. Last come epochs of the trainer on a small graph, with and without ``cuda_graph``.
"""
from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from _measure import interleaved_seconds, machine, machine_line, markdown_table, positive, summary, write_report
from kernels import (
    WIDTHS,
    Product,
    check_products,
    plain_product,
    products,
    split_columns,
    stacked,
    torch_sparse_lacks,
    value_and_gradient,
)
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.datasets import demo_graph, load_dataset
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import training_graph
from genrec_pyg.nn.losses import bpr_loss
from genrec_pyg.nn.models import get_model
from genrec_pyg.ops import (
    BACKENDS,
    DEFAULT_BACKENDS,
    Adjacency,
    bipartite_adjacency,
    flip_dense,
    info_nce,
    layer_mean,
    masked_topk,
    normalized_layer_mean,
    sample_flips,
    spmm,
    topk_excluding,
)
from genrec_pyg.ops.backends import triton_kernels
from genrec_pyg.training import Trainer
from genrec_pyg.training.cuda_graph import Recorder

HERE = Path(__file__).resolve().parent
OURS = 'Triton'
Calls = Mapping[str, Callable[[], object]]

logger = logging.getLogger('gpu')


@contextlib.contextmanager
def default_backend(device: torch.device, name: str) -> Iterator[None]:
    r"""Makes ``name`` the back end of ``device`` within the context."""
    before = DEFAULT_BACKENDS.get(device.type)
    DEFAULT_BACKENDS[device.type] = name
    try:
        yield
    finally:
        if before is None:
            del DEFAULT_BACKENDS[device.type]
        else:
            DEFAULT_BACKENDS[device.type] = before


def with_backend(device: torch.device, name: str, function: Callable[[], object]) -> Callable[[], object]:
    r"""``function`` as it runs where ``name`` is the back end of ``device``."""
    def run() -> object:
        with default_backend(device, name):
            return function()
    return run


def wait(device: torch.device) -> None:
    r"""Waits until ``device`` has nothing left to do."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def record(function: Callable[[], object], device: torch.device) -> Callable[[], object]:
    r"""``function`` recorded as a CUDA graph; calling the result replays it and returns what it returned, with new contents.

    Raises:
        RuntimeError: If the function waits for the device, which cannot be recorded.
    """
    recorder = Recorder(device)
    for _ in range(3):  # compiles kernels and allocates what the record must not
        recorder.run(function)
    return recorder.record(function)


def timed(candidates: Calls, device: torch.device, repeats: int, calls: int) -> dict[str, dict]:
    r"""Median seconds of one call of every candidate.

    Args:
        candidates: Name to function.
        device: Device to wait for.
        repeats: Measurements.
        calls: Calls per measurement.
    """
    def batch(function: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(calls):
                function()
            wait(device)
        return run

    seconds = interleaved_seconds({name: batch(function) for name, function in candidates.items()}, repeats)
    return {name: summary([value / calls for value in values]) for name, values in seconds.items()}


def measure(candidates: Calls, device: torch.device, repeats: int, calls: int, waiting: Collection[str] = (),
            repeatable: bool = True) -> dict[str, dict]:
    r"""Times of every candidate: ``'eager'`` for all, ``'device'`` for those that can be recorded.

    Args:
        candidates: Name to function.
        device: Device to wait for.
        repeats: Measurements.
        calls: Calls per measurement.
        waiting: Candidates known to read a result back, so that there is no use in trying to record them.
        repeatable: Whether equal calls return equal tensors; then a replay must return them too.

    Raises:
        AssertionError: If a replay returns something else than a call.
    """
    found = {'eager': timed(candidates, device, repeats, calls), 'device': {}}
    recorded = {}
    for name in [name for name in candidates if device.type == 'cuda' and name not in waiting]:
        try:
            recorded[name] = record(candidates[name], device)
        except RuntimeError as error:
            logger.info('%s cannot be recorded: %s', name, str(error).splitlines()[0])
            # A failed record leaves torch's random generator as if it were recorded still; a whole one ends that.
            record(lambda: torch.zeros((), device=device), device)
            continue
        if repeatable:
            torch.testing.assert_close(recorded[name](), candidates[name](), rtol=1e-4, atol=1e-5,
                                       msg=lambda text, name=name: f'{name}, replayed: {text}')
    if recorded:
        found['device'] = timed(recorded, device, repeats, calls)
    return found


def random_graph(num_users: int, num_items: int, num_edges: int) -> Tensor:
    r"""Distinct user-item pairs ``[2, E]``, at most ``num_edges``; items have a skewed popularity (density as the fourth
    power of a uniform number)."""
    generator = torch.Generator().manual_seed(0)
    user = torch.randint(num_users, (num_edges, ), generator=generator)
    item = (torch.rand(num_edges, generator=generator, dtype=torch.float64) ** 4 * num_items).long()
    return torch.unique(torch.stack([user, item]), dim=1)


def directions(candidates: Mapping[str, Product], x: Tensor) -> dict[str, Calls]:
    r"""Calls that compute the products of ``x``, and calls that compute their gradients too."""
    leaf, upstream = x.clone().requires_grad_(), torch.ones_like(x)
    return {'forward': {name: lambda run=run: run(x) for name, run in candidates.items()},
            'forward and backward': {name: lambda run=run: torch.autograd.grad(run(leaf), leaf, upstream)
                                     for name, run in candidates.items()}}


@contextlib.contextmanager
def strategies() -> Iterator[dict[str, str]]:
    r"""Registers either strategy of the Triton product as a back end within the context; yields label to name."""
    kernel = triton_kernels().spmm
    names = {f'{OURS}, a row per program': 'triton_rows', f'{OURS}, equal shares': 'triton_shares'}
    for name, balanced in zip(names.values(), (False, True)):
        BACKENDS[name] = functools.partial(kernel, balanced=balanced)
    try:
        yield names
    finally:
        for name in names.values():
            del BACKENDS[name]


def runnable(candidates: Mapping[str, Product], x: Tensor) -> tuple[dict[str, Product], dict[str, str]]:
    r"""The candidates that run where ``x`` lives, and of the others the reason; what is this package's own must run."""
    found, left_out = {}, {}
    reason = torch_sparse_lacks(x.device)
    if reason is not None:
        left_out['torch_sparse'] = reason
    for name, candidate in candidates.items():
        try:
            value_and_gradient(candidate, x, torch.ones_like(x))
            found[name] = candidate
        except (RuntimeError, ImportError) as error:
            if OURS in name or 'genrec_pyg' in name:
                raise
            left_out[name] = str(error).splitlines()[0]
    return found, left_out


def measure_products(adj: Adjacency, repeats: int, calls: int,
                     widths: Sequence[int] = WIDTHS) -> tuple[dict[str, dict], dict[str, str]]:
    r"""Sparse products and layer means at all widths, forward and forward with backward, and which candidates were left out
    and why. 192 channels are three modalities in one launch, beside three launches of 64."""
    device, results = adj.device, {}
    with strategies() as names:
        labels = {OURS: 'triton', **names, 'genrec_pyg csr (cuSPARSE)': 'csr', 'genrec_pyg scatter': 'scatter'}
        base = {label: lambda x, backend=backend: spmm(adj, x, backend) for label, backend in labels.items()}
        base.update((name, run) for name, run in products(adj).items() if not name.startswith('genrec_pyg'))
        base, left_out = runnable(base, torch.ones(adj.size[1], 1, device=device))
        plain = plain_product(adj)
        for width in widths:
            x = torch.randn(adj.size[1], width, generator=torch.Generator().manual_seed(width)).to(device)
            single = {**base, f'{OURS}, 3 launches': split_columns(base[OURS], 3)} if width % 3 == 0 else base
            layers = {OURS: lambda x: layer_mean(adj, x, 2, 'triton'),
                      f'{OURS}, weights from degrees': lambda x: normalized_layer_mean(adj, x, 2, 'triton'),
                      **{name: stacked(run, 2) for name, run in base.items() if name != OURS and name not in names}}
            for label, candidates, formula, passes in (('product', single, plain, 1),
                                                       ('mean of layers 0 to 2', layers, stacked(plain, 2), 2)):
                check_products(candidates, formula, x)
                # Per entry an index, a weight and a row of x; per row of the result one write.
                work = passes * (adj.nnz * (4 + 4 + 4 * width) + adj.size[0] * 4 * width)
                for times, (direction, functions) in enumerate(directions(candidates, x).items(), start=1):
                    results[f'{label}, d = {width}, {direction}'] = {'work': times * work, 'unit': 'GB/s',
                                                                     **measure(functions, device, repeats, calls)}
            logger.info('products, d = %d done', width)
    return results, left_out


def measure_ranking(known: Adjacency, repeats: int, calls: int, k: int = 20, width: int = 64,
                    block: int = 1024) -> dict[str, dict]:
    r"""The ``k`` best unseen items of a block of users."""
    device = known.device
    users = torch.arange(min(block, known.size[0]), device=device)
    user, item = (torch.randn(n, width, generator=torch.Generator().manual_seed(n)).to(device)
                  for n in (users.numel(), known.size[1]))
    rowptr, col = known.select_rows(users)
    candidates = {OURS: with_backend(device, 'triton', lambda: masked_topk(user, item, k, rowptr, col)),
                  'matmul, mask, top-k': lambda: topk_excluding(user @ item.t(), k, rowptr, col),
                  'matmul, torch.topk, nothing excluded': lambda: (user @ item.t()).topk(k)}
    ours, expected = (candidates[name]()[0] for name in list(candidates)[:2])
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)  # near ties may change places, their scores not
    return {f'best {k} of {item.size(0)} items for {user.size(0)} users, d = {width}': {
        'work': 2 * user.numel() * item.size(0), 'unit': 'GFLOP/s',
        **measure(candidates, device, repeats, calls, waiting=['matmul, mask, top-k'])}}


def measure_flips(known: Adjacency, repeats: int, calls: int, block: int = 1024) -> dict[str, dict]:
    r"""Flips of a block of user rows, sparse (0.5 percent of the zeros) and dense (38 percent, the released variant)."""
    device, num_items = known.device, known.size[1]
    users = torch.arange(min(block, known.size[0]), device=device)
    rowptr, col = known.select_rows(users)
    dense = torch.zeros(users.numel(), num_items, device=device)
    dense[torch.repeat_interleave(rowptr.diff(), output_size=col.numel()), col] = 1
    results = {}
    for form, rate in (('sparse', 0.005), ('dense', 0.38)):
        p01, p10 = (torch.full((users.numel(), ), rate, device=device) for _ in range(2))

        def draw(form: str = form, p01: Tensor = p01, p10: Tensor = p10) -> object:
            return sample_flips(rowptr, col, num_items, p01, p10) if form == 'sparse' else flip_dense(dense, p01, p10)

        candidates = {OURS: with_backend(device, 'triton', draw), 'genrec_pyg in torch': with_backend(device, 'csr', draw)}
        ones = float(dense.sum())
        expected = rate * (dense.numel() - ones) + (1 - rate) * ones
        for name, candidate in candidates.items():
            drawn = candidate()
            found = drawn[1].numel() if form == 'sparse' else float(drawn.sum())
            if abs(found - expected) > 6 * (rate * (1 - rate) * dense.numel()) ** 0.5:
                raise AssertionError(f'{name}, {form} flips: {found:.0f} ones, expected about {expected:.0f}')
        results[f'{form} flips, {users.numel()} x {num_items}, rate {rate}'] = {
            'work': dense.numel(), 'unit': '1e9 entries/s',
            **measure(candidates, device, repeats, calls, candidates if form == 'sparse' else (), repeatable=False)}
    return results


def measure_contrast(device: torch.device, repeats: int, calls: int, rows: Sequence[int] = (1024, 4096, 16384),
                     width: int = 64, temperature: float = 0.2) -> dict[str, dict]:
    r"""In-batch InfoNCE with its gradients."""
    results = {}
    for count in rows:
        x, y = (torch.randn(count, width, generator=torch.Generator().manual_seed(seed)).to(device).requires_grad_()
                for seed in range(2))
        target = torch.arange(count, device=device)

        def whole(x: Tensor = x, y: Tensor = y, target: Tensor = target) -> Tensor:
            return F.cross_entropy(F.normalize(x) @ F.normalize(y).t() / temperature, target)

        def ours(x: Tensor = x, y: Tensor = y) -> Tensor:
            return info_nce(x, y, temperature)

        def both(loss: Callable[[], Tensor], x: Tensor = x, y: Tensor = y) -> Callable[[], object]:
            return lambda: torch.autograd.grad(loss(), (x, y))

        candidates = {OURS: with_backend(device, 'triton', both(ours)),
                      'genrec_pyg in torch': with_backend(device, 'csr', both(ours)), 'all logits': both(whole)}
        expected = both(whole)()
        for name, candidate in candidates.items():
            for found, wanted in zip(candidate(), expected):
                torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-6,
                                           msg=lambda text, name=name: f'contrast, {name}: {text}')
        # Three products forward and backward, and the logits once more where they are not kept.
        results[f'InfoNCE with gradients, {count} rows, d = {width}'] = {
            'work': 6 * count * count * width, 'unit': 'GFLOP/s', **measure(candidates, device, repeats, calls)}
    return results


def training_step(adj: Adjacency, edge_index: Tensor, num_users: int, batch_size: int = 1024,
                  width: int = 64) -> Callable[[], Tensor]:
    r"""One step of a small recommender, all of it on the device: draw a batch, propagate, BPR and contrast, Adam."""
    device = adj.device
    num_items = adj.size[0] - num_users
    table = torch.nn.Parameter(0.1 * torch.randn(adj.size[0], width, device=device))
    # A recorded step must keep its count of steps on the device.
    optimizer = torch.optim.Adam([table], lr=1e-2, fused=True, capturable=device.type == 'cuda')
    loss = torch.zeros((), device=device)

    def step() -> Tensor:
        user, item = edge_index[:, torch.randint(edge_index.size(1), (batch_size, ), device=device)]
        negative = torch.randint(num_items, (batch_size, ), device=device)
        optimizer.zero_grad(set_to_none=True)
        users, items = layer_mean(adj, table, 2).split([num_users, num_items])
        total = bpr_loss(users[user], items[item], items[negative]) + 0.1 * info_nce(users[user], items[item], 0.2)
        total.backward()
        optimizer.step()
        return loss.copy_(total.detach())

    return step


def measure_training(adj: Adjacency, edge_index: Tensor, num_users: int, repeats: int, calls: int, batch_size: int = 1024,
                     steps: int = 20) -> dict[str, dict]:
    r"""The training step with kernels in Triton and in torch; on the device it is replayed as one CUDA graph."""
    candidates, first = {}, {}
    for name, backend in ((OURS, 'triton'), ('torch', 'csr')):
        candidates[name] = step = with_backend(adj.device, backend, training_step(adj, edge_index, num_users, batch_size))
        losses = [float(step()) for _ in range(steps)]
        if not losses[-1] < losses[0]:
            raise AssertionError(f'training step, {name}: the loss went from {losses[0]:.4f} to {losses[-1]:.4f}')
        first[name] = losses[0]
    times = measure(candidates, adj.device, repeats, calls, repeatable=False)
    for name, step in candidates.items():
        loss = float(step())
        if not loss < first[name]:
            raise AssertionError(f'training step, {name}, measured: the loss went from {first[name]:.4f} to {loss:.4f}')
    return {f'training step, batch {batch_size}, 2 layers, d = 64': {'work': 1e9, 'unit': 'steps/s', **times}}


def measure_epochs(data: HeteroData, device: torch.device, epochs: int, batch_size: int = 1024) -> dict[str, dict]:
    r"""Epochs of the trainer on a small graph, where launches cost more than kernels: step by step, and on a GPU with the step
    recorded in each epoch. A recorded epoch includes its recording."""
    results = {}
    for name in ('LightGCN', 'GenRec'):
        seconds = {}
        for cuda_graph in (False, True) if device.type == 'cuda' else (False, ):
            trainer = Trainer(epochs=epochs + 1, batch_size=batch_size, patience=0, eval_every=epochs + 1, device=str(device),
                              cuda_graph=cuda_graph, progress=False)
            history = trainer.fit(get_model(name)(data), data).history[1:]  # kernels are compiled in the first epoch
            seconds['recorded' if cuda_graph else 'step by step'] = summary([record['seconds'] for record in history])
        num_edges = int(data['user', 'interacts', 'item'].train_mask.sum())
        results[f'epoch of {name}, {num_edges} interactions, batch {batch_size}'] = {
            'work': num_edges * 1e9, 'unit': 'interactions/s', 'eager': seconds, 'device': {}}
    return results


def render(document: Mapping[str, object]) -> str:
    r"""The report as Markdown."""
    sections = []
    for label, part in document['results'].items():
        rows = []
        for name, eager in part['eager'].items():
            replayed = part['device'].get(name)
            best = replayed or eager
            rows.append([name, f"{eager['median'] * 1e6:.1f}", f"{replayed['median'] * 1e6:.1f}" if replayed else '-',
                         f"{part['work'] / best['median'] / 1e9:.1f}"])
        header = ['candidate', 'eager [us]', 'device [us]', part['unit']]
        sections.append(f'## {label[0].upper()}{label[1:]}\n\n{markdown_table(header, rows)}')
    text = '\n\n'.join(sections)
    reasons = '; '.join(f'{name}: {reason}' for name, reason in document['left_out'].items())
    left_out = f'\n\nLeft out: {reasons}.' if reasons else ''
    return f"""# Kernels on {document['device']}

{document['graph']}: {document['num_users']} users, {document['num_items']} items, {document['nnz']} non-zeros in the
normalised adjacency, longest row {document['longest_row']}. Medians of {document['repeats']} measurements of up to
{document['calls']} calls, candidates in turn, results compared before. Eager: calls as a program makes them; device: replayed
from a CUDA graph, '-' where that cannot be recorded. The last column is the modelled work over the device time (else the eager
time): index, weight and row of x per entry and one write per row of a product; two operations per channel of every inner
product.{left_out}

{text}

{document['device']}. {machine_line(document['machine'])}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    r"""Entry point."""
    parser = argparse.ArgumentParser(description='Times the Triton kernels of genrec_pyg.ops and recorded training on a GPU.')
    parser.add_argument('--root', type=Path, help='folder that holds the data sets')
    parser.add_argument('--dataset', help='data set: a folder under the root; a random graph by default')
    parser.add_argument('--users', type=positive, default=100_000, help='users of the random graph')
    parser.add_argument('--items', type=positive, default=50_000, help='items of the random graph')
    parser.add_argument('--edges', type=positive, default=2_000_000, help='pairs drawn for the random graph')
    parser.add_argument('--repeats', type=positive, default=20, help='measurements of each candidate')
    parser.add_argument('--calls', type=positive, default=20, help='calls per measurement')
    parser.add_argument('--output', type=Path, help='report without ending, default benchmarks/results/gpu-GRAPH')
    args = parser.parse_args(arguments)
    if args.dataset is not None and args.root is None:
        parser.error(f'--dataset: got {args.dataset} without --root, accepted is a folder under it')
    logging.basicConfig(level=logging.INFO, format='%(message)s', stream=sys.stderr)
    if not torch.cuda.is_available():
        logger.error('gpu.py: torch finds no CUDA device; this benchmark needs one, kernels.py measures the CPU')
        return 1
    try:
        triton_kernels()
    except ConfigError as error:
        logger.error('gpu.py: %s', error)
        return 1
    device = torch.device('cuda')
    torch.manual_seed(0)
    document = run(args, device, torch.cuda.get_device_name(device))
    write_report(args.output or HERE / 'results' / f"gpu-{args.dataset or 'random'}", document, render(document))
    logger.info('\n%s', render(document))
    return 0


def run(args: argparse.Namespace, device: torch.device, name: str) -> dict[str, object]:
    r"""All measurements on ``device``, which the report calls ``name``."""
    if args.dataset is None:
        edge_index, num_users, num_items = random_graph(args.users, args.items, args.edges), args.users, args.items
    else:
        graph = training_graph(load_dataset(args.dataset, str(args.root)), [])
        edge_index, num_users, num_items = graph.edge_index, graph.num_users, graph.num_items
    description = machine(torch.get_num_threads())
    edge_index = edge_index.to(device)
    adj = bipartite_adjacency(edge_index, num_users, num_items, self_loops=True)
    known = Adjacency.from_edge_index(edge_index, size=(num_users, num_items))
    few = max(args.calls // 4, 1)
    results, left_out = measure_products(adj, args.repeats, args.calls)
    results = {**results, **measure_ranking(known, args.repeats, few),
               **measure_flips(known, args.repeats, few), **measure_contrast(device, args.repeats, few),
               **measure_training(adj, edge_index, num_users, args.repeats, args.calls),
               **measure_epochs(demo_graph(), device, args.repeats)}
    return {'device': name, 'graph': args.dataset or 'Random graph', 'num_users': num_users, 'num_items': num_items,
            'nnz': adj.nnz, 'longest_row': int(adj.row_degree().max()), 'repeats': args.repeats, 'calls': args.calls,
            'machine': description, 'left_out': left_out, 'results': results}


if __name__ == '__main__':
    sys.exit(main())
