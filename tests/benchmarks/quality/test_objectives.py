import json

from benchmarks.quality import objectives


def test_report(tmp_path):
    assert (
        objectives.main(['--dataset', 'demo', '--epochs', '2', '--output', str(tmp_path / 'x')])
        == 0
    )
    runs = json.loads((tmp_path / 'x.json').read_text())['runs']
    assert len(runs) == 5 and all(
        0 < run['validation'] <= 1 and run['epoch'] in (1, 2) for [run] in runs.values()
    )
    assert '| closed form | 1 |' in (tmp_path / 'x.md').read_text()
