"""What tests of grids run in several processes.

Every scenario is a generator of names and results; :func:`main` saves them to
FOLDER/SCENARIO-RANK.pt.
"""

import os
import signal
import time
from itertools import product

import numpy as np
import torch

from genrec_pyg.datasets import demo_graph
from genrec_pyg.datasets.builder import build_graph
from genrec_pyg.distributed import Grid, GridLayout, keyed_dropout, traffic
from genrec_pyg.distributed.collectives import Group
from genrec_pyg.distributed.operations import Gather, ScatterSum, fetch
from genrec_pyg.distributed.partitioned import PartitionedAdjacency
from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.nn.models import get_model
from genrec_pyg.ops import Adjacency, bipartite_adjacency, layer_mean, spmm
from genrec_pyg.training import Distributed, Trainer, launch, seed_everything
from genrec_pyg.training.grid import GridDistributed

QUIET = dict(device='cpu', progress=False, ks=(5, 20))
#: Grids by number of processes.
GRIDS = {2: ('1x2', '2x1'), 4: ('1x4', '2x2', '4x1')}
#: Models with a grid, each with options that pass through all its parts. Six columns are not
#: divisible by four.
MODELS = {
    'MFBPR': dict(hidden_channels=6, item_bias=True),
    'LightGCN': dict(hidden_channels=6, num_layers=3, edge_dropout=0.2, learn_layer_weights=True),
    'LayerGCN': dict(hidden_channels=6, num_layers=3),
    'SELFCFED': dict(hidden_channels=6, num_layers=2),
    'FREEDOM': dict(hidden_channels=6, num_neighbors=3, content_weight=0.5, l2=0.01),
    'MGCN': dict(hidden_channels=6, num_neighbors=3, contrast_rows=30),
    'GenRec': dict(
        hidden_channels=6,
        encoder={'num_layers': 2},
        denoiser={'rank': 6},
        debias={'clusters': 2},
        generation={'topk': 3, 'rebuild_k': 2},
        contrast={'group_size': 30},
    ),
}


def graph():
    """A graph whose sizes do not split evenly, with users and items without any interaction; items
    lack images and sounds, others have several.
    """
    data = demo_graph(num_users=61, num_items=40, num_clusters=4)
    store = data['user', 'interacts', 'item']
    user, item = store.edge_index
    gone = (user < 3) | ((user >= 30) & (user < 34)) | (item == 7) | (item == 39)
    for name in ('train_mask', 'val_mask', 'test_mask'):
        store[name] &= ~gone
    return data


def make(name, data, **hparams):
    """A model in float64 whose biases before a batch normalization, and those that a difference
    cancels, stand still: their gradient is rounding alone.
    """
    seed_everything(1)
    model = get_model(name)(data, **hparams).double()
    for module in model.modules():
        if isinstance(getattr(module, 'norm', None), torch.nn.BatchNorm1d):
            (module.linear if hasattr(module, 'linear') else module.key).bias.requires_grad_(False)
    if name == 'FREEDOM':
        for projection in model.projections.values():
            projection.linear.bias.requires_grad_(False)
    return model


def fit(model, data, distributed, folder=None, resume=False, **options):
    trainer = Trainer(
        **{
            'lr': 0.02,
            'patience': 0,
            'epochs': 2,
            'batch_size': 101,
            'output': folder,
            **QUIET,
            **options,
        },
        distributed=distributed,
    )
    result = trainer.fit(model, data, resume=resume)
    state = {name: value for name, value in model.state_dict().items() if torch.is_tensor(value)}
    return {
        'loss': [record['loss'] for record in result.history],
        'test': result.test,
        'state': state,
    }


def grids(distributed):
    """The ways to share a model; one process has one."""
    if distributed.processes.size == 1:
        return [('', distributed)]
    return [
        (name, GridDistributed(distributed.processes, name))
        for name in GRIDS[distributed.processes.size]
    ]


