"""A service that changes bundles again and again stays as large as it was."""

import copy
import importlib.util
import json
import re
import signal
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import torch

from genrec_pyg.serving.served import RequestError, Served

pytest.importorskip('fastapi', reason='NO SERVICE IS TESTED: pip install "genrec_pyg[serve]"')

sys.path.insert(0, str(Path(__file__).parent))
from service import service

RELOADS = 50
#: Most MiB that the second half of the reloads may add; one bundle holds more than 2.
MOST = 24


def resident(process):
    status = Path(f'/proc/{process.pid}/status').read_text()
    return int(re.search(r'VmRSS:\s+(\d+) kB', status)[1]) / 1024


def ask(address, path, body=None):
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address + path, content, {'content-type': 'application/json'})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read().decode()


def reloads(address):
    pattern = r'^genrec_reloads_total\{outcome="loaded"\} (\S+)'
    found = re.findall(pattern, ask(address, '/metrics'), re.M)
    return float(found[0]) if found else 0.0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
@pytest.mark.parametrize('name', ['LightGCN', 'SASRec'])
def test_memory_is_bounded_over_many_reloads(name, demo_data, export):
    data = copy.copy(demo_data)
    if name == 'SASRec':
        if not all(map(importlib.util.find_spec, ('onnxscript', 'onnxruntime'))):
            pytest.skip('NO NETWORK IS SERVED: pip install ".[onnx]"')
        store = data['user', 'interacts', 'item']
        store.time = torch.arange(store.edge_index.size(1))
    _, folder = export(name, data, hidden_channels=512)
    size = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
    assert size > 2
    with service(folder, '--poll', '60') as running:
        sizes = []
        for number in range(1, RELOADS + 1):
            running.process.send_signal(signal.SIGHUP)
            end = time.monotonic() + 60
            while reloads(running.address) < number:
                assert time.monotonic() < end, ''.join(running.log)
                time.sleep(0.005)
            ask(running.address, '/recommend?user=3&k=5')
            ask(running.address, '/fold-in', {'histories': [[1, 2, 3]], 'k': 5})
            sizes.append(resident(running.process))
        assert max(sizes[RELOADS // 2 :]) - sizes[RELOADS // 2 - 1] < MOST, sizes
        assert sizes[-1] - sizes[9] < MOST, sizes


def test_ids_are_found_as_numbers_and_as_texts(export, demo_data):
    served = Served(export('LightGCN', demo_data, hidden_channels=4)[1])
    assert served.user(3) == served.user('3') == 3
    assert served.numbers([7, '2', 7], 'block').tolist() == [2, 7]
    known, unknown = served.history([9, 'no', 4, 9])
    assert known.tolist() == [4, 9] and unknown == ['no']
    with pytest.raises(RequestError, match="users: no user 'nobody'; /fold-in") as caught:
        served.user('nobody')
    assert caught.value.status == 404 and caught.value.code == 'unknown_user'
