import asyncio
import json
import shutil

import numpy as np
import pytest
import torch

pytest.importorskip('fastapi', reason='NO SERVICE IS TESTED: pip install "genrec_pyg[serve]"')
pytest.importorskip('httpx', reason='NO SERVICE IS TESTED: pip install httpx')

import httpx

from genrec_pyg.recommend import top_items, top_items_of_histories
from genrec_pyg.retrieval.new_items import new_item_embedding
from genrec_pyg.serving.app import make_app
from genrec_pyg.serving.limits import Limits
from genrec_pyg.serving.metrics import Metrics
from genrec_pyg.serving.served import Current, Served


def make(folder, limits=None, **options):
    metrics = Metrics()
    current = Current(folder, Served, metrics.reload)
    return current, make_app(current, metrics, limits or Limits(), **options)


def ask(app, *requests, **options):
    """Answers of requests (method, path, body), all at once."""

    async def run():
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport, base_url='http://test', **options
        ) as client:
            calls = [
                client.request(method, path, **({} if body is None else {'json': body}))
                for method, path, body in requests
            ]
            return await asyncio.gather(*calls)

    return asyncio.run(run())


def one(app, method, path, body=None, **options):
    return ask(app, (method, path, body), **options)[0]


def items(answer):
    return [[entry['item'] for entry in each['items']] for each in answer.json()['lists']]


@pytest.fixture(scope='module')
def app(genrec):
    return make(genrec[1])[1]


def refusal(answer, status, code, message):
    error = answer.json()['error']
    assert answer.status_code == status and error['code'] == code and message in error['message']
    assert answer.headers['content-type'] == 'application/json'


def test_lists_of_many_requests_at_once_are_those_of_recommend(app, genrec, demo_data):
    expected = top_items(genrec[0], demo_data, torch.arange(120), k=7)
    expected = [expected['item'][begin : begin + 7] for begin in range(0, 840, 7)]
    answers = ask(app, *(('GET', f'/recommend?user={user}&k=7', None) for user in range(120)))
    assert [items(answer)[0] for answer in answers] == expected
    answer = one(app, 'POST', '/recommend', {'users': list(range(100)), 'k': 7})
    assert items(answer) == expected[:100] and [
        each['user'] for each in answer.json()['lists']
    ] == list(range(100))


def test_candidates_and_blocked_items(app, genrec, demo_data):
    full = items(one(app, 'GET', '/recommend?user=5&k=80'))[0]
    some, out = full[::3], full[:6]
    answer = one(
        app, 'POST', '/recommend', {'users': ['5'], 'candidates': some, 'block': out, 'k': 80}
    )
    assert items(answer) == [[item for item in some if item not in out]]
    everything = items(one(app, 'POST', '/recommend', {'users': [5], 'exclude': 'none', 'k': 80}))[
        0
    ]
    assert len(everything) == 80 > len(full)


def test_histories(app, genrec, demo_data):
    from genrec_pyg.ops import Adjacency

    history = [3, 8, 11, 40]
    rows = Adjacency.from_edge_index(torch.tensor([[0] * 4, history]), size=(1, 80))
    expected = top_items_of_histories(genrec[0], demo_data, ['x'], rows, k=9)
    answer = one(app, 'POST', '/fold-in', {'histories': [['nobody', 40, '8', 3, 11, 11]], 'k': 9})
    assert items(answer) == [expected['item']] and answer.json()['lists'][0]['unknown'] == [
        'nobody'
    ]
    refusal(
        one(app, 'POST', '/fold-in', {'histories': [[3], ['nobody']]}),
        404,
        'unknown_item',
        'histories: number 1',
    )


def test_new_items_are_ranked_by_their_features(app, genrec, demo_data):
    model = genrec[0]
    with model.cached_embeddings():
        embed, users = new_item_embedding(model), model.embeddings()[0]
    x = {name: torch.randn(5, width) for name, width in embed.widths.items()}
    first = next(iter(x))
    x[first][2] = torch.nan
    scores = users[[4, 9]].double() @ embed(x).double().t()
    entries = [
        {
            'item': f'new-{row}',
            'features': {
                name: rows[row].tolist()
                for name, rows in x.items()
                if not bool(rows[row].isnan().any())
            },
        }
        for row in range(5)
    ]
    answer = one(app, 'POST', '/rank', {'users': [4, 9], 'items': entries})
    assert items(answer) == [
        [f'new-{row}' for row in order] for order in scores.argsort(dim=1, descending=True).tolist()
    ]
    got = [each['score'] for each in answer.json()['lists'][0]['items']]
    assert got == pytest.approx(scores[0].sort(descending=True).values.tolist(), rel=1e-4, abs=1e-5)
    for wrong in ({first: [1.0]}, {'smell': [1.0]}, {first: [1e300] * embed.widths[first]}):
        body = {'users': [4], 'items': [{'item': 1, 'features': wrong}]}
        refusal(one(app, 'POST', '/rank', body), 422, 'invalid', 'accepted')


