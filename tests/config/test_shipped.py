import pytest

from genrec_pyg.config import shipped
from genrec_pyg.exceptions import ConfigError

FILE = {
    'default': {'epochs': 3, 'hparams': {'a': 1, 'b': 1}},
    'datasets': {'tiktok': {'hparams': {'b': 2}}},
    'variants': {
        'fast': {
            'default': {'hparams': {'a': 3}},
            'datasets': {'tiktok': {'epochs': 4}},
        }
    },
}


@pytest.mark.parametrize(
    'dataset, variant, expected',
    [
        ('baby', None, {'epochs': 3, 'hparams': {'a': 1, 'b': 1}}),
        ('tiktok', None, {'epochs': 3, 'hparams': {'a': 1, 'b': 2}}),
        ('baby', 'fast', {'epochs': 3, 'hparams': {'a': 3, 'b': 1}}),
        ('tiktok', 'fast', {'epochs': 4, 'hparams': {'a': 3, 'b': 2}}),
        ('tiktok', 'none such', {'epochs': 3, 'hparams': {'a': 1, 'b': 2}}),
    ],
)
def test_datasets_and_variants_go_over_the_defaults(monkeypatch, dataset, variant, expected):
    monkeypatch.setattr(shipped, 'shipped_file', lambda model: FILE)
    assert shipped.shipped_defaults('GenRec', dataset, variant) == expected


def test_a_model_that_is_not_registered_has_no_file(monkeypatch):
    assert set(shipped.shipped_file('GenRec')) >= {'default'}
    monkeypatch.setattr(shipped, 'MODELS', {})
    assert shipped.shipped_file('GenRec') == {} == shipped.shipped_defaults('GenRec', 'tiktok')


@pytest.mark.parametrize(
    'content, message',
    [
        (b'- 1\n', 'holds list, accepted is a mapping of settings'),
        (b'a: [', 'not a YAML file'),
        (b'\xff', 'not a YAML file'),
        (None, 'cannot be read'),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / 'config.yaml'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=f'{path}: {message}'):
        shipped.read_yaml(path)


def test_a_mapping_is_read(tmp_path):
    path = tmp_path / 'config.yaml'
    path.write_text('epochs: 3\n')
    assert shipped.read_yaml(path) == {'epochs': 3}
