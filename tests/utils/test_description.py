from functools import partial

import numpy as np
import pytest
import torch
import torch_geometric.transforms as pyg
from torch_geometric.transforms import BaseTransform

from genrec_pyg import transforms
from genrec_pyg.utils.description import describe


class Named(BaseTransform):
    """A transform whose ``repr`` leaves out what it holds."""

    def __init__(self, held):
        self.held = held

    def forward(self, data):
        return data

    def __repr__(self):
        return 'Named()'


class Unnamed(Named):
    __repr__ = BaseTransform.__repr__


PAIRS = [
    (pyg.ToSparseTensor(), pyg.ToSparseTensor(remove_edge_index=False)),
    (pyg.RandomNodeSplit(num_val=3), pyg.RandomNodeSplit(num_val=4)),
    (pyg.Compose([transforms.KCore(2)]), pyg.Compose([transforms.KCore(3)])),
    (transforms.KCore(2), [transforms.KCore(2)]),
    ((1, 23), (12, 3)),
    ('1', 1),
    (1, 1.0),
    ({'a': 1}, {'a': 2}),
    (pyg.KNNGraph, pyg.RadiusGraph),
    *(
        (Named(a), Named(b))
        for a, b in [
            (torch.zeros(3), torch.ones(3)),
            (torch.zeros(2, 3), torch.zeros(3, 2)),
            (torch.zeros(2), torch.zeros(2).half()),
            (np.arange(4), np.arange(4)[::-1]),
            ([1, None], [None, 1]),
            ({1, 2}, {1, 3}),
            (Named(1), Named(2)),
            (torch.zeros(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.bfloat16)),
            (torch.float32, torch.float64),
        ]
    ),
]


@pytest.mark.parametrize('first, second', PAIRS)
def test_what_differs_is_told_apart(first, second):
    assert None not in (describe(first), describe(second)) and describe(first) != describe(second)


@pytest.mark.parametrize(
    'make',
    [
        lambda: Named({'x': torch.arange(5)}),
        lambda: transforms.RandomSplit(seed=3),
        lambda: pyg.Compose([transforms.KCore(2), pyg.ToSparseTensor()]),
        lambda: None,
    ],
)
def test_what_is_alike_has_one_text(make):
    assert describe(make()) == describe(make()) is not None


@pytest.mark.parametrize(
    'value',
    [
        print,
        lambda data: data,
        partial(print, 1),
        Named(0).forward,
        object(),
        Named(lambda: 0),
        Named(object()),
        Unnamed(1),
        pyg.ToUndirected(merge=False),
        pyg.Compose([lambda data: data]),
        [print],
        torch.Generator(),
        Named(np.array([print])),
        Named(torch.eye(2).to_sparse()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_does_not_say_what_it_does_has_no_text(value):
    assert describe(value) is None
