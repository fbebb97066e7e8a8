import math

import pytest
import torch
from helpers.toy_graphs import BATCH, set_tables, toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models.pairwise import PairwiseRecommender
from genrec_pyg.utils.validation import check_choice, check_range


class Tables(PairwiseRecommender):
    """The simplest subclass."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.parameterless = torch.nn.Identity()

    def embed(self):
        return self.embedding.user, self.embedding.item


def test_loss_by_hand():
    model = set_tables(
        Tables(toy_data(), hidden_channels=1, l2=0.1),
        torch.arange(8.0).unsqueeze(1),
        torch.arange(7.0).unsqueeze(1),
    )
    terms = model.loss(BATCH)
    # u (i- - i+) of the triples (0, 0, 3), (1, 2, 4), (4, 2, 5), (6, 5, 6), (0, 1, 4): 0, 2, 12, 6,
    # 0.
    assert float(terms['bpr']) == pytest.approx(
        sum(math.log1p(math.exp(x)) for x in (0, 2, 12, 6, 0)) / 5
    )
    # Squares: users 0 + 1 + 16 + 36 + 0, positives 0 + 4 + 4 + 25 + 1, negatives 9 + 16 + 25 + 36 +
    # 16.
    assert float(terms['l2']) == pytest.approx(0.1 * (53 + 34 + 102) / (2 * 5))


def test_reset_skips_what_has_no_parameters():
    model = Tables(toy_data(), hidden_channels=2, user_channels=3)
    before = model.embedding.user.clone()
    assert before.shape == (8, 3) and model.embedding.item.shape == (7, 2)
    model.reset_parameters()
    assert not torch.equal(before, model.embedding.user)


@pytest.mark.parametrize('value', [-0.1, math.nan])
def test_bad_penalty(value):
    with pytest.raises(ConfigError, match=f'l2: got {value}, accepted are numbers from 0'):
        Tables(toy_data(), l2=value)


def test_ranges_and_choices():
    (
        check_range('x', 0, 0),
        check_range('x', 1, 0, 1),
        check_range('x', math.inf, 0),
        check_choice('x', 'a', 'ab'),
    )
    for arguments, accepted in (
        ((0, 0, 1, True), 'from 0 to 1, excluded'),
        ((2, 0, 1), 'from 0 to 1$'),
        ((math.nan, 0, 1), 'from 0 to 1$'),
        ((0, 1), 'from 1$'),
    ):
        with pytest.raises(
            ConfigError, match=f'x: got {arguments[0]}, accepted are numbers {accepted}'
        ):
            check_range('x', *arguments)
    with pytest.raises(ConfigError, match="x: got 'c', accepted are 'a', 'b'"):
        check_choice('x', 'c', ('a', 'b'))
