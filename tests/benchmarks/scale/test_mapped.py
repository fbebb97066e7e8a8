import json

import pytest

from benchmarks.scale import mapped

pytest.importorskip('duckdb', reason='DUCKDB IS NOT INSTALLED (pip install .[prepare])')


def test_what_processes_hold_is_reported(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mapped, '_USERS', 300)
    monkeypatch.setattr(mapped, '_ITEMS', 200)
    folder = mapped.prepared(tmp_path, 4000, 5)
    monkeypatch.setattr(mapped, 'prepared', lambda *_: folder)
    found = {way: mapped.child(way, folder) for way in mapped.WAYS}
    assert found['map']['sum'] == pytest.approx(found['load, half the rows']['sum'], rel=1e-3)
    assert all(entry['seconds'] > 0 for entry in found.values())

    class Done:
        stdout = json.dumps(found['map'])

    monkeypatch.setattr(mapped.subprocess, 'run', lambda *_, **__: Done)
    assert mapped.main(['--pairs', '4000', '--output', str(tmp_path / 'report')]) == 0
    assert '| load, half the rows |' in (tmp_path / 'report.md').read_text()
    assert '4000 rows of a log' in capsys.readouterr().out