def layouts(distributed, folder):
    """Exchanges: what goes there and back, and the two sides of the definition of an adjoint."""
    processes = distributed.processes
    generator = torch.Generator().manual_seed(0)
    own_draws = torch.Generator().manual_seed(processes.rank)
    for (rows, columns), width, views in product([(1, 4), (2, 2), (4, 1)], (6, 8), (1, 3)):
        grid = Grid(rows, columns, processes)
        layout = GridLayout(grid, torch.tensor([5, 0, 0, 9, 1, 1, 30]), 3)
        nodes = layout.joint
        whole = torch.randn(
            views, sum(nodes.sizes), width, generator=generator, dtype=torch.float64
        )
        begin = nodes.begin
        block = whole[:, begin : begin + nodes.sizes[grid.node_block]]
        own = block[:, nodes.rows]
        channels = nodes.to_channels(own)
        yield (
            f'{rows}x{columns} {width} {views} channels',
            torch.equal(channels, block[..., grid.columns(width)[grid.channel_block]]),
        )
        yield (
            f'{rows}x{columns} {width} {views} rows',
            torch.equal(nodes.to_rows(channels, width), own),
        )
        x = own.clone().requires_grad_()
        y = torch.randn(channels.shape, generator=own_draws, dtype=torch.float64)
        nodes.to_channels(x).backward(y)
        yield (
            f'{rows}x{columns} {width} {views} adjoint',
            torch.equal(x.grad, nodes.to_rows(y, width)),
        )
        index = torch.tensor([0, 9, 3, 3, 6, 8])
        block_of, place = layout.user.node_block(index.clamp(max=6))
        owner, position = nodes.owner(block_of, place)
        found = fetch(own[0], owner, position, grid.everyone)
        user_rows = torch.cat(
            [whole[0, b : b + n] for b, n in zip(nodes.begins, layout.user.sizes)]
        )
        yield (
            f'{rows}x{columns} {width} {views} fetch',
            torch.equal(found, user_rows[index.clamp(max=6)]),
        )
        yield (
            f'{rows}x{columns} {width} {views} fetch nothing',
            fetch(own[0], owner[:0], position[:0], grid.everyone).shape == (0, width),
        )
    group, sizes = Group(processes.rank, processes.size), [3, 0, 2, 1]
    parts = [torch.randn(n, 2, generator=generator, dtype=torch.float64) for n in sizes]
    # of every process
    y = [torch.randn(6, 2, generator=generator, dtype=torch.float64) for _ in sizes]
    gathered = Gather.apply(parts[group.rank], sizes, group)
    yield 'gather', torch.equal(gathered, torch.cat(parts))
    summed = ScatterSum.apply(y[group.rank], sizes, group)
    yield 'scatter', torch.allclose(summed, sum(y).split(sizes)[group.rank])
    many = torch.arange(20_001.0) * (group.rank + 1)
    yield 'sum of many', torch.equal(group.sum(many), torch.arange(20_001.0) * 10)


def products(distributed, folder):
    """Products with a divided graph against those with the whole one, and their gradients."""
    processes = distributed.processes
    generator = torch.Generator().manual_seed(0)
    edges = torch.stack(
        [
            torch.randint(11, (40,), generator=generator),
            torch.randint(6, (40,), generator=generator),
        ]
    )
    user_sizes, item_sizes = [4, 0, 6, 1], [2, 2, 1, 1]
    group = Group(processes.rank, processes.size)
    first_user, first_item = sum(user_sizes[: group.rank]), sum(item_sizes[: group.rank])
    own = torch.cat(
        [
            torch.arange(first_user, first_user + user_sizes[group.rank]),
            11 + torch.arange(first_item, first_item + item_sizes[group.rank]),
        ]
    )
    for loops, layers in product((False, True), (0, 1, 3)):
        whole = bipartite_adjacency(edges, 11, 6, loops).to(torch.float64)
        part = PartitionedAdjacency(whole, user_sizes, item_sizes, group)
        x = torch.randn(17, 5, generator=generator, dtype=torch.float64, requires_grad=True)
        mine = x.detach()[own].requires_grad_()
        expected, found = layer_mean(whole, x, layers), layer_mean(part, mine, layers)
        weight = torch.randn(17, 5, generator=generator, dtype=torch.float64)
        expected.backward(weight)
        found.backward(weight[own])
        yield (
            f'layer mean {loops} {layers}',
            max(
                float((found - expected[own]).detach().abs().max()),
                float((mine.grad - x.grad[own]).abs().max()),
            ),
        )
        views = torch.randn(3, 17, 5, generator=generator, dtype=torch.float64)
        yield (
            f'views {loops} {layers}',
            float((spmm(part, views[:, own]) - spmm(whole, views)[:, own]).abs().max()),
        )
    try:
        PartitionedAdjacency(
            Adjacency.from_edge_index(edges, size=(17, 17)), user_sizes, item_sizes, group
        )
    except Exception as error:
        yield 'not symmetric', str(error)


