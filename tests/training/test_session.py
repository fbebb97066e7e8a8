import contextlib
import copy
import dataclasses
import errno
import json
import math
import os

import pytest
import torch
from helpers.trainer_cases import QUIET, Factors, build, comparable

from genrec_pyg.evaluation import Evaluator
from genrec_pyg.exceptions import CheckpointError, ConfigError, GenRecError, OutputError
from genrec_pyg.runs.history import History
from genrec_pyg.training import Trainer, load_checkpoint
from genrec_pyg.training import store as store_module


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
    assert (result.validation, result.test, result.epoch) == (
        expected.validation,
        expected.test,
        expected.epoch,
    )


@pytest.mark.parametrize('interval', [2, 3])
def test_mirror_gradient_resumes_bit_for_bit(data, tmp_path, interval):
    options = dict(
        lr=0.02, patience=0, mirror_gradient=True, mg_alpha2=0.3, mg_interval=interval, **QUIET
    )
    straight, resumed = build('tied', data), build('tied', data)
    expected = Trainer(epochs=4, output=tmp_path / 'a', **options).fit(straight, data)
    Trainer(epochs=2, output=tmp_path / 'b', **options).fit(build('tied', data), data)
    result = Trainer(epochs=4, output=tmp_path / 'b', **options).fit(resumed, data, resume=True)
    assert (
        comparable(result.history) == comparable(expected.history) and result.test == expected.test
    )
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters()))


@pytest.mark.parametrize('before', [True, False])
def test_resume_with_other_optimizer_is_refused(data, tmp_path, before):
    Trainer(epochs=1, output=tmp_path, mirror_gradient=before, **QUIET).fit(
        build('factors', data), data
    )
    with pytest.raises(
        ConfigError,
        match=f'mirror_gradient: got {not before} for a checkpoint written with {before}',
    ):
        Trainer(epochs=2, output=tmp_path, mirror_gradient=not before, **QUIET).fit(
            build('factors', data), data, resume=True
        )


def test_interruption_inside_an_epoch_resumes_from_the_last_finished_one(
    data, tmp_path, monkeypatch
):
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
    result = Trainer(output=tmp_path / 'b', **options).fit(
        build('factors', data), data, resume=True
    )
    assert (
        comparable(result.history) == comparable(expected.history) and result.test == expected.test
    )


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
    """Trains up to ``epochs`` epochs, ends as ``how`` says, and goes on as ``last`` says; the
    result of the last session.
    """
    if how == 'epochs':
        Trainer(**{**last, 'epochs': epochs}, output=folder).fit(build('factors', data), data)
    elif how == 'time':
        limit = min(last['max_seconds'] or 10**6, 6 * epochs - 1)
        Trainer(**{**last, 'max_seconds': limit}, output=folder).fit(build('factors', data), data)
    else:
        owner, name = {
            'epoch': (Factors, 'loss'),
            'evaluation': (Evaluator, '__call__'),
            'saving': (store_module, 'save_checkpoint'),
            'recording': (History, 'append'),
        }[how]
        plain, calls = getattr(owner, name), []
        limit = {
            'epoch': 2 * epochs + 2,
            'evaluation': epochs,
            'saving': 2 * epochs,
            'recording': epochs,
        }[how]

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


@pytest.mark.parametrize(
    'eval_every, patience, max_seconds, stopped',
    [
        (1, 0, None, 'epochs'),
        (1, 1, None, 'patience'),
        (1, 2, 23.0, 'time'),
        (2, 1, None, 'patience'),
        (2, 0, 25.0, 'time'),
        (3, 2, 13.0, 'time'),
        (3, 0, None, 'epochs'),
    ],
)
def test_sessions_decide_as_one_session_does(
    data, tmp_path, monkeypatch, eval_every, patience, max_seconds, stopped
):
    """An epoch has two batches; with its evaluation it lasts six seconds, without two."""
    Clock(monkeypatch)
    last = dict(
        epochs=10,
        lr=0.4,
        eval_every=eval_every,
        patience=patience,
        max_seconds=max_seconds,
        ks=(5, 20),
        monitor='recall@5',
        **{**QUIET, 'batch_size': 80},
    )
    expected = Trainer(**last, output=tmp_path / 'one').fit(build('factors', data), data)
    assert expected.stopped == stopped
    for how in ('epochs', 'time', 'epoch', 'evaluation', 'saving', 'recording'):
        for epochs in (1, 4):
            folder = tmp_path / f'{how}{epochs}'
            found = sessions(data, folder, last, monkeypatch, how, epochs)
            assert dataclasses.asdict(found) == dataclasses.asdict(expected), (how, epochs)
            best, other = (
                load_checkpoint(path / 'checkpoints' / 'best.pt')
                for path in (folder, tmp_path / 'one')
            )
            assert best['epoch'] == other['epoch'] == expected.epoch
            assert all(
                torch.equal(best['model'][key], value) for key, value in other['model'].items()
            )
            lines = [
                json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()
            ]
            assert lines == expected.history
            again = Trainer(**last, output=folder).fit(build('factors', data), data, resume=True)
            assert dataclasses.asdict(again) == dataclasses.asdict(expected)


