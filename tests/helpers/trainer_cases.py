"""A small model and graph that the tests of the trainer share."""

import torch

from genrec_pyg.nn.models import GenRec, Recommender
from helpers.toy_graphs import small_genrec

QUIET = dict(progress=False, device='cpu', batch_size=32)


class Factors(Recommender):
    """Matrix factorization with dropout, so that a wrong random state shows."""

    def __init__(self, data):
        super().__init__(data)
        self.users = torch.nn.Parameter(torch.empty(self.num_users, 8))
        self.items = torch.nn.Parameter(torch.empty(self.num_items, 8))
        self.reset_parameters()

    def reset_parameters(self):
        torch.nn.init.normal_(self.users, std=0.1)
        torch.nn.init.normal_(self.items, std=0.1)

    def embed(self):
        return self.users, self.items

    def loss(self, batch):
        users = torch.nn.functional.dropout(self.users, 0.1, self.training)
        margin = (users[batch.user] * (self.items[batch.pos] - self.items[batch.neg])).sum(dim=1)
        return {'bpr': torch.nn.functional.softplus(-margin).mean()}


def build(name, data):
    torch.manual_seed(1)
    return Factors(data) if name == 'factors' else GenRec(data, **small_genrec(name))


def without(data, *splits):
    """The same graph; the interactions of ``splits`` become training ones."""
    data = data.clone()
    store = data['user', 'interacts', 'item']
    for split in splits:
        store.train_mask = store.train_mask | store[f'{split}_mask']
        store[f'{split}_mask'] = torch.zeros_like(store[f'{split}_mask'])
    return data


def comparable(history):
    timed = ('seconds', 'total_seconds', 'interactions_per_second')
    records = [{k: v for k, v in record.items() if k not in timed} for record in history]
    for record in records:
        record['start_epoch'] = {
            k: v for k, v in record['start_epoch'].items() if not k.startswith('seconds')
        }
    return records
