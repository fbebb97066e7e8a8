import http.server
import io
import threading
import zipfile
from functools import partial

import pytest

from genrec_pyg.datasets import HMDataset, MindDataset, load_dataset
from genrec_pyg.datasets import mind as mind_module
from genrec_pyg.datasets import sequences_with_content as module
from genrec_pyg.exceptions import ConfigError, DataError

pytest.importorskip('duckdb')
ARTICLES = """article_id,product_code,prod_name,detail_desc
0108775015,108775,Strap top,"Jersey top, with narrow ""straps""
and seams"
0108775044,108775,Strap top,
0110065001,110065,OP T-shirt,Microfibre bra
0111565001,111565,20 den,Semi shiny tights
"""
#: Customer b: two purchases of one day stay in the order of the file, the second top of a counts no
#: more, and the file is not in the order of days.
LOG = """t_dat,customer_id,article_id,price,sales_channel_id
2018-09-21,b,0110065001,0.05,2
2018-09-20,a,0108775044,0.03,1
2018-09-20,b,0111565001,0.05,2
2018-09-20,b,0108775015,0.05,2
2018-09-22,a,0108775015,0.03,1
2018-09-23,a,0108775044,0.03,1
2018-09-24,a,0111565001,0.03,1
2018-09-20,c,0108775015,0.03,1
"""


def write(folder, log=LOG, articles=ARTICLES, pictures=()):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'transactions_train.csv').write_text(log)
    (folder / 'articles.csv').write_text(articles)
    for name in pictures:
        place = folder / 'images' / name[:3]
        place.mkdir(parents=True, exist_ok=True)
        (place / f'{name}.jpg').write_bytes(b'picture')


def histories(data):
    store = data['user', 'interacts', 'item']
    user, item = store.edge_index
    return {
        data['user'].raw_id[one]: [
            data['item'].raw_id[place] for place in item[user == one].tolist()
        ]
        for one in range(int(data['user'].num_nodes))
    }


def test_purchases_in_the_order_of_days_then_lines_each_article_once(tmp_path):
    write(tmp_path / 'hm')
    data = HMDataset(str(tmp_path), 'hm', min_items=2)[0]
    assert histories(data) == {
        'a': ['0108775044', '0108775015', '0111565001'],
        'b': ['0111565001', '0108775015', '0110065001'],
    }
    assert data['item'].title[0] == 'Strap top'
    assert data['item'].abstract[:2] == ['Jersey top, with narrow "straps" and seams', '']
    store = data['user', 'interacts', 'item']
    # 2018-09-20 is day 17794
    assert store.time.tolist() == [17794, 17796, 17798, 17794, 17794, 17795]
    assert 'image' not in data['item']


def test_newest_articles_and_drawn_customers(tmp_path):
    write(tmp_path / 'hm')
    data = HMDataset(str(tmp_path), 'hm', min_items=1, keep_last=3, num_users=2, seed=1)[0]
    every = HMDataset(str(tmp_path), 'hm', min_items=1, keep_last=3)[0]
    assert len(histories(every)) == 3 and len(histories(data)) == 2
    assert histories(data).items() <= histories(every).items()
    again = HMDataset(
        str(tmp_path), 'hm', min_items=1, keep_last=3, num_users=2, seed=1, force_reload=True
    )[0]
    assert histories(again) == histories(data)
    with pytest.raises(ConfigError, match='num_users: got 0, accepted are integers from 1'):
        HMDataset(str(tmp_path), 'hm', num_users=0)


def test_articles_without_a_picture_are_left_out_where_there_are_pictures(tmp_path):
    write(tmp_path / 'hm', pictures=('0108775015', '0111565001'))
    data = HMDataset(str(tmp_path), 'hm', min_items=2)[0]
    assert histories(data) == {
        'a': ['0108775015', '0111565001'],
        'b': ['0111565001', '0108775015'],
    }
    assert [one.rpartition('/images/')[2] for one in data['item'].image] == [
        '010/0108775015.jpg',
        '011/0111565001.jpg',
    ]


