import importlib.util
import sys

import pytest
import torch

from genrec_pyg.datasets import demo_graph
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import EASE, GenRec, Recommender
from genrec_pyg.ops import Adjacency, topk_excluding
from genrec_pyg.recommend import main, top_items
from genrec_pyg.retrieval import ApproximateIndex, ExactIndex, make_search, retrieve
from genrec_pyg.train import main as train

needs_faiss = pytest.mark.skipif(
    importlib.util.find_spec('faiss') is None,
    reason='THE APPROXIMATE INDEX IS NOT TESTED: pip install faiss-cpu',
)


def clustered(num_items=3000, num_users=200, channels=10, interests=None):
    """Items around 30 centers and users near them, as trained embeddings lie; every user knows some
    items, user 0 most.
    """
    generator = torch.Generator().manual_seed(0)
    center = torch.randn(30, channels, generator=generator)
    item = center[torch.randint(30, (num_items,), generator=generator)]
    item = item + 0.3 * torch.randn(num_items, channels, generator=generator)
    shape = (num_users,) if interests is None else (num_users, interests)
    user = center[torch.randint(30, shape, generator=generator)]
    user = user + 0.3 * torch.randn(*shape, channels, generator=generator)
    degree = torch.randint(0, 40, (num_users,), generator=generator)
    degree[0], degree[1] = num_items - 3, 0
    col = torch.cat([torch.randperm(num_items, generator=generator)[:n] for n in degree])
    known = Adjacency.from_edge_index(
        torch.stack([torch.arange(num_users).repeat_interleave(degree), col]),
        size=(num_users, num_items),
    )
    return user, item, known


def plain(user, item, k, known):
    """Lists by a loop over users."""
    lists = []
    for row in range(user.size(0)):
        scores = (user[row] @ item.t()) if user.dim() == 2 else (user[row] @ item.t()).amax(dim=0)
        excluded = set(known.col[known.rowptr[row] : known.rowptr[row + 1]].tolist())
        order = sorted(
            (i for i in range(item.size(0)) if i not in excluded),
            key=lambda i: (-float(scores[i]), i),
        )
        lists.append(order[:k] + [item.size(0)] * max(0, k - len(order)))
    return torch.tensor(lists)


@pytest.mark.parametrize('interests', [None, 3])
@pytest.mark.parametrize('block_size', [7, 1024])
def test_exact_search_equals_a_loop(interests, block_size):
    user, item, known = clustered(num_items=60, num_users=20, interests=interests)
    known = Adjacency.from_edge_index(
        torch.stack([torch.arange(20).repeat(2), torch.arange(40) % 60]), size=(20, 60)
    )
    user, item = user.double(), item.double()
    score, found = ExactIndex(item, block_size).search(user, 59, known)
    assert torch.equal(found, plain(user, item, 59, known))
    assert torch.equal(found == 60, score == -torch.inf) and bool((found[:, -1] == 60).all())
    assert torch.equal(ExactIndex(item).search(user[:0], 5)[1], torch.empty(0, 5, dtype=torch.long))


def test_equal_scores_rank_by_lower_item_for_interests_too():
    user, item = torch.ones(2, 3, 1), torch.ones(5, 1)
    assert ExactIndex(item).search(user, 4)[1].tolist() == [[0, 1, 2, 3]] * 2


@needs_faiss
@pytest.mark.parametrize('interests', [None, 2])
@pytest.mark.parametrize('num_cells', [None, 40])
def test_approximate_lists_are_as_long_as_exact_ones_and_nearly_equal(interests, num_cells):
    user, item, known = clustered(interests=interests)
    expected_score, expected = ExactIndex(item).search(user, 20, known)
    score, found = ApproximateIndex(item, num_cells, num_probes=10).search(user, 20, known)
    torch.testing.assert_close((found == 3000).sum(dim=1), (expected == 3000).sum(dim=1))
    assert (found[0] < 3000).sum() == 3 and torch.equal(found[0], expected[0])
    for row in range(user.size(0)):
        listed = found[row][found[row] < 3000].tolist()
        assert len(set(listed)) == len(listed)
        assert not set(listed) & set(known.col[known.rowptr[row] : known.rowptr[row + 1]].tolist())
    recall = torch.stack([torch.isin(a, b).float().mean() for a, b in zip(expected, found)]).mean()
    assert recall > (0.999 if num_cells is None else 0.95)
    # scores are inner products of the listed items, not of their codes
    exact = (
        item[found.clamp(max=2999)] @ (user if interests else user.unsqueeze(1)).transpose(1, 2)
    ).amax(dim=2)
    torch.testing.assert_close(score[1:], exact[1:])
    assert bool((score[:, 1:] <= score[:, :-1]).all())


