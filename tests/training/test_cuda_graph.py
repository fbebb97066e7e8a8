"""Recording itself needs a GPU; what surrounds it is tested with a recorder that calls the function
again.
"""

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from genrec_pyg.datasets import demo_graph
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.loader import InteractionLoader, Triples
from genrec_pyg.nn.models import GenRec, LightGCN, get_model
from genrec_pyg.training import Trainer
from genrec_pyg.training.cuda_graph import EAGER_STEPS, RecordedStep

QUIET = dict(progress=False, batch_size=32, epochs=2, lr=0.05, patience=0)
needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason='NO GPU: no CUDA graph was recorded'
)


class Again:
    """Replays a function by calling it; what is recorded does not run then."""

    made = []

    def __init__(self, device):
        self.num_run = self.num_recorded = self.num_replayed = 0
        Again.made.append(self)

    def run(self, function):
        self.num_run += 1
        return function()

    def record(self, function):
        self.num_recorded += 1

        def replay():
            self.num_replayed += 1
            return function()

        return replay


@pytest.fixture(scope='module')
def data():
    return demo_graph(num_users=60, num_items=40, num_clusters=4)


def fit(model, data, cuda_graph, device='cpu'):
    model = copy.deepcopy(model)
    trainer = Trainer(device=device, **QUIET)
    trainer.cuda_graph = cuda_graph
    return trainer.fit(model, data), model


@pytest.mark.parametrize(
    'make',
    [
        lambda data: LightGCN(data, hidden_channels=8),
        lambda data: GenRec(
            data,
            hidden_channels=8,
            denoiser={'rank': 8},
            debias={'clusters': 4},
            encoder={'dropout': 0.3},
        ),
    ],
    ids=['LightGCN', 'GenRec'],
)
def test_recorded_training_is_the_same_training(make, data, monkeypatch):
    monkeypatch.setattr('genrec_pyg.training.trainer.Recorder', Again)
    monkeypatch.setattr(Again, 'made', [])
    model = make(data)
    expected, straight = fit(model, data, False)
    found, recorded = fit(model, data, True)
    for (name, a), (_, b) in zip(
        straight.named_parameters(), recorded.named_parameters(), strict=True
    ):
        assert torch.equal(a, b), name
    assert [record['loss'] for record in found.history] == [
        record['loss'] for record in expected.history
    ]
    edges = int(data['user', 'interacts', 'item'].train_mask.sum())
    assert edges % 32 > 0  # the last batch is smaller
    for recorder in Again.made:
        assert (recorder.num_run, recorder.num_recorded) == (EAGER_STEPS, 1)
        assert recorder.num_replayed == edges // 32 - EAGER_STEPS
    assert len(Again.made) == 2


def triples(*size):
    return Triples(*torch.randint(4, (3, *size)).unbind())


def test_the_optimizer_is_capturable_while_it_is_recorded():
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))], fused=True)
    recorder = Again('cpu')
    flags = []
    record = recorder.record

    def noted(function):
        flags.append(optimizer.param_groups[0]['capturable'])
        return record(function)

    recorder.record = noted
    step = RecordedStep(lambda batch: {'loss': batch.user.sum()}, optimizer, recorder)
    for _ in range(EAGER_STEPS + 3):
        batch = triples(5)
        assert step(batch)['loss'] == batch.user.sum()
    assert flags == [True] and optimizer.param_groups[0]['capturable'] is False


def test_what_cannot_be_recorded_is_said():
    def refuse(function):
        raise RuntimeError('operation not permitted when capturing\nand more')

    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))], fused=True)
    recorder = Again('cpu')
    recorder.record = refuse
    step = RecordedStep(lambda batch: {}, optimizer, recorder)
    for _ in range(EAGER_STEPS):
        step(triples(2))
    with pytest.raises(
        ConfigError,
        match=r'cuda_graph: got True, but .*\(operation not permitted when capturing\);',
    ):
        step(triples(2))
    assert optimizer.param_groups[0]['capturable'] is False


def test_only_one_process_on_a_gpu_without_mirror_gradient():
    for arguments in (dict(device='cpu'), dict(device='cpu', mirror_gradient=True)):
        with pytest.raises(ConfigError, match='cuda_graph: got True on'):
            Trainer(cuda_graph=True, **arguments)


class Waits(TorchDispatchMode):
    """Collects operators for which the host of a GPU waits: they read a value or make a size that
    depends on values.
    """

    NAMES = {
        '_local_scalar_dense',
        'nonzero',
        'masked_select',
        'unique_dim',
        '_unique2',
        'bincount',
        'is_nonzero',
        'equal',
    }

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masked = name in ('index', 'index_put', 'index_put_') and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        repeated = name == 'repeat_interleave' and (kwargs or {}).get('output_size') is None
        if name in self.NAMES or masked or repeated:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def test_waits_are_noticed():
    x = torch.tensor([1, 0, 2])
    for function in (
        lambda: int(x[0]),
        lambda: x.nonzero(),
        lambda: x[x > 0],
        lambda: torch.repeat_interleave(x),
    ):
        with Waits() as waits:
            function()
        assert waits.found
    with Waits() as waits:
        (
            torch.repeat_interleave(x, output_size=3),
            x[x],
            x.softmax(dim=0, dtype=torch.float).unbind(),
        )
    assert not waits.found


# Not HCCF, which draws the edges of its graph again in every step: their number decides the sizes
# of what follows.
@pytest.mark.parametrize(
    'name,options',
    [
        ('GenRec', {}),
        ('GenRec', {'encoder': {'merge': 'sum'}, 'generation': {'edge_dropout': 0.5}}),
        ('LightGCN', {}),
        ('MFBPR', {}),
        ('NCL', {}),
        ('NGCF', {}),
        ('SGL', {}),
    ],
)
def test_no_step_waits_for_the_device(name, options, data):
    """After the first steps of an epoch, whose layouts are kept, a step reads nothing back: so it
    can be recorded.
    """
    model = get_model(name)(data, **options)
    trainer = Trainer(device='cpu', **QUIET)
    optimizer = trainer.make_optimizer(model)
    model.train()
    model.start_epoch(0)
    batches = list(InteractionLoader(model.graph, batch_size=32))
    for batch in batches[:EAGER_STEPS]:
        trainer._step(batch, optimizer)
    with Waits() as waits:
        trainer._step(batches[EAGER_STEPS], optimizer)
    assert not waits.found


def test_an_epoch_waits_no_more_often_for_more_batches(data):
    """Without a progress bar: it shows losses, which must be read."""
    waited = []
    for batch_size in (16, 64):
        model = LightGCN(data, hidden_channels=8)
        trainer = Trainer(device='cpu', **{**QUIET, 'batch_size': batch_size})
        optimizer = trainer.make_optimizer(model)
        loader = InteractionLoader(model.graph, batch_size=batch_size)
        with Waits() as waits:
            trainer.train_epoch(model, loader, optimizer, 0)
        waited.append(waits.found.count('_local_scalar_dense'))
    assert waited[0] == waited[1]


@pytest.mark.gpu
@needs_gpu
def test_recorded_training_on_a_gpu(data):
    model = LightGCN(data, hidden_channels=8)
    (expected, straight), (found, recorded) = (
        fit(model, data, graph, 'cuda') for graph in (False, True)
    )
    for (name, a), (_, b) in zip(
        straight.named_parameters(), recorded.named_parameters(), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3, msg=name)
    assert found.history[-1]['loss'] == pytest.approx(expected.history[-1]['loss'], rel=1e-3)