def test_an_epoch_evaluated_at_the_end_of_a_session_does_not_count_in_the_next(
    data, tmp_path, monkeypatch
):
    """Values by epoch; one session of 6 epochs looks at 1, 3 and 5, a session of 3 epochs also at
    2, the best of all.
    """
    values = {0: 0.0, 1: 0.1, 2: 0.9, 3: 0.2, 4: 0.0, 5: 0.15}
    model_of = {}
    plain = Trainer.train_epoch

    def epoch(self, model, loader, optimizer, number):
        model_of['epoch'] = number
        return plain(self, model, loader, optimizer, number)

    monkeypatch.setattr(Trainer, 'train_epoch', epoch)
    monkeypatch.setattr(
        Evaluator, '__call__', lambda self, model: {'recall@20': values[model_of['epoch']]}
    )
    options = dict(eval_every=2, patience=0, output=tmp_path, **QUIET)
    first = Trainer(epochs=3, **options).fit(build('factors', data), data)
    assert first.epoch == 2 and load_checkpoint(tmp_path / 'checkpoints' / 'best.pt')['epoch'] == 2
    again = Trainer(epochs=3, **options).fit(build('factors', data), data, resume=True)
    assert again.epoch == 2 and load_checkpoint(tmp_path / 'checkpoints' / 'best.pt')['epoch'] == 2
    second = Trainer(epochs=6, **options).fit(build('factors', data), data, resume=True)
    assert second.epoch == 3 and load_checkpoint(tmp_path / 'checkpoints' / 'best.pt')['epoch'] == 3
    assert [record.get('val') for record in second.history] == [
        None,
        {'recall@20': 0.1},
        None,
        {'recall@20': 0.2},
        None,
        {'recall@20': 0.15},
    ]


def test_the_limit_of_time_counts_the_evaluation_that_passes_it(data, monkeypatch):
    Clock(monkeypatch)
    result = Trainer(epochs=9, max_seconds=15.0, patience=0, **QUIET).fit(
        build('factors', data), data
    )
    batches = round(result.history[0]['total_seconds']) - 4
    assert batches < 15 <= 2 * (batches + 4) and len(result.history) == math.ceil(
        15 / (batches + 4)
    )


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
    assert all(
        bool(torch.isfinite(x).all())
        for x in state['model'].values()
        if isinstance(x, torch.Tensor)
    )


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
    other['user', 'interacts', 'item'].train_mask = data[
        'user', 'interacts', 'item'
    ].train_mask.clone()
    other['user', 'interacts', 'item'].train_mask[
        data['user', 'interacts', 'item'].train_mask.nonzero()[0]
    ] = False
    with pytest.raises(CheckpointError, match='another training graph'):
        Trainer(epochs=2, output=tmp_path, **QUIET).fit(build('factors', other), other, resume=True)
    with pytest.raises(CheckpointError, match="checkpoint of model 'Factors', expected 'GenRec'"):
        Trainer(epochs=2, output=tmp_path, **QUIET).fit(build('linear', data), data, resume=True)


def test_resume_warns_of_other_held_out_pairs_and_refuses_other_features(data, tmp_path, caplog):
    Trainer(epochs=1, output=tmp_path, **QUIET).fit(build('linear', data), data)
    store = data['user', 'interacts', 'item']
    data = copy.deepcopy(data)
    data['user', 'interacts', 'item'].test_mask = store.test_mask & (
        torch.arange(store.test_mask.numel()) % 2 == 0
    )
    Trainer(epochs=2, output=tmp_path, **QUIET).fit(build('linear', data), data, resume=True)
    assert 'the pairs of the test split are not those of the training' in caplog.text
    data['image'].x = data['image'].x + 1
    with pytest.raises(CheckpointError, match='another training graph .* features'):
        Trainer(epochs=3, output=tmp_path, **QUIET).fit(build('linear', data), data, resume=True)
