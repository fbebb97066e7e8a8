import contextlib
import copy
import dataclasses
import errno
import json
import math
import os
import pickle

import pytest
import torch
from torch_geometric.data import HeteroData

from genrec_pyg.evaluation import Evaluator, evaluate
from genrec_pyg.exceptions import CheckpointError, ConfigError, DataError, GenRecError, OutputError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.models import GenRec, Popularity, Recommender
from genrec_pyg.runs.history import History
from genrec_pyg.training import Trainer, load_checkpoint
from genrec_pyg.training import trainer as trainer_module
from genrec_pyg.transforms import RandomSplit

SMALL = dict(hidden_channels=8, denoiser_layers=1, denoiser_rank=6, clusters=2, gen_topk=3, rebuild_k=2)
QUIET = dict(progress=False, device='cpu', batch_size=32)


class Factors(Recommender):
    """Matrix factorization with dropout, so that a wrong random state shows."""

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


def without(data, *splits):
    """The same graph; the interactions of ``splits`` become training ones."""
    data = data.clone()
    store = data['user', 'interacts', 'item']
    for split in splits:
        store.train_mask = store.train_mask | store[f'{split}_mask']
        store[f'{split}_mask'] = torch.zeros_like(store[f'{split}_mask'])
    return data


@pytest.mark.parametrize('has_mask', [True, False])
@pytest.mark.parametrize('name', ['factors', 'popularity'])
def test_without_a_test_split_training_ends_with_validation_figures(data, tmp_path, name, has_mask):
    data = without(data, 'test')
    if not has_mask:
        del data['user', 'interacts', 'item'].test_mask
    model = Popularity(data) if name == 'popularity' else build(name, data)
    result = Trainer(epochs=2, output=tmp_path, **QUIET).fit(model, data)
    assert result.test == {} and result.validation == evaluate(model, data, 'val') and result.not_measured == ['test']
    written = json.loads((tmp_path / 'metrics.json').read_text())
    assert written['test'] == {} and written['validation'] == result.validation and written['not_measured'] == ['test']


@pytest.mark.parametrize('output', [True, False])
@pytest.mark.parametrize('splits', [('val',), ('val', 'test')])
def test_without_a_validation_split_the_last_epoch_is_kept(data, tmp_path, splits, output):
    data = without(data, *splits)
    model = build('factors', data)
    options = dict(lr=0.02, patience=1, eval_every=2, **QUIET)
    trainer = Trainer(epochs=5, output=tmp_path if output else None, **options)
    result = trainer.fit(model, data)
    assert result.validation == {} and (result.test == {}) == ('test' in splits)
    assert result.not_measured == ['validation', 'test'][:len(splits)]
    assert (result.epoch, len(result.history), result.stopped) == (4, 5, 'epochs')
    assert result.selection == 'last epoch, nothing was chosen'
    if not output:
        return
    assert json.loads((tmp_path / 'metrics.json').read_text())['selection'] == result.selection
    best = load_checkpoint(tmp_path / 'checkpoints' / 'best.pt')
    assert best['epoch'] == 4 and all(torch.equal(best['model'][key], value) for key, value in model.state_dict().items())
    resumed = build('factors', data)
    Trainer(epochs=3, output=tmp_path / 'parts', **options).fit(build('factors', data), data)
    Trainer(epochs=5, output=tmp_path / 'parts', **options).fit(resumed, data, resume=True)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters()))


def test_without_a_validation_split_time_still_ends_the_training(data):
    result = Trainer(epochs=5, max_seconds=1e-9, **QUIET).fit(build('factors', without(data, 'val')), without(data, 'val'))
    assert (result.epoch, result.stopped, len(result.history)) == (0, 'time', 1)


