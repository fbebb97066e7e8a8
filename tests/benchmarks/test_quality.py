import json
import sys

import pytest


@pytest.fixture
def quality(monkeypatch):
    import importlib
    from pathlib import Path
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / 'benchmarks'))
    yield importlib.import_module('quality')
    sys.modules.pop('quality', None)


def metrics(value):
    figures = {'recall@20': value, 'ndcg@20': value / 2, 'precision@20': value / 20}
    return {'validation': figures, 'test': figures, 'epoch': 4, 'seconds': 10.0}


def test_table_gives_mean_and_spread(quality):
    text = quality.table({'default': {'0': metrics(0.10), '1': metrics(0.12)}}, {'Popularity': metrics(0.05)})
    assert '| default | 2 | 0.1100 ± 0.0141 | 0.1100 ± 0.0141 | 0.0550 ± 0.0071 | 0.0055 ± 0.0007 | 5 | 10 |' in text
    assert '| Popularity | 1 | 0.0500 |' in text


def test_finished_runs_are_not_repeated(quality, tmp_path, monkeypatch):
    calls = []

    def run(arguments, flags, seed):
        calls.append((tuple(flags), seed))
        return metrics(0.1)

    monkeypatch.setattr(quality, 'run', run)
    monkeypatch.setattr(quality, 'references', lambda arguments: {'EASE': metrics(0.08)})
    argv = ['quality.py', '--root', 'data', '--output', str(tmp_path), '--settings', 'default', 'no contrast',
            '--seeds', '0', '1']
    for _ in range(2):
        monkeypatch.setattr(sys, 'argv', argv)
        quality.main()
    assert len(calls) == 4 and calls[1] == (('--hparams.contrast', 'false'), 0)
    document = json.loads((tmp_path / 'quality-tiktok.json').read_text())
    assert set(document['runs']) == {'default', 'no contrast'} and 'EASE' in document['references']
    assert 'no contrast' in (tmp_path / 'quality-tiktok.md').read_text()


def test_every_flag_of_the_settings_is_a_hyper_parameter(quality):
    import inspect

    from genrec_pyg.nn.models import GenRec
    names = set(inspect.signature(GenRec).parameters)
    for flags in quality.SETTINGS.values():
        assert {flag.split('.')[1] for flag in flags if flag.startswith('--hparams.')} <= names
