r"""What is compared on a GPU: every kernel with what one would use without it, each checked against
a plain formula first.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from benchmarks.common.timing import summary
from benchmarks.speed.gpu.timing import Calls, measure, with_backend
from benchmarks.speed.kernels import (
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
from genrec_pyg.nn.losses import bpr_loss
from genrec_pyg.nn.models import get_model
from genrec_pyg.ops import (
    BACKENDS,
    Adjacency,
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

OURS = 'Triton'

logger = logging.getLogger('gpu')


def directions(candidates: Mapping[str, Product], x: Tensor) -> dict[str, Calls]:
    r"""Calls that compute the products of ``x``, and calls that compute their gradients too."""
    leaf, upstream = x.clone().requires_grad_(), torch.ones_like(x)
    return {
        'forward': {name: lambda run=run: run(x) for name, run in candidates.items()},
        'forward and backward': {
            name: lambda run=run: torch.autograd.grad(run(leaf), leaf, upstream)
            for name, run in candidates.items()
        },
    }


@contextlib.contextmanager
def strategies() -> Iterator[dict[str, str]]:
    r"""Registers either strategy of the Triton product as a back end within the context; yields
    label to name.
    """
    kernel = triton_kernels().spmm
    names = {f'{OURS}, a row per program': 'triton_rows', f'{OURS}, equal shares': 'triton_shares'}
    for name, balanced in zip(names.values(), (False, True)):
        BACKENDS[name] = functools.partial(kernel, balanced=balanced)
    try:
        yield names
    finally:
        for name in names.values():
            del BACKENDS[name]


def runnable(
    candidates: Mapping[str, Product], x: Tensor
) -> tuple[dict[str, Product], dict[str, str]]:
    r"""The candidates that run where ``x`` lives, and of the others the reason; what is this
    package's own must run.
    """
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


def measure_products(
    adj: Adjacency, repeats: int, calls: int, widths: Sequence[int] = WIDTHS
) -> tuple[dict[str, dict], dict[str, str]]:
    r"""Sparse products and layer means at all widths, forward and forward with backward, and which
    candidates were left out and why. 192 channels are three modalities in one launch, beside three
    launches of 64.
    """
    device, results = adj.device, {}
    with strategies() as names:
        labels = {
            OURS: 'triton',
            **names,
            'genrec_pyg csr (cuSPARSE)': 'csr',
            'genrec_pyg scatter': 'scatter',
        }
        base = {
            label: lambda x, backend=backend: spmm(adj, x, backend)
            for label, backend in labels.items()
        }
        base.update(
            (name, run) for name, run in products(adj).items() if not name.startswith('genrec_pyg')
        )
        base, left_out = runnable(base, torch.ones(adj.size[1], 1, device=device))
        plain = plain_product(adj)
        for width in widths:
            x = torch.randn(adj.size[1], width, generator=torch.Generator().manual_seed(width)).to(
                device
            )
            single = (
                {**base, f'{OURS}, 3 launches': split_columns(base[OURS], 3)}
                if width % 3 == 0
                else base
            )
            layers = {
                OURS: lambda x: layer_mean(adj, x, 2, 'triton'),
                f'{OURS}, weights from degrees': lambda x: normalized_layer_mean(
                    adj, x, 2, 'triton'
                ),
                **{
                    name: stacked(run, 2)
                    for name, run in base.items()
                    if name != OURS and name not in names
                },
            }
            for label, candidates, formula, passes in (
                ('product', single, plain, 1),
                ('mean of layers 0 to 2', layers, stacked(plain, 2), 2),
            ):
                check_products(candidates, formula, x)
                # Per entry an index, a weight and a row of x; per row of the result one write.
                work = passes * (adj.nnz * (4 + 4 + 4 * width) + adj.size[0] * 4 * width)
                for times, (direction, functions) in enumerate(
                    directions(candidates, x).items(), start=1
                ):
                    results[f'{label}, d = {width}, {direction}'] = {
                        'work': times * work,
                        'unit': 'GB/s',
                        **measure(functions, device, repeats, calls),
                    }
            logger.info('products, d = %d done', width)
    return results, left_out


def measure_ranking(
    known: Adjacency, repeats: int, calls: int, k: int = 20, width: int = 64, block: int = 1024
) -> dict[str, dict]:
    r"""The ``k`` best unseen items of a block of users."""
    device = known.device
    users = torch.arange(min(block, known.size[0]), device=device)
    user, item = (
        torch.randn(n, width, generator=torch.Generator().manual_seed(n)).to(device)
        for n in (users.numel(), known.size[1])
    )
    rowptr, col = known.select_rows(users)
    candidates = {
        OURS: with_backend(device, 'triton', lambda: masked_topk(user, item, k, rowptr, col)),
        'matmul, mask, top-k': lambda: topk_excluding(user @ item.t(), k, rowptr, col),
        'matmul, torch.topk, nothing excluded': lambda: (user @ item.t()).topk(k),
    }
    ours, expected = (candidates[name]()[0] for name in list(candidates)[:2])
    # near ties may change places, their scores not
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    return {
        f'best {k} of {item.size(0)} items for {user.size(0)} users, d = {width}': {
            'work': 2 * user.numel() * item.size(0),
            'unit': 'GFLOP/s',
            **measure(candidates, device, repeats, calls, waiting=['matmul, mask, top-k']),
        }
    }


def measure_flips(known: Adjacency, repeats: int, calls: int, block: int = 1024) -> dict[str, dict]:
    r"""Flips of a block of user rows, sparse (0.5 percent of the zeros) and dense (38 percent, the
    released variant).
    """
    device, num_items = known.device, known.size[1]
    users = torch.arange(min(block, known.size[0]), device=device)
    rowptr, col = known.select_rows(users)
    dense = torch.zeros(users.numel(), num_items, device=device)
    dense[torch.repeat_interleave(rowptr.diff(), output_size=col.numel()), col] = 1
    results = {}
    for form, rate in (('sparse', 0.005), ('dense', 0.38)):
        p01, p10 = (torch.full((users.numel(),), rate, device=device) for _ in range(2))

        def draw(form: str = form, p01: Tensor = p01, p10: Tensor = p10) -> object:
            return (
                sample_flips(rowptr, col, num_items, p01, p10)
                if form == 'sparse'
                else flip_dense(dense, p01, p10)
            )

        candidates = {
            OURS: with_backend(device, 'triton', draw),
            'genrec_pyg in torch': with_backend(device, 'csr', draw),
        }
        ones = float(dense.sum())
        expected = rate * (dense.numel() - ones) + (1 - rate) * ones
        for name, candidate in candidates.items():
            drawn = candidate()
            found = drawn[1].numel() if form == 'sparse' else float(drawn.sum())
            if abs(found - expected) > 6 * (rate * (1 - rate) * dense.numel()) ** 0.5:
                raise AssertionError(
                    f'{name}, {form} flips: {found:.0f} ones, expected about {expected:.0f}'
                )
        results[f'{form} flips, {users.numel()} x {num_items}, rate {rate}'] = {
            'work': dense.numel(),
            'unit': '1e9 entries/s',
            **measure(
                candidates,
                device,
                repeats,
                calls,
                candidates if form == 'sparse' else (),
                repeatable=False,
            ),
        }
    return results


def measure_contrast(
    device: torch.device,
    repeats: int,
    calls: int,
    rows: Sequence[int] = (1024, 4096, 16384),
    width: int = 64,
    temperature: float = 0.2,
) -> dict[str, dict]:
    r"""In-batch InfoNCE with its gradients."""
    results = {}
    for count in rows:
        x, y = (
            torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
            .to(device)
            .requires_grad_()
            for seed in range(2)
        )
        target = torch.arange(count, device=device)

        def whole(x: Tensor = x, y: Tensor = y, target: Tensor = target) -> Tensor:
            return F.cross_entropy(F.normalize(x) @ F.normalize(y).t() / temperature, target)

        def ours(x: Tensor = x, y: Tensor = y) -> Tensor:
            return info_nce(x, y, temperature)

        def both(loss: Callable[[], Tensor], x: Tensor = x, y: Tensor = y) -> Callable[[], object]:
            return lambda: torch.autograd.grad(loss(), (x, y))

        candidates = {
            OURS: with_backend(device, 'triton', both(ours)),
            'genrec_pyg in torch': with_backend(device, 'csr', both(ours)),
            'all logits': both(whole),
        }
        expected = both(whole)()
        for name, candidate in candidates.items():
            for found, wanted in zip(candidate(), expected):
                torch.testing.assert_close(
                    found,
                    wanted,
                    rtol=1e-3,
                    atol=1e-6,
                    msg=lambda text, name=name: f'contrast, {name}: {text}',
                )
        # Three products forward and backward, and the logits once more where they are not kept.
        results[f'InfoNCE with gradients, {count} rows, d = {width}'] = {
            'work': 6 * count * count * width,
            'unit': 'GFLOP/s',
            **measure(candidates, device, repeats, calls),
        }
    return results


def training_step(
    adj: Adjacency, edge_index: Tensor, num_users: int, batch_size: int = 1024, width: int = 64
) -> Callable[[], Tensor]:
    r"""One step of a small recommender, all of it on the device: draw a batch, propagate, BPR and
    contrast, Adam.
    """
    device = adj.device
    num_items = adj.size[0] - num_users
    table = torch.nn.Parameter(0.1 * torch.randn(adj.size[0], width, device=device))
    # A recorded step must keep its count of steps on the device.
    optimizer = torch.optim.Adam([table], lr=1e-2, fused=True, capturable=device.type == 'cuda')
    loss = torch.zeros((), device=device)

    def step() -> Tensor:
        user, item = edge_index[:, torch.randint(edge_index.size(1), (batch_size,), device=device)]
        negative = torch.randint(num_items, (batch_size,), device=device)
        optimizer.zero_grad(set_to_none=True)
        users, items = layer_mean(adj, table, 2).split([num_users, num_items])
        total = bpr_loss(users[user], items[item], items[negative]) + 0.1 * info_nce(
            users[user], items[item], 0.2
        )
        total.backward()
        optimizer.step()
        return loss.copy_(total.detach())

    return step


def measure_training(
    adj: Adjacency,
    edge_index: Tensor,
    num_users: int,
    repeats: int,
    calls: int,
    batch_size: int = 1024,
    steps: int = 20,
) -> dict[str, dict]:
    r"""The training step with kernels in Triton and in torch; on the device it is replayed as one
    CUDA graph.
    """
    candidates, first = {}, {}
    for name, backend in ((OURS, 'triton'), ('torch', 'csr')):
        candidates[name] = step = with_backend(
            adj.device, backend, training_step(adj, edge_index, num_users, batch_size)
        )
        losses = [float(step()) for _ in range(steps)]
        if not losses[-1] < losses[0]:
            raise AssertionError(
                f'training step, {name}: the loss went from {losses[0]:.4f} to {losses[-1]:.4f}'
            )
        first[name] = losses[0]
    times = measure(candidates, adj.device, repeats, calls, repeatable=False)
    for name, step in candidates.items():
        loss = float(step())
        if not loss < first[name]:
            raise AssertionError(
                f'training step, {name}, measured: the loss went from {first[name]:.4f} to '
                f'{loss:.4f}'
            )
    return {
        f'training step, batch {batch_size}, 2 layers, d = 64': {
            'work': 1e9,
            'unit': 'steps/s',
            **times,
        }
    }


def measure_epochs(
    data: HeteroData, device: torch.device, epochs: int, batch_size: int = 1024
) -> dict[str, dict]:
    r"""Epochs of the trainer on a small graph, where launches cost more than kernels: step by step,
    and on a GPU with the step recorded in each epoch. A recorded epoch includes its recording.
    """
    results = {}
    for name in ('LightGCN', 'GenRec'):
        seconds = {}
        for cuda_graph in (False, True) if device.type == 'cuda' else (False,):
            trainer = Trainer(
                epochs=epochs + 1,
                batch_size=batch_size,
                patience=0,
                eval_every=epochs + 1,
                device=str(device),
                cuda_graph=cuda_graph,
                progress=False,
            )
            # kernels are compiled in the first epoch
            history = trainer.fit(get_model(name)(data), data).history[1:]
            seconds['recorded' if cuda_graph else 'step by step'] = summary(
                [record['seconds'] for record in history]
            )
        num_edges = int(data['user', 'interacts', 'item'].train_mask.sum())
        results[f'epoch of {name}, {num_edges} interactions, batch {batch_size}'] = {
            'work': num_edges * 1e9,
            'unit': 'interactions/s',
            'eager': seconds,
            'device': {},
        }
    return results
