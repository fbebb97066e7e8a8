r"""Checks that every model must pass, for models of this package and of others."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import Recommender

_NUM_USERS, _NUM_ITEMS, _NUM_TRAIN = 8, 7, 10


def toy_graph(
    num_modalities: int = 2, held_out: Tensor | None = None, partial: bool = False
) -> HeteroData:
    r"""Eight users and seven items, of which user 7 and item 6 have no training edge.

    Args:
        num_modalities: How many of image, text and audio there are, with five features each.
        held_out: Edges ``[2, 3]``, the first of validation and the others of test.
        partial: Whether item 6 has no modality.
    """
    generator = torch.Generator().manual_seed(0)
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = _NUM_USERS, _NUM_ITEMS
    train = torch.tensor([[0, 0, 1, 1, 2, 3, 4, 4, 5, 6], [0, 1, 1, 2, 3, 4, 0, 2, 5, 5]])
    held_out = torch.tensor([[0, 1, 2], [2, 3, 4]]) if held_out is None else held_out
    store = data['user', 'interacts', 'item']
    store.edge_index = torch.cat([train, held_out], dim=1)
    number = torch.arange(store.edge_index.size(1))
    store.train_mask = number < _NUM_TRAIN
    store.val_mask = number == _NUM_TRAIN
    store.test_mask = number > _NUM_TRAIN
    for name in ('image', 'text', 'audio')[:num_modalities]:
        count = _NUM_ITEMS - 1 if partial else _NUM_ITEMS
        data[name].x = torch.randn(count, 5, generator=generator)
        data['item', 'has', name].edge_index = torch.arange(count).expand(2, count).contiguous()
    return data


def check_model(
    model_class: Callable[..., Recommender], needs_modality: bool = False, **arguments: Any
) -> None:
    r"""Checks a model over features and interactions on :func:`toy_graph`; histories need a graph
    with times.

    It must train with any number of modalities to finite scores ``[B, I]`` that repeat, also while
    embeddings are kept; see no held-out interaction; endure items without a modality; give the same
    scores from its saved state; and repeat its training from the same seed.

    Args:
        model_class: Class of the model.
        needs_modality: Whether it must refuse a graph without modalities.
        arguments: Settings of its constructor, best small ones.

    Raises:
        AssertionError: If a check fails; the message names it.
    """
    name = getattr(model_class, '__name__', repr(model_class))

    def expect(holds: bool, what: str) -> None:
        if not holds:
            raise AssertionError(f'{name}: {what}')

    def trained(data: HeteroData) -> Recommender:
        torch.manual_seed(0)
        return _train(model_class(data, **arguments))

    with torch.random.fork_rng():
        if needs_modality:
            expect(
                _refuses(model_class, arguments),
                'takes a graph without modalities, and is to raise ConfigError',
            )
        for number in range(int(needs_modality), 4):
            model = trained(toy_graph(number))
            scores = _scores(model)
            expect(
                scores.shape == (_NUM_USERS, _NUM_ITEMS),
                f'scores have the shape {tuple(scores.shape)}',
            )
            expect(
                bool(torch.isfinite(scores).all()),
                f'scores with {number} modalities are not finite',
            )
            expect(torch.equal(scores, _scores(model)), 'scores of a second call differ')
            with model.cached_embeddings():
                expect(
                    torch.equal(scores, _scores(model)), 'scores differ while embeddings are kept'
                )
        data = toy_graph()
        model = trained(data)
        scores = _scores(model)
        expect(torch.equal(scores, _scores(trained(data))), 'a training from the same seed differs')
        other = toy_graph(held_out=torch.tensor([[7, 3, 5], [6, 0, 1]]))
        expect(
            torch.equal(scores, _scores(trained(other))), 'held-out interactions change the scores'
        )
        torch.manual_seed(1)
        loaded = model_class(data, **arguments)
        loaded.load_state_dict(copy.deepcopy(model.state_dict()))
        expect(torch.equal(scores, _scores(loaded.eval())), 'scores from the saved state differ')
        model = trained(toy_graph(partial=True))
        expect(
            bool(torch.isfinite(_scores(model)).all()),
            'scores are not finite where an item has no modality',
        )
        expect(
            all(bool(torch.isfinite(p).all()) for p in model.parameters()),
            'parameters are not finite where an item has no modality',
        )


def _refuses(model_class: Callable[..., Recommender], arguments: dict[str, Any]) -> bool:
    try:
        model_class(toy_graph(0), **arguments)
    except ConfigError:
        return True
    return False


def _batches(model: Recommender) -> Iterator[Any]:
    while True:
        yield from model.make_loader(4, 'edge')


def _train(model: Recommender, num_steps: int = 3) -> Recommender:
    if not model.trainable:
        return model.eval()
    optimizer = torch.optim.Adam(model.trained_parameters(), lr=1e-2)
    model.train()
    for step, batch in zip(range(num_steps), _batches(model)):
        model.start_epoch(step)
        optimizer.zero_grad()
        sum(model.loss(batch).values()).backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def _scores(model: Recommender) -> Tensor:
    return model.score(torch.arange(_NUM_USERS))
