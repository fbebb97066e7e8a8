import json

import pytest

from benchmarks.speed import regression


def report(ours, torch, processor=1.0):
    return {
        'machine': {'threads': 1},
        'products': {
            'd = 64': {
                'forward': {
                    'genrec_pyg.ops': {'median': ours, 'min': ours},
                    'torch CSR': {'median': torch},
                }
            }
        },
        'systems': {
            'ours, default': {
                'wall_seconds': {'epoch': {'median': 10 * ours}},
                'processor_seconds': {'epoch': {'median': processor}},
            }
        },
        'raw': {'x': {'median': 9.0}},
    }


def test_medians_are_found_by_path():
    found = regression.medians(report(0.2, 0.4))
    assert found == {
        ('products', 'd = 64', 'forward', 'genrec_pyg.ops'): 0.2,
        ('products', 'd = 64', 'forward', 'torch CSR'): 0.4,
        ('systems', 'ours, default', 'wall_seconds', 'epoch'): 2.0,
    }


def test_ratios_are_on_equal_machines():
    then, now = regression.medians(report(0.2, 0.4)), regression.medians(report(0.6, 0.8))
    factor = regression.machine_factor(then, now)
    assert factor == pytest.approx(2.0)
    rows = regression.compare(then, now, factor)
    assert [row[3] for row in rows] == pytest.approx([1.5, 1.5]) and {
        row[0].split(' / ')[0] for row in rows
    } == {'products', 'systems'}
    with pytest.raises(ValueError, match='no candidate'):
        regression.machine_factor({('ours',): 1.0}, {('ours',): 1.0})


@pytest.mark.parametrize('ours,code', [(0.22, 0), (0.4, 1)])
def test_exit_code_and_table(tmp_path, monkeypatch, capsys, ours, code):
    (tmp_path / 'kernels-demo.json').write_text(json.dumps(report(0.2, 0.4)))
    monkeypatch.setattr(regression, 'measure_again', lambda script, args: report(ours, 0.4))
    argv = [
        '--root',
        'data',
        '--dataset',
        'demo',
        '--results',
        str(tmp_path),
        '--scripts',
        'kernels',
    ]
    assert regression.main(argv) == code
    assert f'{2 if code else 0} of 2 slower than 1.3 times before' in capsys.readouterr().out


def test_missing_results_are_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        regression.main(['--root', 'data', '--results', str(tmp_path)])
    assert 'kernels-tiktok.json is missing' in capsys.readouterr().err
