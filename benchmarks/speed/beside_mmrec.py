r"""Times every model that the MMRec toolbox has too beside it: set-up, training epoch, evaluation
and resident memory.

.. code-block:: console

    python -m benchmarks.speed.beside_mmrec --root DIR --dataset lfm2k \
        --modalities image=vggish text=all-MiniLM-L6-v2 --checkout DIR

The dataset is written in MMRec's layout, and both sides read these files. A model's two sides have
the same batches of 2,048, width, layers, neighbors and number of negatives, run in a process each
with the same number of threads, and take turns epoch by epoch; both evaluate on validation alone
(the toolbox evaluates the test split after every epoch too, which is not counted). The graphs of
users and items that a script of the toolbox makes in advance are written before its clock starts,
and not made for ours. Nothing that a model keeps in files is there at the start.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from benchmarks.common.flags import positive
from benchmarks.common.foreign import require_files
from benchmarks.common.machine import folder_digest, machine, machine_line
from benchmarks.common.reports import RESULTS, markdown_table, write_report
from benchmarks.common.timing import summary
from benchmarks.common.worker import Worker, WorkerError
from genrec_pyg.datasets import load_dataset
from genrec_pyg.graph import training_graph
from genrec_pyg.ops import Adjacency, cooccurrence_graph

#: The two modalities that it knows and their files.
FILES = {'image': 'image_feat.npy', 'text': 'text_feat.npy'}
USER_LISTS, ITEM_LISTS = 'user_graph_dict.npy', 'item_graph_dict_2.npy'
#: Neighbors in its lists of users, and common interactions of items in a list.
LIST_LENGTH, MIN_COMMON = 200, 2
#: Phases by their names here, and by those of a worker.
PHASES = {'training': 'recommender', 'evaluation': 'evaluation'}
#: Steps of an epoch for both sides.
BATCH_SIZE = 2048

logger = logging.getLogger('beside_mmrec')


class Shared(NamedTuple):
    r"""A model of both sides.

    Args:
        name: Its name there.
        theirs: Settings beside the first of each of its lists.
        ours: Ours that give the same amount of work, beside the defaults.
    """

    name: str
    theirs: Mapping[str, Any]
    ours: Mapping[str, Any]


#: Our name to both sides.
MODELS: dict[str, Shared] = {
    'MFBPR': Shared('BPR', {'reg_weight': 1e-4}, {}),
    'LightGCN': Shared('LightGCN', {'n_layers': 2, 'reg_weight': 1e-4}, {'num_layers': 2}),
    'LayerGCN': Shared(
        'LayerGCN', {'dropout': 0.1, 'reg_weight': 1e-4}, {'num_layers': 4, 'edge_dropout': 0.1}
    ),
    'SELFCFED': Shared(
        'SELFCFED_LGN',
        {'n_layers': 2, 'dropout': 0.5, 'reg_weight': 1e-4},
        {'num_layers': 2, 'dropout': 0.5},
    ),
    'VBPR': Shared('VBPR', {'reg_weight': 1e-2}, {}),
    'BM3': Shared(
        'BM3',
        {'dropout': 0.5},
        {'variant': 'released', 'num_layers': 1, 'dropout': 0.5, 'content_weight': 2.0},
    ),
    'FREEDOM': Shared(
        'FREEDOM', {'dropout': 0.8, 'reg_weight': 1e-3}, {'num_layers': 2, 'edge_dropout': 0.8}
    ),
    'MGCN': Shared('MGCN', {'cl_loss': 0.01}, {'num_layers': 2}),
    'LATTICE': Shared('LATTICE', {'reg_weight': 1e-4, 'learning_rate': 5e-4}, {}),
    'DRAGON': Shared('DRAGON', {'reg_weight': 1e-3, 'learning_rate': 1e-4}, {}),
    'MMGCN': Shared('MMGCN', {'reg_weight': 1e-3, 'learning_rate': 1e-3}, {'variant': 'released'}),
    'GRCN': Shared(
        'GRCN', {'n_layers': 2, 'reg_weight': 1e-3, 'learning_rate': 1e-3}, {'variant': 'released'}
    ),
    'DualGNN': Shared(
        'DualGNN', {'reg_weight': 1e-3, 'learning_rate': 1e-3}, {'variant': 'released'}
    ),
    'SLMRec': Shared('SLMRec', {'learning_rate': 1e-3, 'ssl_alpha': 0.1, 'ssl_temp': 0.2}, {}),
    'MVGAE': Shared('MVGAE', {'learning_rate': 1e-3, 'beta': 0.1}, {}),
    'LGMRec': Shared('LGMRec', {}, {'num_layers': 2, 'edge_dropout': 0.5}),
    'DAMRS': Shared('DAMRS', {}, {}),
    'SMORE': Shared('SMORE', {}, {'num_layers': 3, 'num_neighbors': 10}),
    'PGL': Shared('PGL', {'dropout': 0.2}, {}),
    'MMGCF': Shared(
        'MMGCF', {'n_ui_layers': 2, 'reg_weight': 1e-3}, {'num_layers': 2, 'edge_dropout': 0.2}
    ),
}


def write_layout(data: HeteroData, modalities: Sequence[str], folder: Path) -> None:
    r"""Writes a graph of users and items in MMRec's layout, its two modalities as image and text,
    and the lists of users and items that a script of the toolbox makes in advance.

    Args:
        data: Canonical graph.
        modalities: Names of the two modalities in it.
        folder: Folder of the dataset, named after it.
    """
    folder.mkdir(parents=True)
    graph = training_graph(data, modalities)
    edges = data['user', 'interacts', 'item']
    rows = torch.stack([*edges.edge_index, _labels(edges)])
    text = '\n'.join('\t'.join(map(str, row)) for row in rows.t().tolist())
    (folder / f'{folder.name}.inter').write_text(f'userID\titemID\tx_label\n{text}\n')
    for modality, file in zip(modalities, FILES.values(), strict=True):
        features = graph.modalities[modality].item_features()
        np.save(folder / file, features.numpy().astype(np.float32))
    users = Adjacency.from_edge_index(graph.edge_index, size=(graph.num_users, graph.num_items))
    for file, rows, length, least in (
        (USER_LISTS, users, LIST_LENGTH, 1),
        (ITEM_LISTS, users.t(), LIST_LENGTH, MIN_COMMON),
    ):
        lists = neighbor_lists(cooccurrence_graph(rows, length, least))
        np.save(folder / file, np.array(lists, dtype=object))


def _labels(edges: Any) -> Tensor:
    label = torch.zeros(edges.edge_index.size(1), dtype=torch.long)
    label[edges.val_mask], label[edges.test_mask] = 1, 2
    return label


def neighbor_lists(graph: Adjacency) -> dict[int, list[list]]:
    r"""Neighbors of every node and how much they have in common, most first, as it reads them."""
    found = {}
    pointer = graph.rowptr.tolist()
    for row, (begin, end) in enumerate(zip(pointer, pointer[1:])):
        count, order = graph.value[begin:end].sort(descending=True, stable=True)
        found[row] = [graph.col[begin:end][order].tolist(), count.tolist()]
    return found


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    r"""The command line."""
    parser = argparse.ArgumentParser(description='Times models beside the MMRec toolbox.')
    parser.add_argument('--root', type=Path, required=True, help='folder that holds the datasets')
    parser.add_argument('--dataset', default='lfm2k', help='dataset: a folder under the root')
    parser.add_argument(
        '--modalities',
        nargs=2,
        default=['image=vggish', 'text=all-MiniLM-L6-v2'],
        metavar='NAME[=FILE]',
        help='the two modalities, which it takes for image and text',
    )
    parser.add_argument(
        '--checkout', type=Path, required=True, metavar='DIR', help='checkout of the toolbox'
    )
    parser.add_argument('--models', nargs='+', choices=list(MODELS), default=list(MODELS))
    parser.add_argument('--threads', type=positive, default=1, help='threads of every system')
    parser.add_argument('--epochs', type=positive, default=3, help='measured epochs, after a first')
    parser.add_argument('--output', type=Path, help='report without ending')
    args = parser.parse_args(arguments)
    if args.output is None:
        args.output = RESULTS / f'beside-mmrec-{args.dataset}'
    return args


def measure(model: str, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    r"""Answers of both sides of ``model`` on the dataset under ``folder``; the first epoch, which
    has what is done once, is not counted.
    """
    shared = MODELS[model]
    flags = [
        *('--model', model, '--root', str(folder / 'data'), '--dataset', args.dataset),
        *('--modalities', *FILES, f'--trainer.batch_size={BATCH_SIZE}'),
        *(f'--hparams.{name}={value}' for name, value in shared.ours.items()),
    ]
    theirs = {
        'model': shared.name,
        'dataset': args.dataset,
        'source': str(folder / 'src'),
        'settings': {
            'data_path': f'{folder}/data/',
            'inter_file_name': f'{args.dataset}.inter',
            'USER_ID_FIELD': 'userID',
            'ITEM_ID_FIELD': 'itemID',
            'vision_feature_file': FILES['image'],
            'text_feature_file': FILES['text'],
            'user_graph_dict_file': USER_LISTS,
            'item_graph_dict_file': ITEM_LISTS,
            'train_batch_size': BATCH_SIZE,
            **shared.theirs,
        },
    }
    with ExitStack() as stack:
        workers = {}
        for side, settings in (('ours', {'flags': flags}), ('mmrec', theirs)):
            workers[side] = Worker(
                'benchmarks.speed.beside_mmrec_worker',
                [side, str(args.threads), json.dumps(settings)],
                args.threads,
                folder / 'src' if side == 'mmrec' else folder,
            )
            stack.callback(workers[side].close)
        found: dict[str, Any] = {
            side: {'ready': worker.ready, 'epochs': []} for side, worker in workers.items()
        }
        for epoch in range(args.epochs + 1):
            for side in list(workers)[:: 1 if epoch % 2 == 0 else -1]:
                found[side]['epochs'].append(workers[side].epoch())
    return found


def condense(answers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    r"""Medians of both sides over the epochs after the first, and ours beside theirs: how many
    times faster, and the share of memory.
    """
    sides: dict[str, Any] = {}
    for side, answer in answers.items():
        epochs = answer['epochs'][1:]
        seconds = {
            clock: {
                **{
                    name: summary([epoch[clock][phase] for epoch in epochs])
                    for name, phase in PHASES.items()
                },
                'epoch': summary([sum(epoch[clock].values()) for epoch in epochs]),
            }
            for clock in ('wall', 'processor')
        }
        sides[side] = {
            'seconds': seconds,
            'setup': answer['ready']['processor'],
            'memory': answer['epochs'][-1]['memory']['peak'],
            'description': answer['ready']['description'],
        }
    ours, theirs = sides['ours'], sides['mmrec']
    ratios = {
        name: theirs['seconds']['processor'][name]['median']
        / ours['seconds']['processor'][name]['median']
        for name in (*PHASES, 'epoch')
    }
    ratios['setup'] = theirs['setup'] / ours['setup']
    return {**sides, 'times_faster': ratios, 'memory_share': ours['memory'] / theirs['memory']}


def render(document: Mapping[str, Any]) -> str:
    r"""The report as Markdown."""
    rows = []
    for model, found in document['models'].items():
        sides = [found['ours'], found['mmrec']]
        rows.append(
            [
                model,
                *(
                    f'{side["seconds"]["processor"][name]["median"]:.3f}'
                    for name in PHASES
                    for side in sides
                ),
                f'{found["times_faster"]["epoch"]:.1f}',
                *(f'{side["setup"]:.1f}' for side in sides),
                *(f'{side["memory"] / 1e9:.2f}' for side in sides),
                f'{found["memory_share"]:.2f}',
            ]
        )
    pairs = ('training', 'evaluation', 'set-up', 'memory')
    units = dict.fromkeys(pairs, '[s]') | {'memory': '[GB]'}
    cells = {name: [f'{name} {units[name]}', f'MMRec {units[name]}'] for name in pairs}
    header = [
        'model',
        *cells['training'],
        *cells['evaluation'],
        'epoch, times faster',
        *cells['set-up'],
        *cells['memory'],
        'share of its memory',
    ]
    ratios = [found['times_faster']['epoch'] for found in document['models'].values()]
    shares = [found['memory_share'] for found in document['models'].values()]
    told = (
        f'An epoch is {min(ratios):.1f} to {max(ratios):.1f} times faster, in the median '
        f'{statistics.median(ratios):.1f} times; memory is {min(shares):.2f} to {max(shares):.2f} '
        'of theirs.'
        if ratios
        else ''
    )
    failed = '\n'.join(f'* {line}' for line in document['failed'])
    return f"""# {document['dataset']} beside MMRec

