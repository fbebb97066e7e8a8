import errno
import json
import os

import pytest
import torch
from torch_geometric.data import HeteroData

from genrec_pyg.evaluation import evaluate
from genrec_pyg.exceptions import CheckpointError, ConfigError, GenRecError, OutputError
from genrec_pyg.nn.models import GenRec, Popularity, Recommender
from genrec_pyg.training import Trainer, load_checkpoint

SMALL = dict(hidden_channels=8, denoiser_layers=1, denoiser_rank=6, clusters=2, gen_topk=3, rebuild_k=2)
QUIET = dict(progress=False, device='cpu', batch_size=32)


class Factors(Recommender):
    """Matrix factorisation with dropout, so that a wrong random state shows."""

    def __init__(self, data):
        super().__init__(data)
        self.users = torch.nn.Parameter(torch.empty(self.num_users, 8))
        self.items = torch.nn.Parameter(torch.empty(self.num_items, 8))
        self.reset_parameters()

    def reset_parameters(self):
        torch.nn.init.normal_(self.users, std=0.1)
        torch.nn.init.normal_(self.items, std=0.1)

    def embed(self):
        return self.users, self.items

    def loss(self, batch):
        users = torch.nn.functional.dropout(self.users, 0.1, self.training)
        margin = (users[batch.user] * (self.items[batch.pos] - self.items[batch.neg])).sum(dim=1)
        return {'bpr': torch.nn.functional.softplus(-margin).mean()}


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = 40, 20
    group = torch.arange(40) % 4
    noise, taste = (torch.rand(40, 20, generator=generator) < share for share in (0.1, 0.8))
    edges = (noise | (taste & (torch.arange(20) % 4 == group[:, None]))).nonzero().t()
    store = data['user', 'interacts', 'item']
    store.edge_index = edges
    split = torch.rand(edges.size(1), generator=generator)
    store.train_mask, store.val_mask, store.test_mask = split < 0.7, (split >= 0.7) & (split < 0.85), split >= 0.85
    for name in ('image', 'text'):
        data[name].x = torch.randn(20, 5, generator=generator)
        data['item', 'has', name].edge_index = torch.arange(20).expand(2, 20).contiguous()
    return data


def build(name, data):
    torch.manual_seed(1)
    return Factors(data) if name == 'factors' else GenRec(data, denoiser=name, **SMALL)


def test_learns_and_reports_the_best_epoch(data, tmp_path):
    model = build('factors', data)
    before = evaluate(model, data)['recall@10']
    trainer = Trainer(epochs=30, lr=0.05, patience=5, ks=(5, 10), monitor='recall@10', output=tmp_path, **QUIET)
    result = trainer.fit(model, data)
    assert result.test['recall@10'] > before + 0.1
    best = max(result.history, key=lambda record: record['val']['recall@10'])
    assert result.epoch == best['epoch'] and result.validation['recall@10'] == best['val']['recall@10']
    assert evaluate(model, data, 'test', (5, 10)) == result.test
    assert len(result.history) <= result.epoch + 6 and result.stopped == 'patience'
    written = json.loads((tmp_path / 'metrics.json').read_text())
    assert written['test'] == result.test and written['selection'] == 'chosen on validation'
    lines = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
    assert lines == result.history and {'loss', 'seconds', 'val', 'interactions_per_second'} <= set(lines[0])
    assert (tmp_path / 'environment.json').exists()


def test_without_output_nothing_is_written_and_the_best_state_is_restored(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = build('factors', data)
    result = Trainer(epochs=6, lr=0.2, **QUIET).fit(model, data)
    assert evaluate(model, data, 'val')['recall@20'] == result.validation['recall@20']
    assert not list(tmp_path.iterdir())


def test_time_runs_out_after_an_evaluated_epoch(data, tmp_path):
    options = dict(lr=0.02, eval_every=4, patience=0, **QUIET)
    result = Trainer(epochs=3, max_seconds=1e-9, output=tmp_path, **options).fit(build('factors', data), data)
    assert (result.stopped, len(result.history), result.epoch) == ('time', 1, 0)
    assert result.validation == result.history[0]['val']
    assert json.loads((tmp_path / 'metrics.json').read_text())['stopped'] == 'time'
    again = Trainer(epochs=3, max_seconds=1e-9, output=tmp_path, **options).fit(build('factors', data), data, resume=True)
    assert again.stopped == 'time' and again.test == result.test and len(again.history) == 1
    resumed = Trainer(epochs=3, max_seconds=600, output=tmp_path, **options).fit(build('factors', data), data, resume=True)
    assert (resumed.stopped, len(resumed.history)) == ('epochs', 3)


def comparable(history):
    timed = ('seconds', 'total_seconds', 'interactions_per_second')
    records = [{k: v for k, v in record.items() if k not in timed} for record in history]
    for record in records:
        record['start_epoch'] = {k: v for k, v in record['start_epoch'].items() if not k.startswith('seconds')}
    return records


@pytest.mark.parametrize('name', ['factors', 'linear', 'tied', 'transformer'])
def test_resume_equals_no_interruption_bit_for_bit(name, data, tmp_path):
    options = dict(lr=0.02, patience=0, seed=3, **QUIET)
    straight = build(name, data)
    expected = Trainer(epochs=4, output=tmp_path / 'a', **options).fit(straight, data)
    Trainer(epochs=2, output=tmp_path / 'b', **options).fit(build(name, data), data)
    torch.manual_seed(99)
    resumed = build(name, data)
    result = Trainer(epochs=4, output=tmp_path / 'b', **options).fit(resumed, data, resume=True)
    for (key, a), (_, b) in zip(straight.named_parameters(), resumed.named_parameters()):
        assert torch.equal(a, b), key
    assert comparable(result.history) == comparable(expected.history)
    assert (result.validation, result.test, result.epoch) == (expected.validation, expected.test, expected.epoch)


@pytest.mark.parametrize('interval', [2, 3])
def test_mirror_gradient_resumes_bit_for_bit(data, tmp_path, interval):
    options = dict(lr=0.02, patience=0, mirror_gradient=True, mg_alpha2=0.3, mg_interval=interval, **QUIET)
    straight, resumed = build('tied', data), build('tied', data)
    expected = Trainer(epochs=4, output=tmp_path / 'a', **options).fit(straight, data)
    Trainer(epochs=2, output=tmp_path / 'b', **options).fit(build('tied', data), data)
    result = Trainer(epochs=4, output=tmp_path / 'b', **options).fit(resumed, data, resume=True)
    assert comparable(result.history) == comparable(expected.history) and result.test == expected.test
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters()))


