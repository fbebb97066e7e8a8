import pytest

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.interest import InterestConfig


@pytest.mark.parametrize(
    'arguments,message',
    [
        (dict(ridge='little'), "ridge: got 'little'"),
        (dict(ridge=0.0), 'ridge: got 0.0'),
        (dict(discount=float('nan')), 'discount: got nan'),
        (dict(rank=0), 'rank: got 0'),
        (dict(num_neighbors=-1), 'num_neighbors: got -1'),
        (dict(view_weights='all'), "view_weights: got 'all'"),
        (dict(view_weights={'kernel': -1.0}), 'view_weights: got'),
        (dict(view_weights={'kernel': 0.0}), 'view_weights: got'),
    ],
)
def test_bad_settings_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        InterestConfig(**arguments)


def test_an_interest_is_pinned_by_numbers_for_everything_but_its_weight():
    pinned = dict(
        ridge=4.0, ridge_power=0.0, row_weight=0.0, discount=0.0, view_weights={'kernel': 1.0}
    )
    assert InterestConfig(**pinned).is_pinned
    for name in pinned:
        assert not InterestConfig(**{**pinned, name: 'auto'}).is_pinned
