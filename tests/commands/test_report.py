"""The page as a person sees it, in a real browser without a window."""

import base64
import io
import json
import os
import shutil
from pathlib import Path

import pytest
from helpers.hostile_runs import HOSTILE, make_runs

from genrec_pyg.report import main
from genrec_pyg.train import main as train


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    return make_runs(tmp_path_factory.mktemp('report'))


@pytest.fixture(scope='module')
def page_file(runs):
    assert main([*map(str, runs), '--num_users', '5', '--device', 'cpu']) == 0
    return runs[0] / 'report.html'


def executable():
    """Path of a Chromium, or :obj:`None` for that of playwright."""
    names = ('chromium-headless-shell', 'chromium', 'chromium-browser', 'google-chrome')
    return os.environ.get('GENREC_CHROMIUM') or next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope='module')
def browser():
    sync_api = pytest.importorskip(
        'playwright.sync_api',
        reason='PLAYWRIGHT IS NOT INSTALLED: the page is not opened in a browser',
    )
    with sync_api.sync_playwright() as playwright:
        try:
            opened = playwright.chromium.launch(executable_path=executable(), args=['--no-sandbox'])
        except sync_api.Error as error:
            pytest.skip(
                f'NO CHROMIUM: the page is not opened in a browser ({str(error).splitlines()[0]})'
            )
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser, page_file):
    pages = []

    def open_page(width=1280, height=900, scheme='light', file=page_file):
        page = browser.new_page(viewport={'width': width, 'height': height}, color_scheme=scheme)
        page.problems = []
        page.on('console', lambda message: page.problems.append(message.text))
        page.on('pageerror', lambda error: page.problems.append(str(error)))
        page.on(
            'request',
            lambda request: (
                request.url.startswith(('data:', 'file:')) or page.problems.append(request.url)
            ),
        )
        page.goto(file.as_uri())
        page.wait_for_selector('body[data-ready]')
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        assert page.problems == [] and page.evaluate('window.hacked') is None
        page.close()


def data_of(page_file):
    text = page_file.read_text('utf-8')
    return json.loads(text.partition('id="data">')[2].partition('</script>')[0])


@pytest.mark.slow
def test_sections_are_there_and_linked(open_page, page_file):
    page = open_page()
    names = ['table', 'curves', 'groups', 'spread', 'flips', 'users', 'maps']
    assert [section.get_attribute('id') for section in page.query_selector_all('section')] == names
    assert [link.get_attribute('href') for link in page.query_selector_all('nav a')] == [
        f'#{name}' for name in names
    ]
    rows = page.locator('#table table').first.locator('tbody tr')
    assert (
        rows.count() == len(data_of(page_file)['table']['rows'])
        and 'EASE' in rows.last.inner_text()
    )
    assert 'undone' in page.inner_text('.flip-summary')


@pytest.mark.slow
def test_figures_of_one_run_are_numbers_and_of_several_bars(runs, open_page, tmp_path):
    several = open_page()
    assert several.locator('#spread table').count() == 0
    assert several.locator('#spread figure').count() >= 4
    alone = tmp_path / 'alone.html'
    flags = ['--output', str(alone), '--num_users', '1', '--device', 'cpu']
    assert main([str(runs[0]), *flags]) == 0
    rows = open_page(file=alone).locator('#spread tr')
    figures = json.loads((runs[0] / 'metrics.json').read_text())['further']['test']
    cells = dict(row.split('\t') for row in rows.all_inner_texts())
    assert float(cells['gini@20']) == pytest.approx(figures['gini@20'], abs=1e-3)


@pytest.mark.slow
def test_hostile_titles_are_shown_as_text(open_page, page_file):
    page = open_page()
    shown = ''
    for _ in range(5):
        shown += page.text_content('#person')
        page.click('#next')
        for node in page.query_selector_all('#maps svg *[data-kind]')[:5]:
            node.dispatch_event('pointermove', {'clientX': 50, 'clientY': 50})
            shown += page.text_content('#tip')
    assert all(text.replace('\x00', '') in shown.replace('\x00', '') for text in HOSTILE)
    assert page.locator('script').count() == 2 and page.locator('img[src=x]').count() == 0


@pytest.mark.slow
def test_users_are_browsed_through(open_page, page_file):
    data, page = data_of(page_file), open_page()
    first = page.text_content('#person')
    page.click('#next')
    assert page.text_content('#person') != first and page.input_value('#user') == '1'
    page.click('#previous')
    page.click('#previous')
    assert page.input_value('#user') == str(len(data['people']) - 1)
    page.select_option('#user', '2')
    person = data['people'][2]
    assert page.locator('#person h3').first.inner_text() == f'History ({person["history_size"]})'
    hits = sum(row[2] for rows in person['lists'].values() for row in rows)
    assert page.locator('#person .hit').count() == hits
    assert page.locator('#person ol').count() == 2 and page.locator('#person ol').first.locator(
        'li'
    ).count() == len(person['lists']['GenRec'])
    sizes = page.evaluate(
        "Array.from(document.querySelectorAll('#person img')).map(i => i.complete && "
        'i.naturalWidth)'
    )
    assert sizes and all(size == 8 for size in sizes)
    page.fill('#search', person['id'].replace('\x00', ''))
    page.fill('#search', 'nobody')
    page.press('#search', 'Enter')
    assert page.input_value('#user') == '2'