{markdown_table(header, rows)}

{told}

Processor seconds of one epoch and of its evaluation on validation, medians over
{document['epochs']} epochs after a first, both sides in turn, each in its own process; set-up,
imports included, in processor seconds of one start; peak resident memory of the process. Batches of
{BATCH_SIZE}, width 64, equal layers and neighbors, one negative. Python files of the toolbox:
digest {document['digest']}.

{f'Not measured:{chr(10) * 2}{failed}{chr(10) * 2}' if failed else ''}\
{machine_line(document['machine'])}
"""


def run(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    r"""Measures one model after another; gives the document after each."""
    modalities = dict(entry.partition('=')[::2] for entry in args.modalities)
    named = {name: file or name for name, file in modalities.items()}
    document: dict[str, Any] = {
        'dataset': args.dataset,
        'modalities': named,
        'epochs': args.epochs,
        'digest': folder_digest(args.checkout / 'src', '*.py'),
        'machine': machine(args.threads),
        'models': {},
        'failed': [],
    }
    whole = any(file for file in modalities.values())
    data = load_dataset(args.dataset, str(args.root), named if whole else list(named))
    with tempfile.TemporaryDirectory() as scratch:
        for model in args.models:
            folder = Path(scratch) / model
            shutil.copytree(args.checkout / 'src', folder / 'src')
            write_layout(data, list(named), folder / 'data' / args.dataset)
            try:
                document['models'][model] = condense(measure(model, args, folder))
                ratio = document['models'][model]['times_faster']['epoch']
                logger.info('%s: %.1f times faster', model, ratio)
            except WorkerError as error:
                line = str(error).strip().splitlines()[-1].replace(scratch, '')
                document['failed'].append(f'{model}: {line}')
                logger.info('%s: %s', model, error)
            shutil.rmtree(folder)
            yield document


def main(arguments: Sequence[str] | None = None) -> int:
    r"""Entry point: 0 on success, 1 where a model could not be measured."""
    args = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format='%(message)s', stream=sys.stderr)
    require_files(args.checkout, 'src/common/trainer.py', 'src/utils/configurator.py')
    document: dict[str, Any] = {'failed': []}
    for document in run(args):
        write_report(args.output, document, render(document))
    logger.info('\n%s', render(document))
    return 1 if document['failed'] else 0


if __name__ == '__main__':
    sys.exit(main())
