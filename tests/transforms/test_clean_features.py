import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import INTERACTS
from genrec_pyg.ops import singular_value_threshold
from genrec_pyg.transforms import CleanFeatures


def make_graph(x):
    data = HeteroData()
    data['user'].num_nodes = 1
    data['item'].num_nodes = x.size(0)
    data[INTERACTS].edge_index = torch.zeros(2, 1, dtype=torch.long)
    for name, features in (('image', x), ('text', torch.ones(x.size(0), 2, dtype=torch.float64))):
        data[name].x = features
        data['item', 'has', name].edge_index = torch.arange(x.size(0)).repeat(2, 1)
    return data


nan, inf = float('nan'), float('inf')
DIRTY = torch.tensor([[1.0, nan, nan], [3.0, inf, -inf], [5.0, 4.0, nan]])


def test_error_names_rows():
    with pytest.raises(
        DataError, match=r"data\['image'\].x has 3 rows with NaN or infinity, the first is row 0"
    ):
        CleanFeatures()(make_graph(DIRTY))


def test_zero_and_mean():
    data = make_graph(DIRTY)
    assert CleanFeatures(nan='zero')(data)['image'].x.tolist() == [[1, 0, 0], [3, 0, 0], [5, 4, 0]]
    assert CleanFeatures(nan='mean')(data)['image'].x.tolist() == [[1, 4, 0], [3, 4, 0], [5, 4, 0]]
    assert data['image'].x is DIRTY and bool(DIRTY.isnan().any())  # the input is untouched


def test_half_precision_is_cast_before_arithmetic():
    x = torch.full((100, 2), 1000.0, dtype=torch.float16)
    x[0, 0] = nan
    out = CleanFeatures(nan='mean')(make_graph(x))
    assert out['image'].x.dtype == out['text'].x.dtype == torch.float32
    assert bool((out['image'].x == 1000).all())  # the sum 99000 overflows in float16


def test_overflow_of_the_cast_is_seen():
    with pytest.raises(DataError, match='1 rows with NaN or infinity, the first is row 1'):
        CleanFeatures()(make_graph(torch.tensor([[1.0], [1e300]], dtype=torch.float64)))


def test_standardize():
    x = torch.randn(50, 3) * torch.tensor([1.0, 10.0, 100.0]) + 128
    x = torch.cat([x, torch.full((50, 1), 0.1)], dim=1)
    out = CleanFeatures(standardize=True)(make_graph(x))['image'].x
    assert torch.allclose(out.mean(dim=0), torch.zeros(4), atol=1e-5)
    assert torch.allclose(out.square().mean(dim=0), torch.tensor([1.0, 1.0, 1.0, 0.0]), atol=1e-4)
    assert bool((out[:, 3] == 0).all())


@pytest.mark.parametrize(
    'center, spread', [(1e6, 1), (0, 1e25), (0, 1e-30), (1e38, 1e36), (1900, 30), (0, 1e-44)]
)
def test_standardized_columns_of_any_scale_equal_numpy_in_float64(center, spread):
    x = (center + spread * torch.randn(200, 2, dtype=torch.float64)).float()
    exact = x.double().numpy()
    expected = (exact - exact.mean(axis=0)) / exact.std(axis=0)
    out = CleanFeatures(standardize=True)(make_graph(x))['image'].x
    assert np.abs(out.numpy() - expected).max() < 1e-5


def test_float64_beyond_float32_can_be_standardized():
    x = torch.randn(50, 2, dtype=torch.float64) * 1e200
    out = CleanFeatures(standardize=True)(make_graph(x))['image'].x
    assert torch.allclose(out.std(dim=0, correction=0), torch.ones(2))


def test_means_of_large_columns_do_not_overflow():
    x = torch.full((4, 1), 3e38)
    x[0] = nan
    assert bool((CleanFeatures(nan='mean')(make_graph(x))['image'].x == 3e38).all())


@pytest.mark.parametrize('options', [dict(standardize=True), dict(nan='mean'), dict(svt=0.4)])
def test_nodes_that_no_item_links_to_have_no_part_in_the_statistics(options):
    x = torch.randn(12, 3)
    if 'nan' in options:
        x[0, 0] = nan
    expected = CleanFeatures(**options)(make_graph(x))['image'].x
    data = make_graph(x)
    data['image'].x = torch.cat([x, torch.full((3, 3), 100.0)])
    out = CleanFeatures(**options)(data)['image'].x
    assert torch.allclose(out[:12], expected) and out.size(0) == 15


def test_only_named_modalities():
    data = make_graph(torch.tensor([[1.0], [3.0]]))
    out = CleanFeatures(standardize=True, modalities=['image'])(data)
    assert out['image'].x.tolist() == [[-1], [1]]
    assert out['text'].x is data['text'].x
    with pytest.raises(ConfigError, match="no modality 'audio'"):
        CleanFeatures(modalities=['audio'])(data)


def test_svt_option_comes_last():
    x = torch.randn(20, 4)
    data = make_graph(x)
    out = CleanFeatures(standardize=True, svt=0.3)(data)['image'].x
    assert torch.allclose(
        out, singular_value_threshold(CleanFeatures(standardize=True)(data)['image'].x, 0.3)
    )


@pytest.mark.parametrize(
    'arguments, message',
    [
        ({'nan': 'drop'}, "nan: got 'drop', accepted are 'error', 'zero', 'mean'"),
        ({'svt': 1.5}, 'svt: got 1.5'),
        ({'svt': nan}, 'svt: got nan'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        CleanFeatures(**arguments)