def test_published_protocol_without_a_test_split_is_refused_before_training(data, tmp_path):
    data = without(data, 'test')
    with pytest.raises(ConfigError, match="protocol: got 'published'.*accepted is 'validation'"):
        Trainer(epochs=2, protocol='published', output=tmp_path, **QUIET).fit(build('factors', data), data)
    assert not list(tmp_path.iterdir())


def test_models_without_training_need_no_validation_split(data, tmp_path):
    data = without(data, 'val')
    result = Trainer(output=tmp_path, **QUIET).fit(Popularity(data), data, resume=True)
    assert result.validation == {} and result.test == evaluate(Popularity(data), data) and result.epoch == -1
    assert result.selection == 'nothing was chosen'


def test_the_seed_decides_whatever_was_drawn_before(data):
    found = []
    for number in range(3):
        torch.manual_seed(number)
        found.append(Trainer(epochs=2, seed=5, **QUIET).fit(Factors(data), data))
    assert comparable(found[0].history) == comparable(found[1].history) == comparable(found[2].history)
    assert found[0].test == found[1].test == found[2].test
    assert comparable(Trainer(epochs=2, seed=6, **QUIET).fit(Factors(data), data).history) != comparable(found[0].history)


def test_copied_converted_and_reset_models_are_drawn_anew_too(data):
    expected = Trainer(epochs=2, **QUIET).fit(Factors(data), data).test
    model = Factors(data)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), model.double().float()):
        assert Trainer(epochs=2, **QUIET).fit(other, data).test == expected
    model.reset_parameters()
    assert Trainer(epochs=2, **QUIET).fit(model, data).test == expected


@pytest.mark.parametrize('change', ['trained', 'loaded', 'part loaded', 'stepped', 'assigned', 'one row', 'copied by data'])
def test_changed_parameters_are_where_training_goes_on(data, change):
    model, other = build('tied', data), build('tied', data)
    item = model.encoder.item_embedding
    if change == 'trained':
        Trainer(epochs=1, **QUIET).fit(model, data)
    elif change == 'loaded':
        model.load_state_dict(other.state_dict() | {'encoder.rho': torch.tensor(3.0)})
    elif change == 'part loaded':
        model.encoder.load_state_dict(other.encoder.state_dict() | {'rho': torch.tensor(3.0)})
    elif change == 'stepped':
        item.sum().backward()
        torch.optim.SGD(model.parameters(), lr=0.1).step()
    elif change == 'assigned':
        model.encoder.item_embedding = torch.nn.Parameter(torch.full_like(item, 0.3))
    elif change == 'one row':
        with torch.no_grad():
            item[7] = 1.0
    else:
        item.data.copy_(torch.full_like(item, 0.3))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    assert not model.is_untrained()
    Trainer(epochs=1, lr=1e-12, **QUIET).fit(model, data)
    encoder = sum(1 for _ in model.encoder.parameters())  # they come first, the denoiser has a learning rate of its own
    assert all(torch.allclose(a, b, atol=1e-9) for a, b in list(zip(before, model.parameters()))[:encoder])


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
def test_resume_with_other_optimizer_is_refused(data, tmp_path, before):
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


