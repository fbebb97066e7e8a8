"""README and pages: generated parts are current, links lead somewhere, commands name flags that
exist.
"""

import doctest
import importlib
import importlib.util
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import genrec_pyg
from genrec_pyg.nn.models import MODELS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / name for name in ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md')] + sorted(
    (ROOT / 'docs').rglob('*.md')
)


@pytest.fixture(scope='module')
def tables():
    spec = importlib.util.spec_from_file_location('models_table', ROOT / 'docs' / 'models_table.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_of_models_are_current(tables):
    assert tables.outdated() == [], 'run python docs/models_table.py'


def test_every_model_has_one_row(tables):
    rows = tables.readme_table().splitlines()[2:]
    assert sorted(re.match(r'\| `(\w+)`', row)[1] for row in rows) == sorted(MODELS)


def test_check_tells_what_is_out_of_date(tables, monkeypatch, capsys):
    monkeypatch.setattr(tables, 'outdated', lambda: ['README.md'])
    assert tables.main(['--check']) == 1 and 'README.md is out of date' in capsys.readouterr().err


def test_readme_is_one_page():
    assert len((ROOT / 'README.md').read_text().splitlines()) <= 150


def anchors(path):
    titles = re.findall(r'^#+ (.*)$', path.read_text(), re.MULTILINE)
    return {re.sub(r'[^\w -]', '', title.lower()).strip().replace(' ', '-') for title in titles}


@pytest.mark.parametrize('page', PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES])
def test_links_lead_somewhere(page):
    text = re.sub(r'```.*?```', '', page.read_text(), flags=re.DOTALL)
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
        if target.startswith('https://'):
            continue
        name, _, anchor = target.partition('#')
        path = page.parent / name if name else page
        assert path.exists(), f'{page.name}: {target}'
        assert not anchor or anchor in anchors(path), f'{page.name}: {target}'


@pytest.mark.parametrize('page', PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES])
def test_files_named_exist(page):
    for name in re.findall(
        r'`((?:benchmarks|examples|genrec_pyg|tests|docs|data)/[\w./-]+\.\w+)`', page.read_text()
    ):
        if 'FAMILY' not in name and 'VERB' not in name and 'MODEL' not in name:
            assert (ROOT / name).is_file(), f'{page.name}: {name}'


def test_reports_named_in_the_results_exist():
    named = re.findall(r'`([\w-]+\.md)`', (ROOT / 'docs' / 'results.md').read_text())
    assert len(named) > 15 and all(
        (ROOT / 'benchmarks' / 'results' / name).is_file() for name in named
    )


def test_docstrings_become_markdown():
    """What the API reference shows of roles, math and links as they are written in the source."""
    griffe = pytest.importorskip('griffe', reason='griffe is not installed (pip install .[docs])')
    spec = importlib.util.spec_from_file_location('griffe_rest', ROOT / 'docs' / 'griffe_rest.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert issubclass(module.RestToMarkdown, griffe.Extension)
    text = (
        'Mean of :class:`~genrec_pyg.ops.Adjacency` and :func:`spmm`, :math:`x^2`\n(`LightGCN, '
        'SIGIR 2020 <https://arxiv.org/abs/2002.02126>`_).\n\n.. math::\n    a_i\n    + '
        'b\n\nAfter.'
    )
    assert module.translate(text) == (
        'Mean of `Adjacency` and `spmm`, \\(x^2\\)\n([LightGCN, SIGIR '
        '2020](https://arxiv.org/abs/2002.02126)).\n\n\n'
        '\\[\na_i\n+ b\n\\]\n\nAfter.'
    )


@pytest.mark.slow
def test_pages_build_without_warnings(tmp_path):
    if not all(map(importlib.util.find_spec, ('mkdocs', 'material', 'mkdocstrings'))):
        pytest.skip('MKDOCS IS NOT INSTALLED: pages are not built (pip install .[docs])')
    done = subprocess.run(
        [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', str(tmp_path / 'site')],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'site' / 'models' / 'multimodal' / 'index.html').is_file()
    reference = (tmp_path / 'site' / 'reference' / 'ops' / 'index.html').read_text()
    assert 'masked_topk' in reference and 'Row offsets' in reference
    assert ':class:`' not in reference and '.. math::' not in reference


@pytest.mark.slow
def test_the_table_of_what_bundles_can_is_current():
    spec = importlib.util.spec_from_file_location(
        'serving_table', ROOT / 'docs' / 'serving_table.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main(['--check']) == 0, 'run python docs/serving_table.py'


#: Public classes without an example: what they do needs files, weights or processes, or they are
#: bases and parts that a user does not make.
WITHOUT_EXAMPLE = {
    *('DiffMMDataset', 'HMDataset', 'MMRecDataset', 'MindDataset', 'RecBoleDataset'),
    *('SequenceContentDataset', 'UserItemTextDataset', 'LayoutDataset'),
    *('Grid', 'GridLayout', 'Group', 'WholeLayout', 'Distributed', 'DividedAdjacency'),
    *('AudioEncoder', 'ImageEncoder', 'TextEncoder', 'EncodeAudio', 'EncodeImages', 'EncodeText'),
    *('Denoiser', 'SingleTokenDecoderLayer', 'PerceptronDenoiser', 'TiedDenoiser'),
    *('TransformerDenoiser', 'LinearDenoiser', 'GeneratedGraph', 'InterestGenerator'),
    *('GeneratedInterest', 'KernelPath', 'LowRankKernelPath', 'SparseConv', 'CausalTransformer'),
    *('EncodedRows', 'FeatureRows', 'FusedRows', 'ItemRows', 'ItemTable', 'NodeRows'),
    *('Index', 'Tracker', 'Trackers', 'Tuner', 'LayerNeighborSampler', 'Recommender'),
    *('ValidationRecall',),
}


def packages():
    yield genrec_pyg
    for found in pkgutil.walk_packages(genrec_pyg.__path__, 'genrec_pyg.'):
        if found.ispkg and not found.name.endswith('__main__'):
            yield importlib.import_module(found.name)


def public_classes():
    """Classes that a package exports and that are no records, exceptions or abstract bases."""
    found = {}
    for package in packages():
        for name in getattr(package, '__all__', ()):
            entry = getattr(package, name)
            if inspect.isclass(entry) and entry.__module__.startswith('genrec_pyg.'):
                found[entry.__name__] = entry
    return {
        name: entry
        for name, entry in found.items()
        if not issubclass(entry, (tuple, Exception))
        and not hasattr(entry, '__dataclass_fields__')
        and not inspect.isabstract(entry)
        and not getattr(entry, '_is_protocol', False)
    }


def test_public_classes_have_an_example():
    missing = {name for name, entry in public_classes().items() if '>>>' not in entry.__doc__}
    assert missing == WITHOUT_EXAMPLE & public_classes().keys()


@pytest.mark.parametrize('name', sorted(public_classes().keys() - WITHOUT_EXAMPLE))
def test_examples_give_what_they_show(name):
    entry = public_classes()[name]
    test = doctest.DocTestFinder(recurse=False).find(entry, name, globs={})[0]
    report = []
    assert doctest.DocTestRunner(verbose=False).run(test, out=report.append).failed == 0, report