def test_mirror_gradient_of_zero_strength_is_plain_training(data):
    results = []
    for options in (dict(), dict(mirror_gradient=True, mg_alpha2=0.0)):
        model = build('factors', data)
        Trainer(epochs=3, lr=0.02, **options, **QUIET).fit(model, data)
        results.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*results))
    model = build('factors', data)
    Trainer(epochs=3, lr=0.02, mirror_gradient=True, **QUIET).fit(model, data)
    assert not all(torch.equal(a, b) for a, b in zip(results[0], model.parameters()))


def test_mirror_gradient_takes_the_denoiser_too(data):
    """Two passes of 2 batches of 32 users at interval 2: in every pass the first is mirrored, which makes 6 steps."""
    steps = {}
    for name, options in (('plain', dict()), ('zero', dict(mirror_gradient=True, mg_alpha2=0.0)),
                          ('mirrored', dict(mirror_gradient=True, mg_interval=2))):
        model = build('tied', data)
        model.generator.batch_size = 32
        Trainer(epochs=2, eval_every=2, lr=0.02, **options, **QUIET).fit(model, data)
        state = model.state_dict()['generator._extra_state']['optimizer']
        counts = {float(entry['step']) for entry in state.get('optimizer', state)['state'].values()}
        steps[name] = counts, [p.detach().clone() for p in model.generator.denoiser.parameters()]
    assert steps['plain'][0] == steps['zero'][0] == {4.0} and steps['mirrored'][0] == {6.0}
    assert all(torch.equal(a, b) for a, b in zip(steps['plain'][1], steps['zero'][1]))
    Trainer(epochs=1, **QUIET).fit(model, data)  # what one trainer asked for does not stay in the model
    assert 'optimizer' not in model.state_dict()['generator._extra_state']['optimizer']


def test_mirror_gradient_with_bfloat16_and_clipping(data, tmp_path):
    options = dict(lr=0.02, patience=0, precision='bf16', grad_clip=0.05, mirror_gradient=True, **QUIET)
    straight, resumed = build('factors', data), build('factors', data)
    expected = Trainer(epochs=4, output=tmp_path / 'a', **options).fit(straight, data)
    Trainer(epochs=1, output=tmp_path / 'b', **options).fit(build('factors', data), data)
    result = Trainer(epochs=4, output=tmp_path / 'b', **options).fit(resumed, data, resume=True)
    assert comparable(result.history) == comparable(expected.history)
    assert all(torch.equal(a, b) and a.dtype == torch.float32 for a, b in zip(straight.parameters(), resumed.parameters()))


def test_recorded_loss_is_that_before_the_mirrored_step(data):
    losses = []
    for options in (dict(), dict(mirror_gradient=True, mg_interval=1)):
        model = build('factors', data)
        result = Trainer(epochs=1, lr=0.02, **{**QUIET, 'batch_size': 10 ** 6}, **options).fit(model, data)
        losses.append(result.history[0]['loss'])
    assert losses[0] == losses[1]


@pytest.mark.parametrize('before', [True, False])
def test_resume_with_other_optimiser_is_refused(data, tmp_path, before):
    Trainer(epochs=1, output=tmp_path, mirror_gradient=before, **QUIET).fit(build('factors', data), data)
    with pytest.raises(ConfigError, match=f'mirror_gradient: got {not before} for a checkpoint written with {before}'):
        Trainer(epochs=2, output=tmp_path, mirror_gradient=not before, **QUIET).fit(build('factors', data), data, resume=True)