def models(distributed, folder):
    """Every model with a grid: two epochs with weight decay and clipped gradients."""
    data = graph()
    for (name, hparams), (grid, shared) in product(MODELS.items(), grids(distributed)):
        yield (
            f'{name} {grid}'.strip(),
            fit(make(name, data, **hparams), data, shared, weight_decay=0.01, grad_clip=0.05),
        )


def few(distributed, folder):
    """Fewer items than processes, batches of fewer triples than processes."""
    pairs = np.array([[user, (user + shift) % 3] for user in range(7) for shift in range(2)])
    split = np.array([2 if user > 4 and shift else 0 for user in range(7) for shift in range(2)])
    data = build_graph(pairs[:, 0], pairs[:, 1], split, 9, 3, {}, 'three items')
    for grid, shared in grids(distributed):
        model = make('LightGCN', data, hidden_channels=4, num_layers=2)
        try:
            yield f'LightGCN {grid}'.strip(), fit(model, data, shared, batch_size=3, epochs=1)
        except ConfigError as error:
            yield grid, str(error)


def empty_block(distributed, folder):
    """All interactions are of one user, so that the other blocks of users have none."""
    user, item = np.zeros(12, dtype=int), np.arange(12)
    split = np.where(item > 9, 2, 0)
    data = build_graph(user, item, split, 8, 14, {}, 'one active user')
    for grid, shared in grids(distributed):
        for name in ('LightGCN', 'LayerGCN', 'SELFCFED'):
            model = make(name, data, hidden_channels=6, num_layers=2)
            if distributed.processes.size > 1 and not grid.startswith('1x'):
                shared.attach(model)
                sizes = shared.layout.user.sizes
                yield f'sizes {name} {grid}', sizes
                shared.detach()
            yield f'{name} {grid}'.strip(), fit(model, data, shared, batch_size=4)


def sampled(distributed, folder):
    """Steps over sampled neighborhoods, on blocks of columns and with the batch everywhere."""
    shares = grids(distributed)
    if distributed.processes.size > 1:
        shares.append(('ddp', Distributed('ddp', distributed.processes)))
    for grid, shared in shares:
        model = make('LightGCN', graph(), hidden_channels=6, num_layers=2)
        try:
            yield (
                f'LightGCN {grid}'.strip(),
                fit(model, graph(), shared, neighborhood='sampled', fan=3),
            )
        except ConfigError as error:
            yield grid, str(error)


def masks(distributed, folder):
    """Dropout of the rows of every process, drawn from the same state."""
    rows = distributed.processes.slice(5000)
    for p in (0.1, 0.5, 1.0):
        torch.manual_seed(3)
        whole = keyed_dropout(torch.ones(5000, 7), p, True)
        torch.manual_seed(3)
        yield (
            f'{p}',
            torch.equal(keyed_dropout(torch.ones(5000, 7)[rows], p, True, rows.start), whole[rows]),
        )


def volume(distributed, folder):
    """Bytes that this process sends in a step of LightGCN, on every grid."""
    data = demo_graph(num_users=64, num_items=32, num_clusters=4)
    for grid, shared in grids(distributed):
        model = make('LightGCN', data, hidden_channels=8, num_layers=2).float()
        trainer = Trainer(batch_size=128, distributed=shared, **QUIET)
        optimizer = trainer.make_optimizer(model)
        batch = next(iter(model.make_loader(128, 'edge')))
        traffic.reset()
        trainer._step(batch, optimizer)
        yield grid, (traffic.num_bytes, traffic.num_messages, int((batch.user < 32).sum()))
        shared.detach()