@needs_faiss
def test_cells_that_hold_too_few_items_do_not_shorten_lists():
    user, item, known = clustered(num_items=600)
    found = ApproximateIndex(item, num_cells=100, num_probes=1, oversample=1).search(
        user, 50, known
    )[1]
    assert torch.equal((found < 600).sum(dim=1), (600 - known.rowptr.diff().long()).clamp(max=50))


@needs_faiss
def test_edges_of_the_approximate_search():
    user, item, known = clustered(num_items=300, num_users=5)
    index = ApproximateIndex(item)
    assert index.search(user, 0)[1].shape == (5, 0) and index.search(user[:0], 3)[1].shape == (0, 3)
    assert torch.equal(
        index.search(user, 400, known)[1], ExactIndex(item).search(user, 400, known)[1]
    )
    assert torch.equal(index.search(user, 5)[1], ExactIndex(item).search(user, 5)[1])
    for arguments, name in (
        (dict(num_probes=0), 'num_probes'),
        (dict(oversample=0), 'oversample'),
        (dict(num_cells=301), 'num_cells'),
        (dict(num_cells=0), 'num_cells'),
    ):
        with pytest.raises(ConfigError, match=f'{name}: got'):
            ApproximateIndex(item, **arguments)
    with pytest.raises(ConfigError, match='k: got -1'):
        index.search(user, -1)


def test_without_faiss_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'faiss', None)
    with pytest.raises(
        ConfigError, match=r"index: got 'approximate', which needs the package faiss \(pip install"
    ):
        ApproximateIndex(torch.randn(300, 4))


class Bilinear(Recommender):
    """Embeddings whose scores are more than inner products."""

    def embed(self):
        return torch.ones(self.num_users, 2), torch.ones(self.num_items, 2)

    def score(self, user):
        return torch.zeros(user.numel(), self.num_items)


def test_only_inner_products_are_indexed(demo_data):
    assert not Bilinear(demo_data).has_embeddings and not EASE(demo_data).has_embeddings
    for model in (Bilinear(demo_data), EASE(demo_data)):
        with pytest.raises(
            ConfigError,
            match=f"index: got 'approximate' for {type(model).__name__}, .*accepted is 'exact'",
        ):
            make_search(model, 'approximate')
    with pytest.raises(ConfigError, match="index: got 'hnsw', accepted are 'exact', 'approximate'"):
        make_search(EASE(demo_data), 'hnsw')
    with pytest.raises(ConfigError, match='batch_size: got 0'):
        next(retrieve(make_search(EASE(demo_data)), torch.arange(3), 5, None, 0))


@needs_faiss
def test_both_indices_recommend_the_same_on_a_small_catalog():
    data = demo_graph()
    model = GenRec(data, hidden_channels=8, denoiser={'rank': 6}, debias={'clusters': 2})
    model.start_epoch(0)
    lists = [
        top_items(model, data, torch.arange(50), k=10, index=index)
        for index in ('exact', 'approximate')
    ]
    assert all(lists[0][name] == lists[1][name] for name in ('user', 'item', 'rank'))
    assert lists[0]['score'] == pytest.approx(lists[1]['score'], rel=1e-4, abs=1e-5)


def test_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train(['--model', 'EASE', '--output', 'run', '--references', 'false']) == 0
    assert main(['run', '--users', '3', '--index', 'exact', '--output', 'list.csv']) == 0
    assert main(['run', '--users', '3', '--index', 'approximate']) == 2
    assert "index: got 'approximate' for EASE" in capsys.readouterr().err
    assert main(['run', '--users', '3', '--index', 'hnsw']) == 2


@pytest.mark.parametrize('index', ['exact', 'approximate'])
def test_sparse_scores_take_part_in_both_searches(demo_data, index):
    if index == 'approximate':
        pytest.importorskip(
            'faiss', reason='THE APPROXIMATE INDEX IS NOT TESTED: pip install faiss-cpu'
        )
    model = GenRec(demo_data, hidden_channels=8, interest={'rank': 16})
    model.choose(demo_data)
    model.eval()
    assert model.has_sparse_scores
    user = torch.arange(20)
    known = Adjacency.from_edge_index(
        model.graph.edge_index, size=(model.num_users, model.num_items)
    )
    rows = Adjacency(*known.select_rows(user), None, (20, model.num_items))
    with torch.no_grad():
        score, item = make_search(model, index)(user, 10, rows)
        expected = topk_excluding(model.score(user), 10, rows.rowptr, rows.col)
    assert torch.equal(item, expected[1]) and torch.allclose(score, expected[0], atol=1e-4)
