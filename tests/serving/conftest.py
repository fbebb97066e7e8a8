from types import SimpleNamespace

import pytest

pytest.importorskip('safetensors', reason='NO BUNDLE IS TESTED: pip install "genrec_pyg[serve]"')

from genrec_pyg.config.build import Run
from genrec_pyg.export import export_run
from genrec_pyg.nn.models import get_model


@pytest.fixture(scope='session')
def export(tmp_path_factory):
    """Exports an untrained or fitted model; returns the model and the folder of its bundle."""

    def write(name, data, **options):
        model = (get_model(name)(data, **options) if isinstance(name, str) else name).eval()
        config = SimpleNamespace(model=str(getattr(name, '__name__', name)), dataset='demo')
        folder = tmp_path_factory.mktemp('bundle') / 'bundle'
        export_run(Run(config, data, model, 'not chosen'), {'test': {'recall@20': 0.25}}, folder)
        return model, folder

    return write


@pytest.fixture(scope='session')
def genrec(export, demo_data):
    """A GenRec with an interest that has a sparse part."""
    from genrec_pyg.nn import GenRec

    model = GenRec(demo_data, interest={'num_neighbors': 4, 'rank': 8})
    model.choose(demo_data)
    return export(model, demo_data)
