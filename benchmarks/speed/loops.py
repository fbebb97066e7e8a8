r"""Times negative sampling and evaluation beside the loops of the released GenRec-V1, given a
checkout of it.

.. code-block:: console

    python -m benchmarks.speed.loops --root DIR --dataset tiktok --modalities image audio \
        --released CHECKOUT

Both sides run in this process and take turns, on the same interactions, embeddings and lists; their
figures are compared before anything is timed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.common.flags import positive
from benchmarks.common.foreign import foreign_code
from benchmarks.common.machine import folder_digest, machine_line, prepare
from benchmarks.common.reports import RESULTS, markdown_table, write_report
from benchmarks.common.timing import condense, interleaved_seconds
from benchmarks.speed.released import ReleasedSystem, prepare_checkout

OURS, RELEASED = 'genrec_pyg', 'released'

logger = logging.getLogger('loops')


def parts(
    system: ReleasedSystem, root: Path, dataset: str
) -> dict[str, dict[str, Callable[[], object]]]:
    r"""What is timed, by part and side. Raises :class:`AssertionError` if the two sides
    disagree.
    """
    import numpy as np
    import torch

    from genrec_pyg.datasets import load_dataset
    from genrec_pyg.evaluation import Evaluator
    from genrec_pyg.graph import training_graph
    from genrec_pyg.nn.models import Recommender
    from genrec_pyg.ops import Adjacency, NegativeSampler

    class Given(Recommender):
        r"""Scores by given embeddings."""

        def embed(self) -> tuple[torch.Tensor, torch.Tensor]:
            return users, items

    data = load_dataset(dataset, str(root))
    graph = training_graph(data, [])
    generator = torch.Generator().manual_seed(0)
    users, items = (
        torch.randn(n, 64, generator=generator) for n in (graph.num_users, graph.num_items)
    )

    rows, positives, negatives = system.draw_negatives()
    interactions = Adjacency.from_edge_index(
        graph.edge_index, size=(graph.num_users, graph.num_items)
    )
    user = torch.from_numpy(np.asarray(rows)).long()
    key = user * graph.num_items + torch.from_numpy(np.asarray(positives)).long()
    sampler = NegativeSampler(interactions)
    check(torch.equal(key.sort().values, sampler._held), 'training interactions')
    for item in (torch.from_numpy(np.asarray(negatives)).long(), sampler(user)[0]):
        check(not bool(torch.isin(user * graph.num_items + item, key).any()), 'negatives')

    evaluator = Evaluator(data, 'test', (20,), protocol='published')
    model = Given(graph)
    lists = evaluator.top_k(model)[1]
    listed = evaluator.user.numpy(), lists.numpy()
    ours = evaluator(model)
    for name, value in [*system.rank(users, items).items(), *system.measure_lists(*listed).items()]:
        check(abs(ours[name] - value) < 1e-5, name)
    return {
        'negatives of one epoch': {OURS: lambda: sampler(user), RELEASED: system.draw_negatives},
        'metrics of all lists': {
            OURS: lambda: evaluator.figures(lists),
            RELEASED: lambda: system.measure_lists(*listed),
        },
        'evaluation of all users, embeddings given': {
            OURS: lambda: evaluator(model),
            RELEASED: lambda: system.rank(users, items),
        },
    }


def check(agrees: bool, what: str) -> None:
    r"""Raises :class:`AssertionError` unless both sides agree."""
    if not agrees:
        raise AssertionError(f'the two sides disagree: {what}')


@contextmanager
def released_system(args: argparse.Namespace) -> Iterator[ReleasedSystem]:
    r"""The released implementation in this process, whose working folder is its temporary copy in
    the meantime.
    """
    before = Path.cwd(), list(sys.argv)
    with tempfile.TemporaryDirectory() as folder:
        flags = prepare_checkout(
            args.released.resolve(),
            (args.root / args.dataset).resolve(),
            args.modalities,
            Path(folder),
        )
        os.chdir(folder)
        try:
            with foreign_code(Path(folder)):
                yield ReleasedSystem(flags, 0)
        finally:
            os.chdir(before[0])
            sys.argv[:] = before[1]


def render(document: Mapping[str, object]) -> str:
    r"""The report as Markdown."""
    rows = [
        [
            part,
            *(f'{sides[side]["median"] * 1e3:.2f}' for side in (OURS, RELEASED)),
            f'{sides[RELEASED]["times_ours"]:.1f}',
        ]
        for part, sides in document['parts'].items()
    ]
    table = markdown_table(['part', f'{OURS} [ms]', f'{RELEASED} [ms]', 'times faster'], rows)
    return f"""# Negative sampling and evaluation on {document['dataset']}

{table}

Medians of {document['repeats']} calls in turn, in one process, figures compared before. Ours
measures six metrics, coverage
and popularity of the lists where the released loop measures three metrics; both rank all items by
64-wide embeddings.

{machine_line(document['machine'])}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    r"""Entry point."""
    parser = argparse.ArgumentParser(
        description='Times negative sampling and evaluation beside released loops.'
    )
    parser.add_argument('--root', type=Path, required=True, help='folder that holds the datasets')
    parser.add_argument('--dataset', default='tiktok', help='dataset: a folder under the root')
    parser.add_argument('--modalities', nargs='+', default=['image', 'audio'])
    parser.add_argument(
        '--released',
        type=Path,
        required=True,
        metavar='CHECKOUT',
        help='checkout of the released GenRec-V1',
    )
    parser.add_argument('--threads', type=positive, default=1)
    parser.add_argument('--repeats', type=positive, default=9)
    parser.add_argument(
        '--output',
        type=Path,
        help='report without ending, default benchmarks/results/loops-DATASET',
    )
    args = parser.parse_args(arguments)
    if not args.released.is_dir():
        parser.error(f'--released: {args.released} is not a folder')
    description = prepare(args.threads)
    output = (args.output or RESULTS / f'loops-{args.dataset}').resolve()
    root = args.root.resolve()
    with contextlib.redirect_stdout(io.StringIO()), released_system(args) as system:
        measured = {
            part: condense(interleaved_seconds(sides, args.repeats, warmup=1))
            for part, sides in parts(system, root, args.dataset).items()
        }
    document = {
        'dataset': args.dataset,
        'repeats': args.repeats,
        'machine': description,
        'parts': measured,
        'data_digest': folder_digest(root / args.dataset, '*.*'),
    }
    markdown = render(document)
    write_report(output, document, markdown)
    logger.info('\n%s', markdown)
    return 0


if __name__ == '__main__':
    sys.exit(main())
