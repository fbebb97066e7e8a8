"""A service in a process of its own, for tests."""

import contextlib
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Runs a command where torch and what needs it cannot be imported.
WITHOUT_TORCH = (
    'import sys; '
    "sys.modules.update(dict.fromkeys(('torch', 'torch_geometric', 'genrec_pyg.nn', "
    "'genrec_pyg.graph'))); from genrec_pyg.serve import main; sys.exit(main(sys.argv[1:]))"
)


class Service:
    def __init__(self, process, address, log):
        self.process, self.address, self.log = process, address, log


@contextlib.contextmanager
def service(*arguments, **environment):
    """Serves on a free port until the end of the block."""
    command = [sys.executable, '-c', WITHOUT_TORCH, *map(str, arguments)]
    if '--port' not in arguments:
        command += ['--port', '0']
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), **environment}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    log, address, found = [], [], threading.Event()

    def read():
        for line in process.stderr:
            log.append(line)
            match = re.search(r'serves bundle \w+ on (http://\S+)', line)
            if match:
                address.append(match[1])
                found.set()
        found.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert found.wait(60) and address, ''.join(log)
        yield Service(process, address[0], log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        reader.join(10)
