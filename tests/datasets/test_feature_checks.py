import numpy as np
import pytest
from helpers.grouped_shop import shop

from genrec_pyg.datasets import from_table, load_dataset
from genrec_pyg.datasets.feature_checks import check_alignment
from genrec_pyg.datasets.io.feature_files import write_features
from genrec_pyg.datasets.io.manifests import source_digest
from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.recommend import main as recommend
from genrec_pyg.train import main as train


@pytest.fixture
def files(tmp_path):
    """A log and features beside it, displaced by ``rolled`` rows."""

    def make(rolled, name='text.npy'):
        data = shop(rolled)
        user, item = data['user', 'interacts', 'item'].edge_index.tolist()
        lines = ''.join(f'{u}\t{i}\t{n % 10 // 8}\n' for n, (u, i) in enumerate(zip(user, item)))
        (tmp_path / 'shop').mkdir(exist_ok=True)
        (tmp_path / 'shop' / 'log.csv').write_text('user\titem\tx_label\n' + lines)
        (tmp_path / 'shop' / 'shop.inter').write_text('userID\titemID\tx_label\n' + lines)
        write_features(tmp_path / 'shop' / name, np.arange(240), data['text'].x.numpy(), {})
        return tmp_path

    return make


def test_displaced_features_beside_a_log_are_refused(files, caplog):
    root = files(1)
    with pytest.raises(DataError, match="'text' are displaced by 1 rows: .*--check_features warn"):
        load_dataset('shop/log.csv', root)
    assert load_dataset('shop/log.csv', root, check='off')['text'].x.shape == (240, 12)
    assert 'are displaced by' not in caplog.text
    load_dataset('shop/log.csv', root, check='warn')
    assert "features of 'text' are displaced by 1 rows" in caplog.text
    load_dataset('shop/log.csv', files(0))


def test_displaced_features_of_a_layout_are_refused_also_where_its_graph_is_kept(files):
    root = files(-2)
    for _ in range(2):
        with pytest.raises(DataError, match="'text' are displaced by -2 rows"):
            load_dataset('shop', root)
    assert load_dataset('shop', files(0))['text'].x.shape == (240, 12)


def test_no_signal_is_named_in_a_warning(caplog):
    data = shop()
    data['text'].x = data['text'].x.flip(0)
    check_alignment(data, ['text'])
    assert "features of 'text' do not tell which items the same users have" in caplog.text


def test_features_of_another_encoder_are_refused(files):
    root = files(0)
    np.save(root / 'shop' / 'text.npy', np.zeros((240, 12), dtype=np.float32))
    for name in ('shop', 'shop/log.csv'):
        with pytest.raises(DataError, match='another encoder or content.*otherwise acc'):
            load_dataset(name, root)
    load_dataset('shop', root, check='warn')


def test_rows_of_other_items_do_not_pass_for_those_of_a_layout(files):
    root = files(0)
    write_features(root / 'shop' / 'text.npy', np.arange(1, 241), np.eye(240, 12), {})
    with pytest.raises(DataError, match="row 0 is of item '1' by text.ids.txt, and in this"):
        load_dataset('shop', root)


def test_policies_are_named():
    with pytest.raises(ConfigError, match="check_features: got 'no', accepted are error, warn"):
        load_dataset('demo', check='no')
    with pytest.raises(ConfigError, match='check_features'):
        from_table({'user': [1], 'item': [1]}, check='no')


def test_a_run_is_used_after_its_titles_have_changed(files):
    """Its features are compared with those of the training; a new training is refused."""
    root = files(0)
    (root / 'items.tsv').write_text('a')
    features = root / 'shop' / 'text.npy'
    write_features(
        features,
        np.arange(240),
        np.load(features),
        {'source': {'path': '../items.tsv', 'sha256': source_digest(root / 'items.tsv')}},
    )
    flags = [
        '--root',
        str(root),
        '--dataset',
        'shop/log.csv',
        '--model',
        'ItemKNNCBF',
        '--references',
        'false',
    ]
    assert train([*flags, '--output', str(root / 'run')]) == 0
    (root / 'items.tsv').write_text('b')
    assert recommend([str(root / 'run'), '--users', '0', '--output', str(root / 'lists.csv')]) == 0
    assert train([*flags, '--output', str(root / 'other')]) == 1
    assert train([*flags, '--output', str(root / 'other'), '--check_features', 'warn']) == 0
