import pytest

from genrec_pyg.exceptions import ConfigError, OutputError
from genrec_pyg.reporting.page.figures import write_figures

pytest.importorskip('matplotlib')


def test_every_chart_and_map_is_there_twice(content, tmp_path):
    small = {
        **content,
        'curves': content['curves'][:1],
        'figures': content['figures'][:1],
        'maps': content['maps'][:1],
    }
    found = write_figures(small, tmp_path / 'new')
    assert sorted(path.name for path in found) == sorted(
        path.name for path in (tmp_path / 'new').iterdir()
    )
    assert {path.stem for path in found} >= {
        'recall-20-by-training-items-of-the-user',
        'changes-by-image-cluster',
    }
    assert len(found) == 2 * 6
    for path in found:
        head = path.read_bytes()[:8]
        assert head == b'\x89PNG\r\n\x1a\n' if path.suffix == '.png' else b'<?xml' in head
    again = {path.name: path.read_bytes() for path in write_figures(small, tmp_path / 'again')}
    assert again == {path.name: path.read_bytes() for path in found}


def test_names_with_dollars_are_text(content, tmp_path):
    chart = {
        **content['groups'][0],
        'series': [{'name': r'$\frac$', 'values': content['groups'][0]['series'][0]['values']}],
    }
    small = {**content, 'curves': [], 'figures': [], 'maps': [], 'flips': {}, 'groups': [chart]}
    assert len(write_figures(small, tmp_path)) == 2


def test_what_cannot_be_written(content, tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OutputError):
        write_figures(content, tmp_path / 'file')
    monkeypatch.setitem(__import__('sys').modules, 'matplotlib', None)
    with pytest.raises(ConfigError, match='pip install matplotlib'):
        write_figures(content, tmp_path)