def test_similar_items(app):
    answer = one(app, 'POST', '/similar', {'items': [4, '7'], 'k': 3})
    assert [each['item'] for each in answer.json()['lists']] == [4, 7] and 4 not in items(answer)[0]
    assert items(one(app, 'GET', '/similar?item=4&k=3')) == items(answer)[:1]


def test_what_a_model_cannot_do_is_said_in_a_sentence(export, demo_data):
    _, folder = export('Popularity', demo_data)
    _, app = make(folder)
    refusal(one(app, 'GET', '/similar?item=4'), 409, 'unsupported', 'resembles no item')
    body = {'users': [1], 'items': [{'item': 1, 'features': {'image': [1.0]}}]}
    refusal(one(app, 'POST', '/rank', body), 409, 'unsupported', 'has no item embeddings')
    assert set(one(app, 'GET', '/health').json()['unable']) == {'similar', 'rank'}


def test_wrong_requests_are_refused_as_json(app):
    refusal(one(app, 'GET', '/recommend?user=nobody'), 404, 'unknown_user', "no user 'nobody'")
    refusal(
        one(app, 'POST', '/recommend', {'users': [1], 'block': ['x' * 500]}),
        404,
        'unknown_item',
        'block: no item',
    )
    refusal(one(app, 'POST', '/recommend', {'users': [1], 'k': 10**6}), 422, 'invalid', 'k: ')
    refusal(one(app, 'POST', '/recommend', {'users': [1], 'amount': 3}), 422, 'invalid', 'amount: ')
    refusal(one(app, 'POST', '/recommend', {'users': [True]}), 422, 'invalid', 'users.0')
    refusal(one(app, 'POST', '/recommend', {'users': []}), 422, 'invalid', 'users: ')
    refusal(one(app, 'GET', '/nowhere'), 404, 'refused', 'Not Found')
    refusal(one(app, 'DELETE', '/recommend'), 405, 'refused', 'Method')


@pytest.mark.parametrize(
    'body',
    [
        b'',
        b'{',
        b'[' * 100_000,
        b'\xff\xfe',
        b'{"users": [' + b'9' * 5000 + b']}',
        b'{"users": ["\\ud800"]}',
        b'{"users": [NaN]}',
    ],
)
def test_bodies_that_are_no_requests(app, body):
    async def run():
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url='http://test'
        ) as client:
            return await client.post(
                '/recommend', content=body, headers={'content-type': 'application/json'}
            )

    answer = asyncio.run(run())
    assert answer.status_code in (400, 404, 422) and answer.json()['error']['message']


def test_bodies_are_limited_whether_or_not_they_say_how_long_they_are(genrec):
    _, app = make(genrec[1], Limits(body=1000))
    long = {'users': ['x' * 900] * 2}
    refusal(one(app, 'POST', '/recommend', long), 413, 'too_large', '1000 bytes')

    async def run():
        async def parts():
            for _ in range(3):
                yield b' ' * 600

        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url='http://test'
        ) as client:
            return await client.post(
                '/recommend', content=parts(), headers={'content-type': 'application/json'}
            )

    refusal(asyncio.run(run()), 413, 'too_large', '1000 bytes')


def test_a_token_is_asked_for(genrec):
    _, app = make(genrec[1], token='s3cret')
    for headers in (
        {},
        {'authorization': 'Bearer wrong'},
        {'authorization': 's3cret'},
        {'authorization': 'Bearer s3cret '},
    ):
        for path in ('/recommend?user=1', '/metrics', '/openapi.json', '/nowhere'):
            answer = one(app, 'GET', path, headers=headers)
            if headers.get('authorization', '').strip() == 'Bearer s3cret':
                continue  # a client may strip its header
            refusal(answer, 401, 'unauthorized', 'Authorization')
    assert one(app, 'GET', '/health').status_code == 200
    assert (
        one(app, 'GET', '/recommend?user=1', headers={'authorization': 'Bearer s3cret'}).status_code
        == 200
    )


