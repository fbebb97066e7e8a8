import inspect

import pytest
from torch_geometric.transforms import BaseTransform

from genrec_pyg import transforms
from genrec_pyg.utils.description import describe

#: Two values of every argument.
VALUES = {
    'k': (2, 3),
    'modalities': (['image'], ['text']),
    'block_size': (8, 16),
    'nan': ('zero', 'mean'),
    'standardize': (True, False),
    'svt': (0.1, 0.2),
    'user': ('buyer', 'reader'),
    'item': ('book', 'film'),
    'rel': ('buys', ('book', 'buys', 'film')),
    'item_x': ('content', None),
    'label_split': ('val', None),
    'sigma': (0.5, 0.25),
    'seed': (1, 2),
    'share': (0.5, 0.25),
    'method': ('degree', 'rcm'),
    'val': (0.2, 0.3),
    'test': (0.1, 0.2),
    'input_share': (0.5, 0.6),
    'attribute': ('title', 'plot'),
    'encoder': ('minilm', 'other'),
    'name': ('text', None),
    'pooling': ('cls', 'mean'),
    'max_length': (8, None),
    'seconds': (30.0, 5.0),
    'lowercase': (False, True),
    'on_bad_item': ('skip', 'zero'),
    'batch_size': (8, 16),
    'device': ('cpu', 'cuda'),
    'norm': ('model', 'half'),
    'workers': (1, 2),
    'kind': ('words', 'tags'),
    'channels': (8, None),
    'separator': ('|', None),
    'min_df': (1, 2),
}
CLASSES = [
    getattr(transforms, name)
    for name in transforms.__all__
    if isinstance(getattr(transforms, name), type)
]


@pytest.mark.parametrize('kind', CLASSES, ids=lambda kind: kind.__name__)
def test_repr_is_the_call_that_makes_the_transform(kind):
    names = list(inspect.signature(kind.__init__).parameters)[1:]
    first = kind(**{name: VALUES[name][0] for name in names})
    public = {name: getattr(transforms, name) for name in transforms.__all__}
    assert repr(eval(repr(first), public)) == repr(first) and describe(first) is not None
    for changed in names:
        other = kind(**{name: VALUES[name][name == changed] for name in names})
        assert repr(other) != repr(first) and describe(other) != describe(first), changed


def test_all_transforms_are_covered():
    assert len(CLASSES) >= 11 and all(issubclass(kind, BaseTransform) for kind in CLASSES)


def test_one_modality_as_text_is_that_one():
    for kind in (transforms.CleanFeatures, transforms.ItemKNNGraph):
        assert kind(modalities='image').modalities == ['image']
    for kind in (transforms.AddFeatureNoise, transforms.DropModality, transforms.ShuffleFeatures):
        assert kind(0.5, modalities='image').modalities == ['image']