@pytest.mark.slow
def test_maps_change_with_the_modality_and_the_user(open_page, page_file):
    data, page = data_of(page_file), open_page()
    name = data['maps'][-1]['name']
    before = page.inner_html('#map')
    page.click(f'button[data-map={name}]')
    assert page.inner_html('#map') != before
    assert page.get_attribute(f'button[data-map={name}]', 'aria-pressed') == 'true'
    person = data['people'][0]
    listed = {row[0] for rows in person['lists'].values() for row in rows}
    history = (set(person['history']) - listed) & {point[0] for point in data['maps'][-1]['points']}
    assert page.locator('#map [data-kind=history]').count() == len(history)
    before = page.inner_html('#map')
    page.click('#next')
    assert page.inner_html('#map') != before


@pytest.mark.slow
@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_it_fits_a_phone_in_light_and_dark(open_page, scheme):
    page = open_page(360, 740, scheme)
    assert page.evaluate('document.documentElement.scrollWidth') <= 360
    back, text = page.evaluate(
        '[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]'
    )
    light = [sum(map(int, color[4:-1].split(','))) for color in (back, text)]
    assert (light[0] > light[1] + 400) if scheme == 'light' else (light[1] > light[0] + 400)
    small = page.evaluate(
        "Array.from(document.querySelectorAll('button, select')).filter(n => n.offsetHeight < "
        '32).length'
    )
    assert small == 0


def test_page_and_pictures_are_written(runs, tmp_path, capsys):
    pytest.importorskip('matplotlib')
    output = tmp_path / 'a' / 'page.html'
    flags = [
        '--output',
        str(output),
        '--figures',
        str(tmp_path / 'figures'),
        '--num_users',
        '0',
        '--device',
        'cpu',
    ]
    assert main([str(runs[1]), *flags]) == 0
    assert f'page {output}' in capsys.readouterr().out and output.read_text('utf-8').startswith(
        '<!DOCTYPE html>'
    )
    assert list((tmp_path / 'figures').glob('*.png')) and list((tmp_path / 'figures').glob('*.svg'))
    assert data_of(output)['flips'] == {} and data_of(output)['people'] == []


def test_titles_and_pictures_of_real_films(shared_data, tmp_path):
    pillow = pytest.importorskip(
        'PIL.Image', reason='PILLOW IS NOT INSTALLED: pictures are not tested'
    )
    folder = shared_data / 'ml-100k-posters'
    columns = ['--columns', 'user=1', 'item=2', 'rating=3', 'time=4']
    flags = [
        '--dataset',
        'ml-100k-posters/u.data',
        '--root',
        str(shared_data),
        *columns,
        '--split',
        'random:0.1,0.1',
    ]
    run = tmp_path / 'run'
    assert (
        train(['--model', 'Popularity', *flags, '--references', 'false', '--output', str(run)]) == 0
    )
    more = [
        '--titles',
        str(folder / 'items.csv'),
        '--pictures',
        str(folder / 'posters'),
        '--num_users',
        '3',
    ]
    assert main([str(run), *more]) == 0
    items = data_of(run / 'report.html')['items'].values()
    star_wars = next(item for item in items if item['id'] == '50')
    assert star_wars['title'] == 'Star Wars (1977)'
    content = base64.b64decode(star_wars['picture'].partition(',')[2])
    assert pillow.open(io.BytesIO(content)).size[1] == 96


@pytest.mark.parametrize(
    'flags,message',
    [
        (['--k', '0'], '--k, --num_users: got 0'),
        (['--users', 'nobody'], "--users: no user 'nobody'"),
        (['--output', '/'], 'is a folder'),
    ],
)
def test_bad_usage(runs, flags, message, capsys):
    assert main([str(runs[1]), '--device', 'cpu', *flags]) in (1, 2)
    assert message in capsys.readouterr().err


def test_runs_that_do_not_belong_together_are_refused(runs, tmp_path, capsys):
    assert main([str(runs[1]), f'{runs[1]}/../{Path(runs[1]).name}']) == 2
    assert 'is given twice' in capsys.readouterr().err
    assert (
        train(
            ['--model', 'Popularity', '--references', 'false', '--output', str(tmp_path / 'other')]
        )
        == 0
    )
    assert main([str(runs[1]), str(tmp_path / 'other'), '--device', 'cpu']) == 2
    assert 'Popularity has other training interactions than EASE' in capsys.readouterr().err
