"""Feature files that are added to a prepared folder are modalities of it."""

import logging

import numpy as np
import pytest

from genrec_pyg.datasets import load_dataset
from genrec_pyg.datasets.preparation import Options, prepare_log
from genrec_pyg.encode import main as encode
from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import INTERACTS, modality_names

pytest.importorskip(
    'duckdb', reason='DUCKDB IS NOT INSTALLED: nothing is prepared (pip install .[prepare])'
)

TITLES = 'item\ttitle\nx\tred shoes\nz\tgreen hat\ny\tred hat\n'


@pytest.fixture
def shop(tmp_path):
    (tmp_path / 'log.csv').write_text('user,item\na,x\nb,y\na,y\n')
    np.save(tmp_path / 'price.npy', np.array([[1.0], [2.0]], dtype=np.float32))
    (tmp_path / 'price.ids.txt').write_text('x\ny\n')
    features = {'price': str(tmp_path / 'price.npy')}
    options = Options(split='none', features=features)
    prepare_log([str(tmp_path / 'log.csv')], tmp_path / 'shop', options)
    (tmp_path / 'items.tsv').write_text(TITLES)
    return tmp_path / 'shop'


def encode_words(shop, name='text'):
    flags = ['--kind', 'words', '--min_df', '1', '--channels', '2']
    source = shop.parent / 'items.tsv'
    assert encode([str(source), *flags, '--output', str(shop / f'{name}.npy')]) == 0


def test_a_file_of_encode_is_a_modality(shop, caplog):
    assert modality_names(load_dataset('shop', shop.parent)) == ['price']
    encode_words(shop)
    with caplog.at_level(logging.INFO):
        data = load_dataset('shop', shop.parent)
    assert sorted(modality_names(data)) == ['price', 'text']
    assert "modality 'text' for 2 of 2 items, added after the preparation; 1 rows" in caplog.text
    rows = np.load(shop / 'text.npy')
    ids = (shop / 'text.ids.txt').read_text().split()
    edges = data['item', 'has', 'text'].edge_index
    assert [data['item'].raw_id[item] for item in edges[0].tolist()] == ['x', 'y']
    expected = rows[[ids.index('x'), ids.index('y')]]
    np.testing.assert_array_equal(data['text'].x.numpy(), expected)
    assert data[INTERACTS].edge_index.size(1) == 3


def test_modalities_are_chosen_by_name(shop):
    encode_words(shop)
    for choice in (['price'], ['text'], ['text', 'price'], ['words=text.npy']):
        data = load_dataset('shop', shop.parent, choice)
        assert sorted(modality_names(data)) == sorted(c.partition('=')[0] for c in choice)
    with pytest.raises(ConfigError, match=r"got 'sound', accepted .*\(price\), .*\(text\)"):
        load_dataset('shop', shop.parent, ['sound'])
    with pytest.raises(ConfigError, match="got 'price=text.npy'"):
        load_dataset('shop', shop.parent, ['price=text.npy'])


def test_a_changed_file_and_the_name_of_a_prepared_modality_are_refused(shop):
    encode_words(shop)
    np.save(shop / 'text.npy', np.load(shop / 'text.npy') + 1)
    with pytest.raises(DataError, match='is not the file that .*text.manifest.json describes'):
        load_dataset('shop', shop.parent)
    encode_words(shop, 'price')
    with pytest.raises(ConfigError, match="has the name of the modality 'price'"):
        load_dataset('shop', shop.parent, ['price'])


def test_rows_of_other_items_only_are_refused(shop):
    (shop.parent / 'items.tsv').write_text('item\ttitle\nu\tred shoes\nv\tred hat\n')
    encode_words(shop)
    with pytest.raises(DataError, match="has rows of other items only, .* such as 'x'"):
        load_dataset('shop', shop.parent)
