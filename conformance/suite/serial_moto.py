"""moto's S3 server, one request at a time: it looks at a condition and writes without a lock between."""

import sys
import threading
from collections.abc import Callable, Iterable

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple


class OneAtATime:
    """Answers a request when the one before has been answered."""

    def __init__(self, application: Callable) -> None:
        self.application = application
        self.lock = threading.Lock()

    def __call__(self, environ: dict, start_response: Callable) -> Iterable[bytes]:
        with self.lock:
            return list(self.application(environ, start_response))


if __name__ == "__main__":
    host, port = sys.argv[1:]
    run_simple(host, int(port), OneAtATime(DomainDispatcherApplication(create_backend_app)),
               threaded=True)