def test_more_than_may_wait_is_told_to_come_back(genrec):
    _, app = make(genrec[1], Limits(waiting=20))
    answers = ask(app, *(('POST', '/recommend', {'users': list(range(8))}) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503, 503]
    busy = next(answer for answer in answers if answer.status_code == 503)
    refusal(busy, 503, 'overloaded', 'try again')
    assert busy.headers['retry-after'] == '1'
    assert (
        one(app, 'POST', '/recommend', {'users': list(range(20))}).status_code == 200
    )  # nothing is left waiting


def test_an_error_within_is_told_without_its_text(genrec, monkeypatch, caplog):
    current, app = make(genrec[1])
    monkeypatch.setattr(current.served.engine, 'lists', lambda queries: 1 / 0)
    refusal(one(app, 'GET', '/recommend?user=1'), 500, 'internal', 'log')
    assert 'ZeroDivisionError' in caplog.text


def test_figures_for_prometheus(genrec):
    from prometheus_client.parser import text_string_to_metric_families

    _, app = make(genrec[1])
    ask(
        app,
        *(('GET', f'/recommend?user={user}', None) for user in range(30)),
        ('GET', '/x/y', None),
    )
    answer = one(app, 'GET', '/metrics')
    assert answer.headers['content-type'].startswith('text/plain')
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert samples['genrec_requests_total', '/recommend', '200'] == 30
    assert samples['genrec_requests_total', '404', 'other'] == 1
    assert (
        samples['genrec_request_seconds_count', '/recommend'] == 30
        and samples['genrec_batch_lists_sum',] == 30
    )
    assert samples['genrec_batch_lists_count',] < 30  # they were made together


def test_another_bundle_takes_over_without_a_lost_request(export, demo_data, tmp_path):
    folder = shutil.copytree(export('EASE', demo_data)[1], tmp_path / 'bundle')
    other, damaged = export('ItemKNN', demo_data)[1], tmp_path / 'damaged'
    current, app = make(folder, poll=0.01)
    first = current.served.name

    def put(source):
        for path in sorted(source.iterdir(), key=lambda path: path.name == 'manifest.json'):
            shutil.copy(path, folder / 'new')
            (folder / 'new').rename(folder / path.name)

    async def run():
        transport = httpx.ASGITransport(app=app)
        seen, end = [], asyncio.Event()

        async def load(client):
            while not end.is_set():
                answer = await client.get('/recommend?user=3')
                assert answer.status_code == 200
                seen.append(answer.json()['bundle'])
                await asyncio.sleep(0)

        watching = asyncio.create_task(current.watch(0.01, asyncio.Event()))
        async with httpx.AsyncClient(transport=transport, base_url='http://test') as client:
            clients = [asyncio.create_task(load(client)) for _ in range(4)]
            await asyncio.sleep(0.1)
            put(other)
            while seen[-1] == first:
                await asyncio.sleep(0.01)
            second = seen[-1]
            shutil.copytree(other, damaged)
            manifest = json.loads((damaged / 'manifest.json').read_text())
            (damaged / 'manifest.json').write_text(json.dumps({**manifest, 'version': 2}))
            put(damaged)
            while current.error is None:
                await asyncio.sleep(0.01)
            health = (await client.get('/health')).json()
            assert health['bundle'] == second and 'version is' in health['reload_error']
            end.set()
            await asyncio.gather(*clients)
        watching.cancel()
        return second, set(seen)

    second, seen = asyncio.run(asyncio.wait_for(run(), 60))
    assert second != first and seen == {first, second}


def test_titles_are_part_of_lists(export, demo_data):
    import copy

    data = copy.copy(demo_data)
    data['item'].title = [None, *(f'Title {number}' for number in range(1, 80))]
    _, folder = export('EASE', data)
    _, app = make(folder)
    for entry in one(app, 'GET', '/recommend?user=3&k=80').json()['lists'][0]['items']:
        assert entry['title'] == (f'Title {entry["item"]}' if entry['item'] else None)


def test_the_description_names_every_path_and_answer(app):
    document = one(app, 'GET', '/openapi.json').json()
    assert set(document['paths']) == {
        '/recommend',
        '/similar',
        '/fold-in',
        '/rank',
        '/health',
        '/metrics',
    }
    assert all(
        {'200', '422', '404', '503'} <= set(operation['responses'])
        for methods in document['paths'].values()
        for operation in methods.values()
    )
    assert np.all(
        [
            operation.get('summary')
            for methods in document['paths'].values()
            for operation in methods.values()
        ]
    )
