"""What test_distributed.py runs in one process and, as a script under torchrun, in several: the
same calls in all of them.

``torchrun --nproc_per_node 2 tests/helpers/distributed_scenarios.py FOLDER SCENARIO ...`` runs
scenarios, their files in FOLDER/SCENARIO.
"""

import sys
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor

from genrec_pyg.datasets import demo_graph
from genrec_pyg.evaluation import Evaluator
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.loader import InteractionLoader
from genrec_pyg.nn.items import EncodedRows
from genrec_pyg.nn.losses import grouped_info_nce
from genrec_pyg.nn.models import GenRec, Recommender, SASRec
from genrec_pyg.training import Distributed, Trainer, launch, seed_everything
from genrec_pyg.utils.collectives import shared_batch

QUIET = dict(device='cpu', progress=False, ks=(5, 20))
GROUPS = dict(hidden_channels=8, debias={'clusters': 2}, contrast={'group_size': 100})
SMALL = dict(GROUPS, denoiser={'rank': 6}, generation={'topk': 3, 'rebuild_k': 2})
TIED = dict(
    GROUPS,
    denoiser={'name': 'tied', 'num_layers': 1},
    generation={'topk': 3, 'rebuild_k': 2, 'edge_dropout': 0.5},
)


class Factors(Recommender):
    """Factorization without any dense parameter, whose loss may not be split: its dropout is per
    row of the batch.
    """

    def __init__(self, data):
        super().__init__(data)
        self.users = torch.nn.Embedding(self.num_users, 8)
        self.items = torch.nn.Parameter(torch.randn(self.num_items, 8))

    def embed(self):
        return self.users.weight, self.items

    def loss(self, batch):
        users = torch.nn.functional.dropout(self.users(batch.user), 0.1, self.training)
        return {
            'bpr': torch.nn.functional.softplus(
                (users * (self.items[batch.neg] - self.items[batch.pos])).sum(1)
            ).mean()
        }


class Words(torch.nn.Module):
    """Inputs and encoder of items with one to four words, some with dropout."""

    width, revision = 6, 'words'

    def __init__(self, num_items):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.length = torch.randint(1, 5, (num_items,), generator=generator)
        self.ids = torch.randint(20, (num_items, 4), generator=generator)
        self.word = torch.nn.Embedding(20, 6)
        self.layer = torch.nn.Sequential(torch.nn.Dropout(0.2), torch.nn.Linear(6, 6))

    def reset_parameters(self):
        self.word.reset_parameters()
        self.layer[1].reset_parameters()

    def batch(self, item):
        width = int(self.length[item].max())
        return self.ids[item, :width], torch.arange(width) < self.length[item].unsqueeze(1)

    def forward(self, ids, mask):
        return (self.layer(self.word(ids)) * mask.unsqueeze(2)).sum(dim=1) / mask.sum(
            dim=1, keepdim=True
        )


class Encoded(SASRec):
    """SASRec whose items are words."""

    def __init__(self, data, recompute):
        super().__init__(data, hidden_channels=8, history_length=10, loss='inbatch')
        words = Words(self.num_items)
        self.items = EncodedRows(words, words, self.num_items, 8, chunk_size=4, recompute=recompute)


def small_graph():
    return demo_graph(num_users=61, num_items=40, num_clusters=4)


def modes(distributed):
    """Ways to share a model; one process has only one."""
    if distributed.processes.size == 1:
        return [('ddp', distributed)]
    return [(mode, Distributed(mode, distributed.processes)) for mode in ('ddp', 'sharded')]


def make(model_class, data, **hparams):
    """A model in float64 whose biases before a batch normalization stand still: their gradient is
    zero but for rounding, by the size of which Adam divides it.
    """
    seed_everything(1)
    model = model_class(data, **hparams).double()
    for module in model.modules():
        if isinstance(getattr(module, 'norm', None), torch.nn.BatchNorm1d):
            (module.linear if hasattr(module, 'linear') else module.key).bias.requires_grad_(False)
    return model


def fit(model, data, distributed, folder, resume=False, **options):
    trainer = Trainer(
        **{'lr': 0.02, 'patience': 0, 'output': folder, **QUIET, **options}, distributed=distributed
    )
    result = trainer.fit(model, data, resume=resume)
    return {
        'history': [
            {'loss': record['loss'], 'val': record.get('val')} for record in result.history
        ],
        'test': result.test,
        'validation': result.validation,
        'state': model.state_dict(),
    }


def genrec(distributed, folder):
    """Default settings on the demo data."""
    data = demo_graph()
    for mode, shared in modes(distributed):
        yield mode, fit(make(GenRec, data), data, shared, folder / mode, epochs=2, batch_size=2048)


