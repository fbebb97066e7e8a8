"""Requests made from the service's own description: whatever is sent gets an answer that it
names."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip('fastapi', reason='NO SERVICE IS TESTED: pip install "genrec_pyg[serve]"')
pytest.importorskip('schemathesis', reason='THE SERVICE IS NOT FUZZED: pip install schemathesis')

sys.path.insert(0, str(Path(__file__).parent))
from service import service

CHECKS = 'not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,negative_data_rejection'  # noqa: E501


@pytest.mark.slow
def test_the_service_survives_a_fuzzer(genrec, tmp_path):
    with service(genrec[1], '--max_lists', '20') as running:
        command = [sys.executable, '-c', 'import sys; from schemathesis.cli import schemathesis']
        command[-1] += '; sys.exit(schemathesis())'
        options = ['--checks', CHECKS, '--max-examples', '40', '--mode', 'all', '--seed', '1']
        options += ['--phases', 'examples,coverage,fuzzing', '--no-color']
        done = subprocess.run(
            [*command, 'run', f'{running.address}/openapi.json', *options],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert running.process.poll() is None and 'Traceback' not in ''.join(running.log)
        with urllib.request.urlopen(f'{running.address}/recommend?user=1') as answer:
            assert json.load(answer)['lists'][0]['items']
        figures = urllib.request.urlopen(f'{running.address}/metrics').read().decode()
        counted = [
            line for line in figures.splitlines() if line.startswith('genrec_requests_total')
        ]
        assert sum(float(line.rpartition(' ')[2]) for line in counted) > 300
        assert not any('status="500"' in line for line in counted)
