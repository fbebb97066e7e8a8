import pytest

from benchmarks.common.machine import machine
from benchmarks.quality import leaderboard_report as report


def row(mean, **changes):
    spread = {'mean': mean, 'deviation': 0.002}
    return {
        'trained': True,
        'test': {'recall@20': spread, 'ndcg@20': {'mean': mean / 2, 'deviation': None}},
        'validation': spread,
        'epoch_seconds': 1.234,
        'best_seconds': 56.78,
        'memory_gb': 0.987,
        'gpu_memory_gb': 0.0,
        'published': {'value': 0.1165, 'source': 'a table'},
        'trials': [{'stopped': 'time'}, {'stopped': None}],
        'runs': {0: {'stopped': 'patience'}},
        'chosen': {
            'settings': {'trainer.lr': 0.00123456, 'hparams.k': 3},
            'validation': 0.2,
            'default_validation': 0.1,
        },
        **changes,
    }


def document(rows):
    protocol = {
        'trials': 2,
        'sampler_seed': 0,
        'trial_seconds': 120.0,
        'final_seconds': 240.0,
        'patience': 20,
        'seeds': [0],
        'jobs': 2,
        'bf16': [],
    }
    return {
        'protocol': protocol,
        'models': rows,
        'failures': {'SGL': 'no memory'},
        'machine': machine(1),
    }


def test_table():
    worse = {'difference': -0.0123, 'low': -0.02, 'high': -0.0046, 'p': 1e-5, 'p_corrected': 2e-5}
    rows = {'EASE': row(0.08, comparison=worse, published=None, trained=False), 'GenRec': row(0.11)}
    text = report.text(document(rows), 'tiktok', None)
    assert (
        '| GenRec | 2 (1) | 1 (0) | 0.1100 ± 0.0020 | 0.1100 ± 0.0020 | 0.0550 |  |  | 1.23 '
        '| 56.8 | 0.99 | 0.1165 |' in text
    )
    assert (
        '| EASE | 2 (1) | 1 (0) |' in text
        and '| -0.0123 [-0.0200, -0.0046] | <0.001 |  | 56.8 | 0.99 |  |' in text
    )
    assert text.index('| GenRec |') < text.index('| EASE |')  # the best first
    assert '| GenRec | trainer.lr 0.00123; hparams.k 3 | 0.1000 | 0.2000 |' in text
    assert (
        'Published figures (a table)' in text
        and 'SGL is missing: no memory.' in text
        and 'GPU memory' not in text
    )
    rows['GenRec']['gpu_memory_gb'] = 3.5
    assert '| 0.99 | 3.50 | 0.1165 |' in report.text(document(rows), 'tiktok', None)


def test_figure(tmp_path, monkeypatch):
    pytest.importorskip('matplotlib')
    rows = {'EASE': row(0.08, trained=False), 'GenRec': row(0.11)}
    assert report.draw(rows, tmp_path / 'a.svg')
    assert (tmp_path / 'a.svg').read_text().count('<!-- GenRec -->') == 1
    monkeypatch.setattr(report.importlib.util, 'find_spec', lambda name: None)
    assert not report.draw(rows, tmp_path / 'b.svg') and not (tmp_path / 'b.svg').exists()


def test_published_figures():
    tiktok = report.published('tiktok')
    assert (tiktok['GenRec']['value'], tiktok['GenRec']['source']) == ('0.1165', 'GenRec-V1 README')
    assert len(tiktok) == 12 and all(0 < float(entry['value']) < 1 for entry in tiktok.values())
    assert report.published('lfm2k') == {}
