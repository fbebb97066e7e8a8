import numpy as np
import pytest
import scipy.sparse as sp

from genrec_pyg.encoders.bag import reduce_bag, split_tags, weigh_tags, weigh_words
from genrec_pyg.exceptions import ConfigError, DataError


def test_rare_tags_weigh_more():
    x = weigh_tags([['rock', 'live'], ['rock'], [], ['rock', 'live', 'live']]).toarray()
    live, rock = 0, 1  # in the order of the alphabet
    assert x[0, live] > x[0, rock] and x[1].tolist() == [0, 1] and x[2].tolist() == [0, 0]
    assert x[3, live] / x[3, rock] == pytest.approx(x[0, live] / x[0, rock] * (1 + np.log(2)))
    assert weigh_tags([['rock', 'live'], ['rock']], min_df=2).shape == (2, 1)


def test_words_and_pairs_of_words():
    x = weigh_words(['red wine', 'red wine the', 'blue'])
    assert x.shape == (3, 3)  # red, red wine, wine
    assert x[2].nnz == 0 and np.allclose(x[0].toarray(), x[1].toarray())
    with pytest.raises(DataError, match='accepted are texts with words that occur in at least 2'):
        weigh_words(['red', 'blue'])


def test_reduction_keeps_angles():
    generator = np.random.default_rng(0)
    x = sp.csr_matrix(generator.random((9, 6)))
    rows = reduce_bag(x, channels=5)
    assert rows.shape == (9, 5) and rows.dtype == np.float32
    unit = x.toarray() / np.linalg.norm(x.toarray(), axis=1, keepdims=True)
    left, values, _ = np.linalg.svd(unit)
    best = (left[:, :5] * values[:5]) @ (left[:, :5] * values[:5]).T
    assert np.allclose(rows @ rows.T, best, atol=1e-4)
    assert not reduce_bag(sp.csr_matrix(np.vstack([np.zeros(6), x.toarray()])))[0].any()


def test_bags_of_nothing_are_refused():
    with pytest.raises(DataError, match='no tag is of 1 items or more'):
        weigh_tags([[], []])
    with pytest.raises(ConfigError, match='channels: got 0'):
        reduce_bag(sp.identity(3), 0)
    with pytest.raises(DataError, match=r'has shape \(1, 4\)'):
        reduce_bag(sp.csr_matrix((1, 4)))


def test_separators():
    assert split_tags(' Action | Sci-Fi ||', '|') == ['Action', 'Sci-Fi']
    assert split_tags('New York', None) == ['New York'] and split_tags(' ', None) == []
