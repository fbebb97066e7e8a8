"""Folders of runs with made-up values of users."""

import json

import numpy as np
import yaml

from genrec_pyg.evaluation import PerUser, write_per_user

USERS, PAIRS = 40, 80


def write_run(folder, model='LightGCN', seed=0, level=0.5, split='test', origin=None, **settings):
    """A run whose users find about the share ``level`` of their two items."""
    generator = np.random.default_rng([seed, int(100 * level)])
    user = np.repeat(np.arange(USERS), 2)
    rank = np.where(generator.random(PAIRS) < level, generator.integers(1, 21, PAIRS), 0)
    recall = ((rank > 0).reshape(-1, 2)).mean(axis=1)
    users = {
        'user': np.arange(USERS),
        'id': np.array([f'u{n}' for n in range(USERS)], dtype=object),
        'interactions': np.arange(USERS) % 9,
        'held_out': np.full(USERS, 2),
        'recall@20': recall,
        'ndcg@20': recall / 2,
    }
    pairs = {
        'user': user,
        'item': np.arange(PAIRS) % 30,
        'popularity': np.arange(PAIRS) % 30,
        'rank': rank,
    }
    values = PerUser(
        users,
        pairs,
        {
            'training': 'a' * 64,
            'held_out': 'b' * 64,
            'split': split,
            'protocol': 'validation',
            'k': 20,
            'model': model,
            **(origin or {}),
        },
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_per_user(folder, values)
    (folder / 'config.yaml').write_text(
        yaml.safe_dump(
            {
                'dataset': 'demo',
                'model': model,
                'seed': seed,
                'output': None,
                'trainer': {'lr': 0.001},
                'hparams': settings,
            }
        )
    )
    (folder / 'metrics.json').write_text(
        json.dumps({'test': {'coverage@20': level, 'popularity@20': 30.0}})
    )
    return str(folder)
