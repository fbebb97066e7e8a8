import json
import shutil

import pytest

pytest.importorskip(
    'fastapi', reason='THE SERVICE IS NOT MEASURED: pip install "genrec_pyg[serve]"'
)

from benchmarks.speed import service
from genrec_pyg.export import main as export
from genrec_pyg.train import main as train

needs_wrk = pytest.mark.skipif(
    shutil.which('wrk') is None, reason='THE SERVICE IS NOT MEASURED: apt-get install wrk'
)


@needs_wrk
def test_report(tmp_path):
    run, bundle, stem = tmp_path / 'run', tmp_path / 'bundle', tmp_path / 'report'
    assert train(['--model', 'EASE', '--output', str(run), '--references', 'false']) == 0
    assert export([str(run), '--output', str(bundle)]) == 0
    before = (bundle / 'manifest.json').read_bytes()
    sizes = ['--seconds', '1', '--starts', '1', '--connections', '1', '4', '--kills', '1']
    assert service.main([str(bundle), *sizes, '--soak', '12', '--output', str(stem)]) == 0
    document = json.loads(stem.with_suffix('.json').read_text())
    rows = [(row['connections'], row['pause']) for row in document['rows']]
    assert rows == [(1, None), (4, None), (4, [4, 12]), (4, [10, 30])]
    for row in [*document['rows'], document['soak']]:
        assert row['requests'] > 5 and sum(row['errors'].values()) == 0
        assert 0 < row['p50'] <= row['p99'] <= row['max'] and row['per_cpu_second'] > 0
    assert document['soak']['changes'] == 1 and document['soak']['code'] == document['code'] == 0
    kills = document['kills']
    assert kills['answers'] > 5 and kills['wrong'] == 0 and len(kills['seconds_without']) == 1
    text = stem.with_suffix('.md').read_text()
    assert '# Service on EASE-demo' in text and str(tmp_path) not in text
    assert (bundle / 'manifest.json').read_bytes() == before  # a copy was served


@needs_wrk
def test_no_bundle(tmp_path, caplog):
    assert service.main([str(tmp_path)]) == 1 and 'holds no manifest.json' in caplog.text


def test_without_wrk(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(shutil, 'which', lambda name: None)
    assert service.main([str(tmp_path)]) == 2 and 'wrk is not installed' in caplog.text
