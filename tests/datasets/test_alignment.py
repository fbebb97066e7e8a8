import pytest
import torch
from helpers.grouped_shop import shop

from genrec_pyg.datasets import load_dataset
from genrec_pyg.datasets.alignment import SHIFTS, measure_alignment


@pytest.mark.parametrize('rolled', SHIFTS)
def test_displaced_rows_are_found(rolled):
    found = measure_alignment(shop(rolled), 'text')
    assert found.peak == rolled and found.misplaced == (rolled != 0)
    assert found.found == (rolled == 0)


def test_rows_of_nobody_are_no_signal():
    for seed in range(20):
        data = shop(seed=seed)
        data['text'].x = data['text'].x[torch.randperm(240)]
        found = measure_alignment(data, 'text', seed)
        assert not found.misplaced and not found.found


def test_lift_by_hand():
    """Against all pairs."""
    data = shop(users=60)
    found = measure_alignment(data, 'text')
    user, item = data['user', 'interacts', 'item'].edge_index
    # A user has at most six items here, so that pairs at a distance of three are not all.
    assert 0 < found.pairs <= 60 * 12
    x = data['text'].x
    x = torch.nn.functional.normalize((x - x.mean(dim=0)) / x.std(dim=0))
    same = torch.cat([torch.combinations(item[user == one]) for one in range(60)])
    alike = (x[same[:, 0]] * x[same[:, 1]]).sum(dim=1).mean() - (x[item] @ x[item].T).mean()
    assert found.lift[2] == pytest.approx(float(alike), abs=0.05)


def test_missing_sparse_and_few_rows():
    data = shop(rolled=1)
    node = torch.arange(240)[torch.arange(240) % 7 != 3]  # items without features have no row
    data['text'].x = data['text'].x[node].to_sparse_csr()
    data['item', 'has', 'text'].edge_index = torch.stack([node, torch.arange(node.numel())])
    assert measure_alignment(data, 'text').pairs > 100
    data['item', 'has', 'text'].edge_index = torch.stack([node[:20], torch.arange(20)])
    assert measure_alignment(data, 'text') is None


@pytest.mark.parametrize(
    'name, modalities',
    [('tiktok', ['image', 'audio']), ('lfm2k', ['text=all-MiniLM-L6-v2', 'audio=vggish'])],
)
def test_public_features_are_those_of_their_items(shared_data, name, modalities):
    data = load_dataset(name, shared_data, modalities, check='off')
    for modality in (entry.partition('=')[0] for entry in modalities):
        found = measure_alignment(data, modality)
        assert found.peak == 0 and found.found, (modality, found)
        data[modality].x = data[modality].x.roll(1, dims=0)
        assert measure_alignment(data, modality).misplaced, modality