def first_epoch(distributed, folder):
    """The first of three epochs with checkpoints in pieces, left to others to finish."""
    for name in ('GenRec', 'LightGCN'):
        shared = GridDistributed(
            distributed.processes, GRIDS[distributed.processes.size][-2], 'sharded'
        )
        fit(make(name, graph(), **MODELS[name]), graph(), shared, folder / name, epochs=1)
    return ()


def later_epochs(distributed, folder):
    """The other two, after a checkpoint in the folder, with pieces or without."""
    for name, checkpoint in (('GenRec', 'whole'), ('LightGCN', 'sharded')):
        shared = distributed
        if distributed.processes.size > 1:
            shared = GridDistributed(
                distributed.processes, GRIDS[distributed.processes.size][-1], checkpoint
            )
        yield (
            name,
            fit(
                make(name, graph(), **MODELS[name]),
                graph(),
                shared,
                folder / name,
                resume=True,
                epochs=3,
            ),
        )


def killed(distributed, folder):
    """Three epochs; the last process is killed in the middle of the second."""
    model = make('LightGCN', graph(), **MODELS['LightGCN'])
    loss, last = model.loss, distributed.processes.rank == distributed.processes.size - 1
    steps = []

    def fail(batch):
        if last and (folder / 'checkpoints' / 'last.pt').exists():
            steps.append(batch)
            if len(steps) == 3:  # of five
                os.kill(os.getpid(), signal.SIGKILL)
        return loss(batch)

    model.loss = fail
    fit(model, graph(), GridDistributed(distributed.processes, 'auto', 'sharded'), folder, epochs=3)
    return ()


def go_on(distributed, folder):
    """Takes up the run of :func:`killed`, with as many processes as there are now."""
    shared = GridDistributed(distributed.processes, 'auto', 'sharded')
    model = make('LightGCN', graph(), **MODELS['LightGCN'])
    yield 'LightGCN', fit(model, graph(), shared, folder, resume=True, epochs=3)


def slow(distributed, folder):
    """A process that takes its time."""
    model = make('MFBPR', graph(), **MODELS['MFBPR'])
    loss = model.loss

    def late(batch):
        time.sleep(0.2 * distributed.processes.rank)
        return loss(batch)

    model.loss = late
    shared = (
        distributed if distributed.processes.size == 1 else GridDistributed(distributed.processes)
    )
    yield 'MFBPR', fit(model, graph(), shared, epochs=1, batch_size=400)


def different(distributed, folder):
    """Processes with other data, other parameters, and a model that has no grid."""
    processes = distributed.processes
    for name, data, seed in (
        ('data', demo_graph(61, 40, num_clusters=4 if processes.rank else 5), 1),
        ('parameters', graph(), 1 + processes.rank),
    ):
        for shared in (GridDistributed(processes), Distributed('ddp', processes)):
            seed_everything(seed)
            model = get_model('LightGCN')(data, hidden_channels=4)
            try:
                Trainer(distributed=shared, **QUIET).make_optimizer(model)
            except DataError as error:
                yield f'{name} {shared.mode}', str(error)
    try:
        Trainer(distributed=GridDistributed(processes, '1x2'), **QUIET).make_optimizer(
            make('NGCF', graph())
        )
    except ConfigError as error:
        yield 'no grid', str(error)
    shared = GridDistributed(processes)
    yield 'as ddp', fit(make('NGCF', graph(), hidden_channels=4), graph(), shared, epochs=1)


def main(folder, names):
    torch.set_num_threads(1)
    with launch() as distributed:
        for name in names:
            results = dict(globals()[name](distributed, folder / name))
            torch.save(results, folder / f'{name}-{distributed.processes.rank}.pt')


#: One process, for comparison.
ALONE = Distributed()
