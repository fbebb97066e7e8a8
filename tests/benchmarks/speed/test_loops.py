import json
import math
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from benchmarks.speed import loops
from genrec_pyg.datasets import load_dataset
from genrec_pyg.graph import split_edges


class PlainLoops:
    """What the released implementation is asked for, written as plain loops over the same
    interactions.
    """

    def __init__(self, root):
        data = load_dataset('demo', str(root))
        self.num_users, self.num_items = data['user'].num_nodes, data['item'].num_nodes
        self.train = split_edges(data, 'train').t().tolist()
        self.held_out = {}
        for user, item in split_edges(data, 'test').t().tolist():
            self.held_out.setdefault(user, []).append(item)

    def draw_negatives(self):
        known, drawn = set(map(tuple, self.train)), []
        for user, _ in self.train:
            item = np.random.randint(self.num_items)
            while (user, item) in known:
                item = np.random.randint(self.num_items)
            drawn.append(item)
        rows, columns = np.array(self.train).T
        return rows, columns, np.array(drawn)

    def measure_lists(self, user, item):
        sums = {'recall@20': 0.0, 'ndcg@20': 0.0, 'precision@20': 0.0}
        for row, listed in zip(user.tolist(), item.tolist()):
            wanted = self.held_out[row]
            gains = [1 / math.log2(listed.index(name) + 2) for name in wanted if name in listed]
            sums['recall@20'] += len(gains) / len(wanted)
            sums['precision@20'] += len(gains) / len(listed)
            sums['ndcg@20'] += sum(gains) / sum(
                1 / math.log2(place + 2) for place in range(min(len(wanted), len(listed)))
            )
        return {name: value / len(user) for name, value in sums.items()}

    def rank(self, users, items):
        score = users @ items.t()
        for user, item in self.train:
            score[user, item] = -torch.inf
        user = np.array(sorted(self.held_out))
        return self.measure_lists(user, score[user].topk(20).indices.numpy())


class NoNegatives(PlainLoops):
    def draw_negatives(self):
        rows, columns, _ = super().draw_negatives()
        return rows, columns, columns


class WrongRecall(PlainLoops):
    def rank(self, users, items):
        return {**super().rank(users, items), 'recall@20': 0.5}


@pytest.mark.parametrize(
    'system, message', [(NoNegatives, 'disagree: negatives'), (WrongRecall, 'disagree: recall@20')]
)
def test_disagreement_is_found_before_anything_is_timed(system, message, tmp_path):
    with pytest.raises(AssertionError, match=message):
        loops.parts(system(tmp_path), tmp_path, 'demo')


def test_report(tmp_path, monkeypatch):
    @contextmanager
    def system(args):
        yield PlainLoops(tmp_path)

    monkeypatch.setattr(loops, 'released_system', system)
    (tmp_path / 'demo').mkdir()
    stem = tmp_path / 'loops-demo'
    assert (
        loops.main(
            [
                '--root',
                str(tmp_path),
                '--dataset',
                'demo',
                '--released',
                str(tmp_path),
                '--repeats',
                '1',
                '--output',
                str(stem),
            ]
        )
        == 0
    )
    document = json.loads(stem.with_suffix('.json').read_text())
    assert len(document['parts']) == 3
    assert all(
        sides[loops.OURS]['times_ours'] == 1 and sides[loops.RELEASED]['median'] > 0
        for sides in document['parts'].values()
    )
    assert 'times faster' in stem.with_suffix('.md').read_text()


def test_bad_flags(tmp_path, capsys):
    with pytest.raises(SystemExit):
        loops.main(['--root', str(tmp_path), '--released', str(tmp_path / 'absent')])
    assert 'absent is not a folder' in capsys.readouterr().err
