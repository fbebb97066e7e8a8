import json
import time

import pytest
import torch

from benchmarks.speed import phases


def test_nested_phases_count_apart():
    clock = phases.NestedClock()
    with clock.phase('outer'):
        time.sleep(0.01)
        with clock.phase('inner'):
            time.sleep(0.05)
        time.sleep(0.01)
    assert clock.wall['inner'] >= 0.05 and 0.02 <= clock.wall['outer'] < 0.05


def test_wrappers_count_and_come_off():
    class Owner:
        def work(self, value):
            time.sleep(0.01)
            return value

    clock, owner = phases.NestedClock(), Owner()
    clock.wrap(owner, 'work', 'work')
    clock.wrap(torch.Tensor, 'backward', 'backward')
    assert owner.work(3) == 3 and clock.wall['work'] >= 0.01
    torch.ones(1, requires_grad=True).sum().backward()
    assert clock.wall.pop('backward') > 0
    clock.close()
    torch.ones(1, requires_grad=True).sum().backward()
    assert 'backward' not in clock.wall and owner.work.__func__ is Owner.work


def test_a_counted_loader_gives_every_batch():
    clock = phases.NestedClock()
    loader = phases.CountedLoader([1, 2, 3], clock, 'batches')
    assert list(loader) == [1, 2, 3] and list(loader) == [1, 2, 3] and clock.wall['batches'] > 0


def test_report(tmp_path):
    stem = tmp_path / 'phases-demo'
    assert (
        phases.main(
            [
                '--root',
                str(tmp_path),
                '--dataset',
                'demo',
                '--modalities',
                'image',
                'text',
                '--epochs',
                '1',
                '--output',
                str(stem),
            ]
        )
        == 0
    )
    document = json.loads(stem.with_suffix('.json').read_text())
    assert {
        'backward',
        'optimizer',
        'encoder: fusion',
        'evaluation',
        'loss terms of the batch',
        'denoiser: generated graph',
    } <= set(document['phases'])
    assert all(row['calls'] > 0 for row in document['operators'])
    assert '| backward |' in stem.with_suffix('.md').read_text()


def test_bad_flags(tmp_path, capsys):
    with pytest.raises(SystemExit):
        phases.main(['--root', str(tmp_path), '--epochs', '0'])
    assert '--epochs: got 0' in capsys.readouterr().err
