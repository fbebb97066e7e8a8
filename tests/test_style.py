"""Rules of the house that a reader would otherwise have to check by hand; docs/design.md states
them.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'genrec_pyg'
HERE = Path(__file__).name

#: Commands: what may lie at the root of the package besides ``__init__`` and ``exceptions``.
COMMANDS = {
    'blend',
    'compare',
    'encode',
    'evaluate',
    'export',
    'prepare',
    'recommend',
    'report',
    'serve',
    'train',
    'tune',
}
#: Packages from the foundation up. A module imports only from rows before its own.
LEVELS = (
    {'exceptions'},
    {'utils'},
    {'graph'},
    {'ops'},
    {'distributed'},
    {'loader', 'optim', 'encoders'},
    {'nn'},
    {'datasets', 'transforms'},
    {'runs', 'evaluation', 'retrieval'},
    {'training'},
    {'config'},
    {'tuning', 'reporting', 'serving', 'testing'},
    {'cli'},
    COMMANDS | {'__main__'},
)
#: Beside ``nn``: import the foundations and one another, never models or training. Encoders are
#: parts of models too.
DATA = {'datasets', 'transforms', 'encoders'}
DATA_MAY_IMPORT = DATA | {'graph', 'ops', 'utils', 'exceptions'}


def sources(*folders, suffixes=('.py', '.yaml')):
    for folder in folders:
        for path in sorted((ROOT / folder).rglob('*')):
            if (
                path.suffix in suffixes
                and path.name != HERE
                and 'results' not in path.relative_to(ROOT).parts
            ):
                yield path


def lines_with(pattern, paths):
    return [
        f'{path.relative_to(ROOT)}:{number}: {line.strip()}'
        for path in paths
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if pattern.search(line)
    ]


def test_sources_cited_can_be_opened():
    found = lines_with(
        re.compile('specification', re.IGNORECASE), sources('genrec_pyg', 'benchmarks', 'tests')
    )
    assert not found, '\n'.join(found)


#: British spellings and words of another idiom, with what is written in their place in
#: docs/design.md.
BANNED = re.compile(
    r'\b(anew|spelled out|takes? back what|data sets?|\w*neighbour\w*|\w*behaviour\w*|\w*favour\w*|'
    r'\w*colour\w*|\w*centre[ds]?|\w*(optimis|normalis|penalis|standardis|regularis|factoris|recognis|'
    r'initialis|randomis|minimis|maximis|symmetris|parametris)(e|ed|es|er|ers|ing|ations?))\b',
    re.IGNORECASE,
)


def test_words_are_american_and_plain():
    pages = [
        ROOT / 'README.md',
        ROOT / 'CONTRIBUTING.md',
        ROOT / 'CHANGELOG.md',
        ROOT / 'data' / 'README.md',
    ]
    paths = [
        *sources('genrec_pyg', 'benchmarks', 'tests', 'examples'),
        *sources('docs', suffixes=('.md', '.py')),
        *pages,
    ]
    found = lines_with(BANNED, paths)
    assert not found, '\n'.join(found)


SETTINGS = sorted((PACKAGE / 'config' / 'defaults').glob('*/*.yaml'))


@pytest.mark.parametrize('path', SETTINGS, ids=[path.stem for path in SETTINGS])
def test_settings_name_their_source_in_the_first_line(path):
    first = path.read_text().splitlines()[0]
    files = re.findall(r'benchmarks/results/[\w.-]+\.\w+', first)
    assert first.startswith('# ') and (files or re.search(r'https://\S+', first)), first
    for file in files:
        assert (ROOT / file).is_file(), file


def test_root_of_the_package_holds_commands_only():
    modules = {path.stem for path in PACKAGE.glob('*.py')}
    assert (
        {'__init__', 'exceptions', 'train'}
        <= modules
        <= COMMANDS | {'__init__', '__main__', 'exceptions'}
    )


def test_every_folder_of_modules_is_a_package():
    """Else it would be missing in what is built, while it is found where the source lies."""
    folders = {path.parent for path in PACKAGE.rglob('*.py')}
    assert not [folder for folder in folders if not (folder / '__init__.py').is_file()]


def imported(path):
    """First names below ``genrec_pyg`` that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == 'genrec_pyg':
            names = [f'genrec_pyg.{alias.name}' for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or '']
            assert node.level == 0, f'{path}: relative import'
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name.split('.')[1] for name in names if name.startswith('genrec_pyg.'))


def against_the_direction():
    level = {name: number for number, names in enumerate(LEVELS) for name in names}
    for path in sorted(PACKAGE.rglob('*.py')):
        own = path.relative_to(PACKAGE).parts[0].removesuffix('.py')
        if own == '__init__':
            continue
        assert own in level, f'{own}: give the new package a row in LEVELS'
        for name in imported(path):
            if name == own or name in DATA and own in DATA:
                continue
            down = level.get(name, -1) < level[own] and (own not in DATA or name in DATA_MAY_IMPORT)
            if not down and name in level:
                yield path.relative_to(PACKAGE).as_posix(), name


def test_imports_go_one_way():
    assert not list(against_the_direction())


@pytest.mark.parametrize(
    'path', sorted((PACKAGE / 'nn' / 'models').rglob('*.py')), ids=lambda path: path.stem
)
def test_docstring_of_a_model_says_what_it_is(path):
    """At most 57 lines before its example; what other programs do differently is in
    docs/parity.md.
    """
    for node in ast.parse(path.read_text()).body:
        docstring = ast.get_docstring(node) if isinstance(node, ast.ClassDef) else None
        if docstring:
            prose = docstring.partition('\n\nExamples:\n')[0]
            assert len(prose.splitlines()) <= 57, node.name
            if 'docs/parity.md' in docstring:
                assert f'### {node.name}\n' in (ROOT / 'docs' / 'parity.md').read_text(), node.name


