r"""The service as an ASGI application."""

# Annotations are read by FastAPI, some of them made per application: they are no strings here.
import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Query, Response

from genrec_pyg import __version__
from genrec_pyg.serving import schemas
from genrec_pyg.serving.answers import ERRORS, add_errors, json_answer, list_answer
from genrec_pyg.serving.batching import Batcher
from genrec_pyg.serving.gate import Gate
from genrec_pyg.serving.limits import Limits
from genrec_pyg.serving.metrics import CONTENT_TYPE, Metrics
from genrec_pyg.serving.ranking import Query as ListQuery
from genrec_pyg.serving.served import Current, RequestError, Served

_NOTHING = np.empty(0, dtype=np.int64)


def make_app(
    current: Current,
    metrics: Metrics,
    limits: Limits,
    token: str | None = None,
    poll: float = 1.0,
    asked: asyncio.Event | None = None,
) -> Gate:
    r"""The application.

    Args:
        current: Bundle that is served.
        metrics: Where requests are counted.
        limits: What is accepted.
        token: Bearer token, see :class:`~genrec_pyg.serving.gate.Gate`.
        poll: Seconds between two looks for another bundle.
        asked: Event that asks for a look at once.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(current.watch(poll, asked or asyncio.Event()))
        try:
            yield
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    app = FastAPI(
        title='genrec_pyg',
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        responses=ERRORS,
        description='Lists from a bundle, see docs/guides/serving.md.',
    )
    add_errors(app)
    _add_lists(app, current, Batcher(limits, metrics.batch), limits)
    _add_rank(app, current, limits)
    _add_state(app, current, metrics)
    paths = [route.path for route in app.routes]
    if token is not None:
        _describe_token(app)
    return Gate(app, metrics, paths, limits.body, token)


def _add_lists(app: FastAPI, current: Current, batcher: Batcher, limits: Limits) -> None:
    requests = schemas.make_requests(limits)
    one_id, one_k = Annotated[str, Query(max_length=1000)], Annotated[int, Query(ge=1, le=limits.k)]

    async def recommended(
        served: Served,
        users: Sequence[Any],
        k: int,
        exclude: str = 'known',
        candidates: Any = None,
        block: Sequence[Any] = (),
    ) -> Response:
        blocked, allowed = _restriction(served, candidates, block)
        numbers = [served.user(raw) for raw in users]
        known = [
            served.engine.known.row(number) if exclude == 'known' else _NOTHING
            for number in numbers
        ]
        queries = [
            ListQuery(
                k, np.union1d(own, blocked) if blocked.size else own, user=number, allowed=allowed
            )
            for number, own in zip(numbers, known)
        ]
        found = await batcher.lists(served.engine, queries)
        return list_answer(served, [{'user': served.users[number]} for number in numbers], found)

    @app.get('/recommend', response_model=schemas.Lists, summary='A list for one user')
    async def recommend_one(user: one_id, k: one_k = 20) -> Response:
        return await recommended(current.served, [user], k)

    @app.post('/recommend', response_model=schemas.Lists, summary='Lists for users')
    async def recommend(body: requests.recommend) -> Response:
        return await recommended(
            current.served, body.users, body.k, body.exclude, body.candidates, body.block
        )

    @app.post('/fold-in', response_model=schemas.Lists, summary='Lists from histories')
    async def fold_in(body: requests.fold_in) -> Response:
        served = current.served
        served.require('fold_in')
        blocked, allowed = _restriction(served, body.candidates, body.block)
        histories = [served.history(raws) for raws in body.histories]
        for place, (history, _) in enumerate(histories):
            if history.size == 0:
                raise RequestError(
                    404,
                    'unknown_item',
                    f'histories: number {place} names no item that the model knows',
                )
        queries = [
            ListQuery(body.k, np.union1d(history, blocked), history=history, allowed=allowed)
            for history, _ in histories
        ]
        found = await batcher.lists(served.engine, queries)
        return list_answer(served, [{'unknown': unknown} for _, unknown in histories], found)

    def similar_to(served: Served, items: Sequence[Any], k: int) -> Response:
        served.require('similar')
        numbers = [served.item(raw) for raw in items]
        found = [served.engine.similar(number, k) for number in numbers]
        return list_answer(served, [{'item': served.items[number]} for number in numbers], found)

    @app.get('/similar', response_model=schemas.Lists, summary='Items like one')
    async def similar_one(item: one_id, k: one_k = 20) -> Response:
        return similar_to(current.served, [item], k)

    @app.post('/similar', response_model=schemas.Lists, summary='Items like others')
    async def similar(body: requests.similar) -> Response:
        return similar_to(current.served, body.items, body.k)


def _add_rank(app: FastAPI, current: Current, limits: Limits) -> None:
    requests = schemas.make_requests(limits)

    @app.post(
        '/rank', response_model=schemas.Lists, summary='New items in order, by their features'
    )
    async def rank(body: requests.rank) -> Response:
        served = current.served
        served.require('rank')
        users, features = [served.user(raw) for raw in body.users], _features(served, body.items)
        names, lists = [entry.item for entry in body.items], []
        for number, ranked in zip(users, served.engine.rank(users, features)):
            items = [
                {'item': names[place], 'score': score}
                for place, score in zip(ranked.item.tolist(), ranked.score.tolist())
            ]
            lists.append({'user': served.users[number], 'items': items})
        return json_answer({'bundle': served.name, 'lists': lists})


def _add_state(app: FastAPI, current: Current, metrics: Metrics) -> None:
    @app.get('/health', response_model=schemas.Health, summary='State of the service')
    async def health() -> Response:
        served = current.served
        return json_answer(
            {
                'status': 'ok',
                'bundle': served.name,
                'model': served.manifest['model'],
                'dataset': served.manifest['dataset'],
                'users': len(served.users),
                'items': len(served.items),
                'unable': dict(served.engine.unable),
                'features': served.engine.widths,
                'reload_error': current.error,
            }
        )

    @app.get(
        '/metrics',
        summary='Figures for Prometheus',
        response_class=Response,
        responses={
            200: {
                'content': {'text/plain': {'schema': {'type': 'string'}}},
                'description': 'text format',
            }
        },
    )
    async def figures() -> Response:
        served = current.served
        metrics.bundle(served.name, served.manifest['model'], served.manifest['dataset'])
        return Response(metrics.text(), headers={'content-type': CONTENT_TYPE})


def _describe_token(app: FastAPI) -> None:
    plain = app.openapi

    def described() -> dict[str, Any]:
        document = plain()
        document.setdefault('components', {})['securitySchemes'] = {
            'token': {'type': 'http', 'scheme': 'bearer'}
        }
        document['security'] = [{'token': []}]
        return document

    app.openapi = described


def _restriction(
    served: Served, candidates: Any, block: Sequence[Any]
) -> tuple[np.ndarray, np.ndarray | None]:
    blocked = served.numbers(block, 'block') if block else _NOTHING
    return blocked, None if candidates is None else served.numbers(candidates, 'candidates')


def _features(served: Served, items: Sequence[Any]) -> dict[str, np.ndarray]:
    widths = served.engine.widths
    out = {name: np.full((len(items), width), np.nan) for name, width in widths.items()}
    for row, entry in enumerate(items):
        for name, values in entry.features.items():
            if len(values) != widths.get(name):
                accepted = ', '.join(
                    f'{width} numbers of {known}' for known, width in widths.items()
                )
                raise RequestError(
                    422,
                    'invalid',
                    f'items.{row}.features: got {len(values)} numbers of {name[:80]!r}, '
                    f'accepted are {accepted}',
                )
            out[name][row] = values
    with np.errstate(over='ignore'):
        if any(not np.isfinite(np.square(x[~np.isnan(x)])).all() for x in out.values()):
            raise RequestError(
                422, 'invalid', 'items: features are too large, accepted are numbers up to 1e150'
            )
    return out
