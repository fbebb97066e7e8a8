"""The page as text: one file, nothing from outside, nothing from data but text."""

import json
import re
from html.parser import HTMLParser

from helpers.hostile_runs import HOSTILE

from genrec_pyg.reporting.page import render


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.inside, self.scripts = [], [], None, []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.inside = tag
        if tag == 'script':
            self.scripts.append('')

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside == 'script':
            self.scripts[-1] += data


def test_data_open_no_tag_and_close_none(content):
    page = Page()
    page.feed(render(content))
    assert page.tags.count('script') == 2 and 'img' not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith('on')]
    found = json.loads(page.scripts[0])
    titles = {item['title'] for item in found['items'].values()}
    assert {text for text in HOSTILE if any(text in title for title in titles)} == set(HOSTILE)


def test_title_is_escaped(content):
    page = render({**content, 'title': HOSTILE[0]})
    assert page.count('&lt;/script&gt;&lt;script&gt;') == 2 and page.count('<script') == 2


def test_nothing_is_loaded(content):
    text = render(content)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)[1]
    assert policy.startswith("default-src 'none'") and 'http' not in policy
    outside = [
        address
        for address in re.findall(
            r'https?://[^\s"\']+', re.sub(r'id="data">.*?</script>', '', text)
        )
        if address != 'http://www.w3.org/2000/svg'
    ]
    assert outside == [] and '@import' not in text and '<link' not in text


def test_what_is_no_number_is_null(content):
    page = Page()
    page.feed(render({**content, 'more': [float('nan'), float('inf'), 1.5]}))
    assert json.loads(page.scripts[0])['more'] == [None, None, 1.5]


def test_the_same_content_gives_the_same_page(content):
    assert render(content) == render(content)
