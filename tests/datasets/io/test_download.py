import hashlib
import http.server
import threading

import pytest

from genrec_pyg.datasets.io.download import download_file
from genrec_pyg.exceptions import DataError

CONTENT = b'x' * 100_000


class Handler(http.server.BaseHTTPRequestHandler):
    hits = []

    def do_GET(self):
        self.hits.append(self.path)
        if self.path == '/missing' or (self.path == '/flaky' and self.hits.count('/flaky') < 2):
            self.send_error(404 if self.path == '/missing' else 503)
            return
        self.send_response(200)
        self.send_header('Content-Length', str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if self.path == '/truncated' else CONTENT)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    Handler.hits = []
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{httpd.server_port}'
        httpd.shutdown()


def test_whole_and_verified(server, tmp_path):
    download_file(f'{server}/file', tmp_path / 'sub' / 'file', hashlib.sha256(CONTENT).hexdigest())
    assert (tmp_path / 'sub' / 'file').read_bytes() == CONTENT


def test_a_failing_server_is_asked_again(server, tmp_path):
    download_file(f'{server}/flaky', tmp_path / 'file', pause=0.01)
    assert (tmp_path / 'file').exists() and len(Handler.hits) == 2


@pytest.mark.parametrize(
    'path,checksum,tries,message',
    [
        ('missing', None, 1, 'the server answers 404'),
        ('truncated', None, 2, 'truncated|IncompleteRead'),
        ('file', '0' * 64, 2, 'checksum [0-9a-f]{64}, expected 0000'),
    ],
)
def test_failures_name_the_reason_and_leave_nothing_new(
    server, tmp_path, path, checksum, tries, message
):
    (tmp_path / 'file').write_bytes(b'old')
    with pytest.raises(
        DataError, match=f'file: cannot be downloaded from {server}/{path} .*({message})'
    ):
        download_file(f'{server}/{path}', tmp_path / 'file', checksum, attempts=2, pause=0.01)
    assert [p.name for p in tmp_path.iterdir()] == ['file'] and (
        tmp_path / 'file'
    ).read_bytes() == b'old'
    assert len(Handler.hits) == tries


def test_no_server(tmp_path):
    with pytest.raises(DataError, match='cannot be downloaded from http://127.0.0.1:9/file'):
        download_file('http://127.0.0.1:9/file', tmp_path / 'file', attempts=1)
    assert not list(tmp_path.iterdir())
