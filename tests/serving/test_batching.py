"""Requests that wait at the same time are made together, and no more than are accepted wait."""

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest

from genrec_pyg.serving.batching import Batcher, OverloadedError
from genrec_pyg.serving.limits import Limits
from genrec_pyg.serving.ranking import Query

NOBODY = np.empty(0, dtype=np.int64)


def engine(made, fail=False):
    def lists(queries):
        made.append([query.user for query in queries])
        if fail:
            raise ValueError('damaged')
        return [f'list of {query.user}' for query in queries]

    return SimpleNamespace(lists=lists)


def queries(*users):
    return [Query(5, NOBODY, user=user) for user in users]


def test_what_waits_is_a_batch_and_every_request_gets_its_own():
    made, sizes = [], []
    one = engine(made)
    batcher = Batcher(Limits(batch=3), sizes.append)

    async def run():
        return await asyncio.gather(
            batcher.lists(one, queries(1)),
            batcher.lists(one, queries(2, 3)),
            batcher.lists(one, queries(4)),
        )

    assert asyncio.run(run()) == [['list of 1'], ['list of 2', 'list of 3'], ['list of 4']]
    assert made == [[1, 2, 3], [4]] and sizes == [3, 1] and batcher.waiting == 0


def test_long_requests_take_turns_with_others():
    made = []
    one, batcher = engine(made), Batcher(Limits(batch=2))

    async def run():
        return await asyncio.gather(
            batcher.lists(one, queries(1, 2, 3, 4, 5)), batcher.lists(one, queries(6))
        )

    found = asyncio.run(run())
    assert found[0] == [f'list of {user}' for user in (1, 2, 3, 4, 5)] and found[1] == ['list of 6']
    assert made == [[1, 2], [6, 3, 4], [5]] or made == [[1, 2], [6], [3, 4], [5]]


def test_bundles_are_not_mixed():
    old, new = [], []
    first, second, batcher = engine(old), engine(new), Batcher(Limits())

    async def run():
        await asyncio.gather(batcher.lists(first, queries(1)), batcher.lists(second, queries(2)))

    asyncio.run(run())
    assert old == [[1]] and new == [[2]]


def test_too_many_are_refused_and_an_error_reaches_who_asked():
    batcher = Batcher(Limits(waiting=3))

    async def run():
        return await asyncio.gather(
            batcher.lists(engine([]), queries(1, 2)),
            batcher.lists(engine([]), queries(3, 4)),
            batcher.lists(engine([], fail=True), queries(5)),
            return_exceptions=True,
        )

    good, refused, failed = asyncio.run(run())
    assert good == ['list of 1', 'list of 2'] and isinstance(refused, OverloadedError)
    assert isinstance(failed, ValueError) and batcher.waiting == 0


def test_a_client_that_has_gone_costs_nothing():
    made = []
    one, batcher = engine(made), Batcher(Limits())

    async def run():
        gone = asyncio.create_task(batcher.lists(one, queries(1)))
        await asyncio.sleep(0)
        gone.cancel()
        stays = await batcher.lists(one, queries(2))
        with pytest.raises(asyncio.CancelledError):
            await gone
        return stays

    assert asyncio.run(run()) == ['list of 2']
    assert [user for batch in made for user in batch][-1] == 2 and batcher.waiting == 0
