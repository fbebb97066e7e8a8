import json
import re
from html.parser import HTMLParser

import pytest

from genrec_pyg.reporting.tables import FORMATS, Document, Table

HOSTILE = '<script>alert("1")</script> & 50% | \\input{x} a_b'


@pytest.fixture
def document():
    return Document(
        HOSTILE,
        ['One & two.'],
        [Table(HOSTILE, ['system', HOSTILE], [[HOSTILE, '0.1 ± 0.2']], HOSTILE)],
        {'a': float('inf'), 'b': [1.5, float('nan')]},
    )


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text.append(data)


def test_html_escapes_and_loads_nothing(document):
    page = Tags()
    page.feed(FORMATS['html'](document))
    assert 'script' not in page.tags and page.tags.count('td') == 2 and HOSTILE in page.text
    assert not re.search(r'(src|href)=|url\(|@import', FORMATS['html'](document))


def test_latex_escapes(document):
    text = FORMATS['latex'](document)
    body = text[text.index('\\begin') :]
    assert r'50\% | \textbackslash{}input\{x\} a\_b & 0.1 $\pm$ 0.2 \\' in body
    assert not re.search(r'(?<!\\)[%_#]', body) and body.count(r'\begin{tabular}{lr}') == 1


def test_markdown_keeps_its_columns_and_no_tags(document):
    text = FORMATS['markdown'](document)
    assert '<script' not in text and '</script' not in text
    rows = [line for line in text.splitlines() if line.startswith('|')]
    assert {len(re.findall(r'(?<!\\)\|', row)) for row in rows} == {3}


def test_json_has_only_what_json_knows(document):
    assert json.loads(FORMATS['json'](document), parse_constant=pytest.fail) == {
        'title': HOSTILE,
        'a': None,
        'b': [1.5, None],
    }