#: Modules without a test file of their own, and the one that has their tests: parts that only show
#: together, in a run, in several processes, or through the object that owns them.
TESTED_IN = {
    'config/blending': 'commands/test_blend',
    'config/schema': 'config/test_parser',
    'datasets/io/rows': 'datasets/io/test_usable_rows',
    'datasets/io/tables': 'datasets/io/test_layouts',
    'datasets/preparation/core': 'datasets/preparation/test_prepare_log',
    'datasets/preparation/prepare': 'datasets/preparation/test_prepare_log',
    'distributed/collectives': 'distributed/test_processes',
    'distributed/layout': 'distributed/test_grid',
    'distributed/norm': 'distributed/test_processes',
    'distributed/operations': 'distributed/test_processes',
    'distributed/partitioned': 'distributed/test_processes',
    'distributed/tables': 'distributed/test_checkpoints',
    'encoders/tasks': 'commands/test_encode',
    'evaluation/lists': 'evaluation/test_evaluator',
    'graph/containers': 'graph/test_schema',
    'graph/content': 'graph/test_schema',
    'graph/modality': 'graph/test_schema',
    'nn/diffusion/config': 'nn/diffusion/test_generator',
    'nn/diffusion/denoiser_training': 'nn/diffusion/test_generator',
    'nn/diffusion/variational': 'nn/diffusion/test_objectives',
    'nn/items/content': 'nn/models/test_item_sides',
    'nn/items/nodes': 'nn/models/test_item_sides',
    'nn/losses/config': 'nn/models/multimodal/test_genrec',
    'nn/models/multimodal/diffmm_settings': 'nn/models/multimodal/test_diffmm',
    'nn/models/multimodal/genrec_parts': 'nn/models/multimodal/test_genrec',
    'nn/models/multimodal/genrec_settings': 'nn/models/multimodal/test_genrec',
    'nn/models/sequential/comirec': 'nn/models/sequential/test_multi_interest',
    'nn/models/sequential/gru4rec': 'nn/models/sequential/test_sequence_recommender',
    'nn/models/sequential/mind': 'nn/models/sequential/test_multi_interest',
    'nn/models/sequential/remi': 'nn/models/sequential/test_multi_interest',
    'nn/models/sequential/sasrec': 'nn/models/sequential/test_sequence_recommender',
    'nn/models/sequential/windows': 'nn/models/sequential/test_sequence_recommender',
    'nn/models/settings': 'config/test_parser',
    'nn/principal_graph': 'nn/models/multimodal/test_pgl',
    'reporting/lists': 'commands/test_recommend',
    'reporting/page/flips': 'reporting/page/test_content',
    'reporting/page/maps': 'reporting/page/test_content',
    'reporting/page/people': 'reporting/page/test_content',
    'runs/trackers/base': 'runs/trackers/test_trackers',
    'runs/trackers/identity': 'runs/trackers/test_trackers',
    'runs/trackers/mlflow': 'runs/trackers/test_trackers',
    'runs/trackers/registry': 'runs/trackers/test_trackers',
    'runs/trackers/tensorboard': 'runs/trackers/test_trackers',
    'runs/trackers/wandb': 'runs/trackers/test_trackers',
    'serving/answers': 'serving/test_app',
    'serving/candidates': 'serving/test_engine',
    'serving/gate': 'serving/test_app',
    'serving/history_program': 'serving/test_history_encoder',
    'serving/limits': 'serving/test_app',
    'serving/members': 'serving/test_bundle',
    'serving/metrics': 'serving/test_app',
    'serving/parts': 'serving/test_bundle',
    'serving/program_scores': 'serving/test_program',
    'serving/table_file': 'serving/test_bundle',
    'serving/table_reader': 'serving/test_bundle',
    'serving/tables': 'serving/test_program',
    'training/grid': 'distributed/test_processes',
    'training/same_work': 'distributed/test_processes',
    'training/store': 'training/test_session',
    'tuning/report': 'tuning/test_study',
    'tuning/session': 'tuning/test_study',
    'utils/folders': 'datasets/preparation/test_prepare_log',
    'utils/locks': 'runs/test_folder',
    'utils/plugins': 'commands/test_plugins',
    'utils/validation': 'nn/models/test_pairwise',
}


def test_tests_lie_where_the_package_has_the_module():
    """``genrec_pyg/a/b.py`` is tested by ``tests/a/test_b.py``, a command by
    ``tests/commands/test_COMMAND.py``; the exceptions are listed above, and no others.
    """
    tests, without = ROOT / 'tests', set()
    for path in PACKAGE.rglob('*.py'):
        module = path.relative_to(PACKAGE)
        folder = 'commands' if module.stem in COMMANDS and len(module.parts) == 1 else ''
        test = tests / folder / module.with_name(f'test_{module.name}')
        if not module.stem.startswith('__') and not test.is_file():
            without.add(module.with_suffix('').as_posix())
    unlisted, stale = sorted(without - TESTED_IN.keys()), sorted(TESTED_IN.keys() - without)
    assert not unlisted, f'write the test, or name in TESTED_IN the one that has it: {unlisted}'
    assert not stale, f'these have a test of their own, or are no more: {stale}'
    assert not [test for test in TESTED_IN.values() if not (tests / f'{test}.py').is_file()]
