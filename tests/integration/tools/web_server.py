"""A web server of the tests' own: answers as the test says, byte by byte where it must, over http or TLS."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.integration.tools.git_server import _certificate

Page = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class WebServer:
    """pages: by path, what answers; seen: (method, path, headers, body) of each request; closing: set at the end, for
    pages that never come to one."""

    url: str = ""
    port: int = 0
    certificate: Path = Path()
    pages: dict[str, Page] = field(default_factory=dict)
    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def page(self, path: str, body: bytes | str, *, status: int = 200, **headers: str) -> str:
        """Adds a page; `content_type="text/html"` is the header Content-Type. Gives its address."""
        data = body.encode() if isinstance(body, str) else body

        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(status)
            for name, value in headers.items():
                request.send_header(name.replace("_", "-"), value)
            request.send_header("Content-Length", str(len(data)))
            request.end_headers()
            if request.command != "HEAD":
                request.wfile.write(data)

        self.pages[path] = answer
        return self.url + path


@contextmanager
def serve(folder: Path | None = None) -> Iterator[WebServer]:
    """On a free port of 127.0.0.1; with TLS where a folder for the certificate is given."""
    server = WebServer()
    listening = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    listening.daemon_threads = True
    listening.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
    server.port = listening.server_address[1]
    if folder is not None:
        server.certificate, key = _certificate(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(server.certificate, key)
        listening.socket = context.wrap_socket(listening.socket, server_side=True, do_handshake_on_connect=False)
    server.url = f"http{'s' if folder else ''}://127.0.0.1:{server.port}"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        listening.shutdown()
        thread.join()
        listening.server_close()


def _handler(server: WebServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            server.seen.append((self.command, self.path, dict(self.headers.items()), body))
            page = server.pages.get(self.path.split("?")[0])
            try:
                if page is None:
                    self.send_error(404)
                else:
                    page(self)
            except OSError:
                pass  # who asked has left

        do_GET = do_HEAD = do_POST = _answer

        def log_message(self, *_: object) -> None:
            pass

    return Handler