class Clock:
    """Seconds that pass by what is done, so that they are the same in every session."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr('genrec_pyg.training.trainer.time.perf_counter', lambda: self.now)
        for owner, name, seconds in ((Factors, 'loss', 1.0), (Evaluator, '__call__', 4.0)):
            monkeypatch.setattr(owner, name, self._passing(getattr(owner, name), seconds))

    def _passing(self, function, seconds):
        def call(*arguments):
            self.now += seconds
            return function(*arguments)
        return call


def sessions(data, folder, last, monkeypatch, how, epochs):
    """Trains up to ``epochs`` epochs, ends as ``how`` says, and goes on as ``last`` says; the result of the last session."""
    if how == 'epochs':
        Trainer(**{**last, 'epochs': epochs}, output=folder).fit(build('factors', data), data)
    elif how == 'time':
        limit = min(last['max_seconds'] or 10 ** 6, 6 * epochs - 1)
        Trainer(**{**last, 'max_seconds': limit}, output=folder).fit(build('factors', data), data)
    else:
        owner, name = {'epoch': (Factors, 'loss'), 'evaluation': (Evaluator, '__call__'),
                       'saving': (trainer_module, 'save_checkpoint'), 'recording': (History, 'append')}[how]
        plain, calls = getattr(owner, name), []
        limit = {'epoch': 2 * epochs + 2, 'evaluation': epochs, 'saving': 2 * epochs, 'recording': epochs}[how]

        def interrupted(*arguments):
            calls.append(0)
            if len(calls) == limit:
                raise KeyboardInterrupt
            return plain(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, interrupted)
            with contextlib.suppress(KeyboardInterrupt):
                Trainer(**last, output=folder).fit(build('factors', data), data)
        if not (folder / 'checkpoints' / 'last.pt').exists():
            return Trainer(**last, output=folder).fit(build('factors', data), data)
    torch.manual_seed(99)
    return Trainer(**last, output=folder).fit(build('factors', data), data, resume=True)


@pytest.mark.parametrize('eval_every, patience, max_seconds, stopped', [
    (1, 0, None, 'epochs'), (1, 1, None, 'patience'), (1, 2, 23.0, 'time'), (2, 1, None, 'patience'), (2, 0, 25.0, 'time'),
    (3, 2, 13.0, 'time'), (3, 0, None, 'epochs')])
def test_sessions_decide_as_one_session_does(data, tmp_path, monkeypatch, eval_every, patience, max_seconds, stopped):
    """An epoch has two batches; with its evaluation it lasts six seconds, without two."""
    Clock(monkeypatch)
    last = dict(epochs=10, lr=0.4, eval_every=eval_every, patience=patience, max_seconds=max_seconds, ks=(5, 20),
                monitor='recall@5', **{**QUIET, 'batch_size': 80})
    expected = Trainer(**last, output=tmp_path / 'one').fit(build('factors', data), data)
    assert expected.stopped == stopped
    for how in ('epochs', 'time', 'epoch', 'evaluation', 'saving', 'recording'):
        for epochs in (1, 4):
            folder = tmp_path / f'{how}{epochs}'
            found = sessions(data, folder, last, monkeypatch, how, epochs)
            assert dataclasses.asdict(found) == dataclasses.asdict(expected), (how, epochs)
            best, other = (load_checkpoint(path / 'checkpoints' / 'best.pt') for path in (folder, tmp_path / 'one'))
            assert best['epoch'] == other['epoch'] == expected.epoch
            assert all(torch.equal(best['model'][key], value) for key, value in other['model'].items())
            lines = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
            assert lines == expected.history
            again = Trainer(**last, output=folder).fit(build('factors', data), data, resume=True)
            assert dataclasses.asdict(again) == dataclasses.asdict(expected)


def test_an_epoch_evaluated_at_the_end_of_a_session_does_not_count_in_the_next(data, tmp_path, monkeypatch):
    """Values by epoch; one session of 6 epochs looks at 1, 3 and 5, a session of 3 epochs also at 2, the best of all."""
    values = {0: 0.0, 1: 0.1, 2: 0.9, 3: 0.2, 4: 0.0, 5: 0.15}
    model_of = {}
    plain = Trainer._epoch

    def epoch(self, model, loader, optimizer, number):
        model_of['epoch'] = number
        return plain(self, model, loader, optimizer, number)

    monkeypatch.setattr(Trainer, '_epoch', epoch)
    monkeypatch.setattr(Evaluator, '__call__', lambda self, model: {'recall@20': values[model_of['epoch']]})
    options = dict(eval_every=2, patience=0, output=tmp_path, **QUIET)
    first = Trainer(epochs=3, **options).fit(build('factors', data), data)
    assert first.epoch == 2 and load_checkpoint(tmp_path / 'checkpoints' / 'best.pt')['epoch'] == 2
    again = Trainer(epochs=3, **options).fit(build('factors', data), data, resume=True)
    assert again.epoch == 2 and load_checkpoint(tmp_path / 'checkpoints' / 'best.pt')['epoch'] == 2
    second = Trainer(epochs=6, **options).fit(build('factors', data), data, resume=True)
    assert second.epoch == 3 and load_checkpoint(tmp_path / 'checkpoints' / 'best.pt')['epoch'] == 3
    assert [record.get('val') for record in second.history] == [None, {'recall@20': 0.1}, None, {'recall@20': 0.2}, None,
                                                                {'recall@20': 0.15}]


def test_the_limit_of_time_counts_the_evaluation_that_passes_it(data, monkeypatch):
    Clock(monkeypatch)
    result = Trainer(epochs=9, max_seconds=15.0, patience=0, **QUIET).fit(build('factors', data), data)
    batches = round(result.history[0]['total_seconds']) - 4
    assert batches < 15 <= 2 * (batches + 4) and len(result.history) == math.ceil(15 / (batches + 4))


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


def test_a_model_of_another_split_is_not_fitted(data):
    first, second = (RandomSplit(0.2, 0.2, seed)(data) for seed in (0, 1))
    with pytest.raises(DataError, match='pairs of its val split are training pairs of the model'):
        Trainer(epochs=1, **QUIET).fit(build('factors', first), second)


def test_a_score_that_becomes_nan_stops_the_training(data):
    model = build('factors', data)
    with torch.no_grad():
        model.items[3] = float('nan')
    model.loss = lambda batch: {'zero': 0 * model.users.sum()}
    with pytest.raises(GenRecError, match='users are NaN or infinite'):
        Trainer(epochs=1, **QUIET).fit(model, data)


def test_resume_warns_of_other_held_out_pairs_and_refuses_other_features(data, tmp_path, caplog):
    Trainer(epochs=1, output=tmp_path, **QUIET).fit(build('linear', data), data)
    store = data['user', 'interacts', 'item']
    data = copy.deepcopy(data)
    data['user', 'interacts', 'item'].test_mask = store.test_mask & (torch.arange(store.test_mask.numel()) % 2 == 0)
    Trainer(epochs=2, output=tmp_path, **QUIET).fit(build('linear', data), data, resume=True)
    assert 'the pairs of the test split are not those of the training' in caplog.text
    data['image'].x = data['image'].x + 1
    with pytest.raises(CheckpointError, match='another training graph .* features'):
        Trainer(epochs=3, output=tmp_path, **QUIET).fit(build('linear', data), data, resume=True)


def test_the_output_stays_where_it_was_named(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = Trainer(epochs=1, output='run', **QUIET)
    (tmp_path / 'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path / 'elsewhere')
    trainer.fit(build('factors', data), data)
    assert (tmp_path / 'run' / 'metrics.json').exists() and not list((tmp_path / 'elsewhere').iterdir())


@pytest.mark.parametrize('interactions,expected', [(1_000, 256), (7_200, 256), (44_327, 2048), (59_541, 2048), (158_792, 4096),
                                                   (10 ** 7, 8192)])
def test_batches_of_automatic_size_follow_the_interactions(interactions, expected):
    graph = TrainingGraph(2, 2, torch.zeros(2, interactions, dtype=torch.long))
    batch_size, lr = Trainer(batch_size='auto', lr=0.005, device='cpu').schedule(graph)
    assert batch_size == expected and lr == pytest.approx(0.005 * (expected / 2048) ** 0.5)
    assert Trainer(batch_size=100, lr=0.5, device='cpu').schedule(graph) == (100, 0.5)


def test_batch_size_is_a_number_or_automatic():
    with pytest.raises(ConfigError, match="batch_size: got 'large', accepted are 'auto' and integers from 1"):
        Trainer(batch_size='large')