def test_interruption_inside_an_epoch_resumes_from_the_last_finished_one(data, tmp_path, monkeypatch):
    options = dict(epochs=4, lr=0.02, patience=0, **QUIET)
    expected = Trainer(output=tmp_path / 'a', **options).fit(build('factors', data), data)
    model, calls = build('factors', data), []
    plain = Factors.loss

    def interrupted(self, batch):
        calls.append(0)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return plain(self, batch)

    monkeypatch.setattr(Factors, 'loss', interrupted)
    with pytest.raises(KeyboardInterrupt):
        Trainer(output=tmp_path / 'b', **options).fit(model, data)
    monkeypatch.setattr(Factors, 'loss', plain)
    assert not (tmp_path / 'b' / 'metrics.json').exists()
    with (tmp_path / 'b' / 'metrics.jsonl').open('a') as file:
        file.write('{"epoch": 7, "torn')
    result = Trainer(output=tmp_path / 'b', **options).fit(build('factors', data), data, resume=True)
    assert comparable(result.history) == comparable(expected.history) and result.test == expected.test


def test_published_protocol_chooses_on_test_and_says_so(data, tmp_path):
    result = Trainer(epochs=5, lr=0.05, protocol='published', output=tmp_path, **QUIET).fit(build('factors', data), data)
    best = max(result.history, key=lambda record: record['test']['recall@20'])
    assert result.epoch == best['epoch'] and result.test['recall@20'] == best['test']['recall@20']
    assert result.selection == 'chosen on test' == json.loads((tmp_path / 'metrics.json').read_text())['selection']


def test_models_without_training_are_evaluated_once(data, tmp_path):
    model = Popularity(data)
    result = Trainer(output=tmp_path, **QUIET).fit(model, data)
    assert result.epoch == -1 and result.history == [] and result.stopped is None and result.test == evaluate(model, data)
    assert load_checkpoint(tmp_path / 'checkpoints' / 'best.pt')['model_name'] == 'Popularity'


def test_infinite_loss_is_named_and_the_last_checkpoint_stays(data, tmp_path, monkeypatch):
    plain, calls = Factors.loss, []

    def diverging(self, batch):
        calls.append(0)
        loss = plain(self, batch)['bpr']
        return {'bpr': loss * float('inf') if len(calls) > 12 else loss}

    monkeypatch.setattr(Factors, 'loss', diverging)
    with pytest.raises(GenRecError, match="loss term 'bpr' became"):
        Trainer(epochs=9, output=tmp_path, **QUIET).fit(build('factors', data), data)
    state = load_checkpoint(tmp_path / 'checkpoints' / 'last.pt')
    assert all(bool(torch.isfinite(x).all()) for x in state['model'].values() if isinstance(x, torch.Tensor))


def test_full_disk_keeps_the_last_good_checkpoint(data, tmp_path, monkeypatch):
    trainer = Trainer(epochs=2, output=tmp_path, **QUIET)
    trainer.fit(build('factors', data), data)
    good = load_checkpoint(tmp_path / 'checkpoints' / 'last.pt')

    def full(descriptor):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    trainer.epochs = 4
    with pytest.raises(OutputError, match='cannot be written .*No space left'):
        trainer.fit(build('factors', data), data, resume=True)
    monkeypatch.undo()
    assert load_checkpoint(tmp_path / 'checkpoints' / 'last.pt')['epoch'] == good['epoch'] == 1
    assert not [p for p in (tmp_path / 'checkpoints').iterdir() if p.name.startswith('.')]


def test_checkpoint_of_another_graph_or_model_is_refused(data, tmp_path):
    Trainer(epochs=1, output=tmp_path, **QUIET).fit(build('factors', data), data)
    other = data.clone()
    other['user', 'interacts', 'item'].train_mask = data['user', 'interacts', 'item'].train_mask.clone()
    other['user', 'interacts', 'item'].train_mask[data['user', 'interacts', 'item'].train_mask.nonzero()[0]] = False
    with pytest.raises(CheckpointError, match='another training graph'):
        Trainer(epochs=2, output=tmp_path, **QUIET).fit(build('factors', other), other, resume=True)
    with pytest.raises(CheckpointError, match="checkpoint of model 'Factors', expected 'GenRec'"):
        Trainer(epochs=2, output=tmp_path, **QUIET).fit(build('linear', data), data, resume=True)


def test_bf16_trains(data):
    result = Trainer(epochs=2, precision='bf16', **QUIET).fit(build('linear', data), data)
    assert 0 <= result.test['recall@20'] <= 1


@pytest.mark.parametrize('arguments', [dict(epochs=0), dict(lr=0.0), dict(precision='int8'), dict(protocol='mine'),
                                       dict(monitor='recall@7'), dict(monitor='loss'), dict(sampler='all'),
                                       dict(device='tpu9'), dict(patience=-1), dict(batch_size=0),
                                       dict(max_seconds=0.0)])
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}.*: got'):
        Trainer(**arguments)
