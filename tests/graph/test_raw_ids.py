import json

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from genrec_pyg.graph import raw_ids


@pytest.mark.parametrize(
    'ids', [torch.tensor([7, 3]), np.array([7, 3]), [np.int64(7), torch.tensor(3)], (7, 3)]
)
def test_ids_are_plain_values_whatever_holds_them(ids):
    data = HeteroData()
    data['item'].num_nodes, data['item'].raw_id = 2, ids
    assert json.dumps(list(raw_ids(data, 'item'))) == '[7, 3]'


def test_texts_stay_and_numbers_stand_in_for_none():
    data = HeteroData()
    data['item'].num_nodes, data['item'].raw_id = 2, ['sku-1', 'sku-2']
    data['user'].num_nodes = 3
    assert list(raw_ids(data, 'item')) == ['sku-1', 'sku-2'] and list(raw_ids(data, 'user')) == [
        0,
        1,
        2,
    ]