@pytest.mark.parametrize(
    'log, articles, message',
    [
        (
            LOG + '2018-09-31,c,0108775015,1,1\n',
            ARTICLES,
            "row 9 below the header has '2018-09-31', accepted is a day",
        ),
        (LOG + '9/20/2018,c,0108775015,1,1\n', ARTICLES, "has '9/20/2018', accepted is a day"),
        (
            LOG + '2018-09-20,c,108775015,1,1\n',
            ARTICLES,
            "has '108775015', accepted is an article_id of articles.csv, ten digits",
        ),
        (LOG + '2018-09-20,,0108775015,1,1\n', ARTICLES, "has 'None', accepted is a customer|''"),
        (
            LOG + '2018-09-20,c\n',
            ARTICLES,
            'transactions_train.csv: .*Row #10: Expected 5 columns, got 2',
        ),
        (
            LOG,
            ARTICLES + '0108775015,1,a,b\n',
            "line 7 has article_id '0108775015' of line 3 again",
        ),
        (LOG, ARTICLES + '0108775099,1,a\n', 'line 7 has 3 fields, accepted are 4'),
        (LOG, ARTICLES.replace('prod_name', 'name'), 'header has prod_name 0 times'),
        (LOG, ARTICLES + '0108775099,1,"a,b\n', 'cannot be read as CSV'),
        (LOG.splitlines()[0] + '\n', ARTICLES, 'no user has 5 items'),
    ],
)
def test_what_is_wrong_is_named(tmp_path, log, articles, message):
    write(tmp_path / 'hm', log, articles)
    with pytest.raises(DataError, match=message):
        HMDataset(str(tmp_path), 'hm')


@pytest.fixture
def server(tmp_path, monkeypatch):
    for one in (module, mind_module):
        monkeypatch.setattr(one, 'download_file', partial(module.download_file, pause=0.01))
    (tmp_path / 'served').mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(
        ('127.0.0.1', 0), partial(Handler, directory=str(tmp_path / 'served'))
    ) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{httpd.server_port}'
        httpd.shutdown()


def packed(**files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w') as archive:
        for name, content in files.items():
            archive.writestr(name.replace('__', '/'), content)
    return out.getvalue()


#: Five purchases of each of two customers.
LONG = LOG.splitlines()[0] + ''.join(
    f'\n2018-09-2{day},{user},011156500{day},1,1' for user in 'ab' for day in range(1, 6)
)
MANY = 'article_id,prod_name,detail_desc\n' + ''.join(
    f'011156500{number},Name {number},\n' for number in range(1, 7)
)


def test_downloads_from_a_mirror_with_pictures(tmp_path, server):
    write(tmp_path / 'served' / 'hm', LONG, MANY)
    pictures = {f'images__011__011156500{number}.jpg': 'x' for number in range(1, 6)}
    (tmp_path / 'served' / 'hm' / 'images.zip').write_bytes(packed(**pictures, readme='no'))
    data = load_dataset('hm', tmp_path / 'data', mirror=server)
    assert int(data['user'].num_nodes) == 2 and len(data['item'].image) == 5
    folder = tmp_path / 'data' / 'hm'
    assert not (folder / 'images.zip').exists() and not (folder / 'readme').exists()
    assert load_dataset('hm', tmp_path / 'data')['item'].title == data['item'].title  # offline


def test_a_mirror_without_pictures_is_enough_and_one_without_files_is_named(tmp_path, server):
    write(tmp_path / 'served' / 'hm', LONG, MANY)
    data = load_dataset('hm', tmp_path / 'data', mirror=server)
    assert 'image' not in data['item']
    (tmp_path / 'served' / 'hm' / 'articles.csv').unlink()
    with pytest.raises(DataError, match='articles.csv: cannot be downloaded.* answers 404'):
        load_dataset('hm', tmp_path / 'other', mirror=server)
    with pytest.raises(DataError, match='put the files there, or name an address .* GENREC_MIRROR'):
        load_dataset('hm', tmp_path / 'third')


def test_mind_downloads_its_archives(tmp_path, server, monkeypatch):
    monkeypatch.setenv('GENREC_MIRROR', server)
    place = tmp_path / 'served' / 'MINDsmall'
    place.mkdir()
    news = ''.join(f'N{n}\tnews\tx\tTitle {n}\tAbstract\t\t[]\t[]\n' for n in range(1, 7))
    log = '1\tU1\t11/11/2019 9:05:58 AM\tN1 N2 N3 N4\tN5-1 N6-0\n'
    for part in ('train', 'dev'):
        (place / f'MINDsmall_{part}.zip').write_bytes(
            packed(**{'behaviors.tsv': log, 'news.tsv': news, 'entity_embedding.vec': 'x'})
        )
    data = load_dataset('MINDsmall', tmp_path / 'data')
    assert data['item'].raw_id == ['N1', 'N2', 'N3', 'N4', 'N5']
    folder = tmp_path / 'data' / 'MINDsmall'
    assert sorted(one.name for one in (folder / 'MINDsmall_dev').iterdir()) == [
        'behaviors.tsv',
        'news.tsv',
    ]
    assert MindDataset.recognizes(folder)
    (place / 'MINDsmall_dev.zip').unlink()
    with pytest.raises(DataError, match='Put the folders MINDsmall_train and MINDsmall_dev'):
        load_dataset('MINDsmall', tmp_path / 'other')