def others(distributed, folder):
    """Odd batches over several groups of contrasts, clipped gradients, a trained denoiser, a model
    without dense parameters, a last batch of one triple; 61 users do not split evenly.
    """
    data = small_graph()
    edges = int(data['user', 'interacts', 'item'].train_mask.sum())
    for mode, shared in modes(distributed):
        yield (
            f'{mode} clipped',
            fit(
                make(GenRec, data, **SMALL),
                data,
                shared,
                folder / mode / 'clipped',
                epochs=2,
                batch_size=301,
                grad_clip=0.05,
                weight_decay=0.01,
            ),
        )
        yield (
            f'{mode} tied',
            fit(make(GenRec, data, **TIED), data, shared, None, epochs=2, batch_size=257),
        )
        yield (
            f'{mode} factors',
            fit(
                make(Factors, data),
                data,
                shared,
                folder / mode / 'factors',
                epochs=2,
                batch_size=100,
                grad_clip=0.05,
            ),
        )
        yield (
            f'{mode} rest of one',
            fit(make(GenRec, data, **SMALL), data, shared, None, epochs=1, batch_size=edges - 1),
        )


def encoded(distributed, folder):
    """Chunks of items dealt to the processes, with dropout in the encoder; a last batch with fewer
    chunks than processes.
    """
    data = small_graph()
    store = data['user', 'interacts', 'item']
    store.time = torch.arange(store.edge_index.size(1))
    for mode, shared in modes(distributed):
        for recompute in (False, True):
            yield (
                f'{mode} recompute {recompute}',
                fit(
                    make(Encoded, data, recompute=recompute),
                    data,
                    shared,
                    None,
                    epochs=2,
                    batch_size=20,
                ),
            )


def first_epoch(distributed, folder):
    """The first of three epochs, left to others to finish."""
    data = small_graph()
    for mode, shared in modes(distributed):
        fit(make(GenRec, data, **SMALL), data, shared, folder / mode, epochs=1, batch_size=301)
    return ()


def later_epochs(distributed, folder):
    """The other two, after a checkpoint in the folder."""
    data = small_graph()
    for mode, shared in modes(distributed):
        yield (
            mode,
            fit(
                make(GenRec, data, **SMALL),
                data,
                shared,
                folder / mode,
                resume=True,
                epochs=3,
                batch_size=301,
            ),
        )


def parts(distributed, folder):
    """Pieces: evaluation, also of fewer users than processes, InfoNCE with its gradients, errors of
    the main process.
    """
    processes = distributed.processes
    data = small_graph()
    model = make(Factors, data)
    yield 'evaluation', Evaluator(data, 'test', (5, 20), batch_size=7, processes=processes)(model)
    store = data['user', 'interacts', 'item']
    store.test_mask &= store.edge_index[0] == store.edge_index[0, store.test_mask][0]
    yield 'one user', Evaluator(data, 'test', (5, 20), processes=processes)(model)
    generator = torch.Generator().manual_seed(0)
    x, y = (
        torch.randn(301, 6, generator=generator, dtype=torch.float64, requires_grad=True)
        for _ in range(2)
    )
    part = processes.slice(301)
    with shared_batch(processes, 301):
        loss = grouped_info_nce(x[part], y[part], 0.3, 100) * ((part.stop - part.start) / 301)
    loss.backward()
    yield 'contrast', [processes.sum(value) for value in (loss, x.grad, y.grad)]

    def refuse():
        raise ConfigError('the main process refuses')

    try:
        processes.on_main(refuse)
    except ConfigError as error:
        yield 'refused', str(error)


def memory(distributed, folder):
    """Entries of tables, gradients and optimizer state that this process holds while it trains."""
    data = small_graph()
    for mode, shared in modes(distributed):
        model = make(GenRec, data, **SMALL)
        names = set(model.state_dict())
        trainer = Trainer(distributed=shared, batch_size=301, **QUIET)
        optimizer = trainer.make_optimizer(model)
        trainer.train_epoch(model, InteractionLoader(model.graph, 301), optimizer, 0)
        tables = [
            parameter
            for parameter in shared._parameters
            if parameter.dim() == 2 and parameter.size(0) in (61, 40)
        ]
        held = [
            tensor
            for table in tables
            for tensor in (
                table,
                table.grad,
                optimizer.state[table]['exp_avg'],
                optimizer.state[table]['exp_avg_sq'],
            )
        ]
        yield (
            f'{mode} held',
            [(x.to_local() if isinstance(x, DTensor) else x).numel() for x in held],
        )
        shared.detach()
        yield (
            f'{mode} restored',
            set(model.state_dict()) == names
            and not any(isinstance(parameter, DTensor) for parameter in model.parameters()),
        )


def failure(distributed, folder):
    """One process fails between two collective operations; the others wait for it."""
    if distributed.processes.rank == 1:
        raise ConfigError('this process fails')
    distributed.processes.sum(torch.zeros(3))
    return ()


def main(folder, names):
    torch.set_num_threads(1)
    with launch() as distributed:
        for name in names:
            results = dict(globals()[name](distributed, folder / name))
            torch.save(results, folder / f'{name}-{distributed.processes.rank}.pt')


if __name__ == '__main__':
    main(Path(sys.argv[1]), sys.argv[2:])
