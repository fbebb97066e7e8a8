"""Items that training has not seen, ranked by their features."""

import copy

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from genrec_pyg import Trainer
from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.nn.models import get_model
from genrec_pyg.ops import Adjacency
from genrec_pyg.recommend import top_new_items
from genrec_pyg.retrieval.new_item_lists import read_new_items


@pytest.fixture(scope='module')
def trained(demo_data):
    data = copy.deepcopy(demo_data)
    model = get_model('VBPR')(data, modalities=['text'])
    Trainer(epochs=30, batch_size=256, lr=0.02, seed=0, progress=False, device='cpu').fit(
        model, data
    )
    return data, model


def test_a_new_item_like_the_history_of_a_user_comes_first(trained):
    """A copy of an item stands where the item itself stands: near it for its users."""
    data, model = trained
    x = data['text'].x
    columns = top_new_items(model, data, {'text': x}, range(80), torch.arange(120), k=10)
    assert len(columns['item']) == 1200 and columns['rank'][:10] == list(range(1, 11))
    degree = torch.zeros(120, 80)
    degree[tuple(model.graph.edge_index)] = 1
    found = degree[columns['user'], columns['item']].mean()
    # of items that are offered by their features alone, more than by chance are theirs
    assert found > 1.5 * degree.mean()
    histories = Adjacency.from_edge_index(model.graph.edge_index, size=(120, 80))
    folded = top_new_items(model, data, {'text': x}, range(80), None, range(120), histories, k=10)
    assert degree[folded['user'], folded['item']].mean() > 1.5 * degree.mean()


def test_files_of_several_modalities_are_joined_by_id(tmp_path):
    parquet.write_table(
        pa.table({'item_id': ['n2', 'n10'], 'text': [[1.0, 2], [3, 4]]}), tmp_path / 'items.parquet'
    )
    np.save(tmp_path / 'image.npy', np.array([[5.0]]))
    (tmp_path / 'image.ids.txt').write_text('n7\n')
    ids, features = read_new_items(
        {'text': str(tmp_path / 'items.parquet'), 'image': str(tmp_path / 'image.npy')}
    )
    assert ids == ['n2', 'n7', 'n10'] and features['text'][[0, 2]].tolist() == [[1, 2], [3, 4]]
    assert features['text'][1].isnan().all() and features['image'].isnan().view(-1).tolist() == [
        True,
        False,
        True,
    ]


def test_models_that_cannot_say_so(trained, demo_data):
    data, model = trained
    with pytest.raises(ConfigError, match='EASE has no item embeddings'):
        top_new_items(
            get_model('EASE')(copy.deepcopy(demo_data)),
            data,
            {'text': data['text'].x},
            range(80),
            [0],
        )
    with pytest.raises(DataError, match='text has shape'):
        top_new_items(model, data, {'text': torch.ones(2, 3)}, range(2), [0])
    with pytest.raises(ConfigError, match='features: got image, accepted are text'):
        top_new_items(model, data, {'image': torch.ones(2, 3)}, range(2), [0])
