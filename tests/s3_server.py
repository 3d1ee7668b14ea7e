"""An S3 endpoint on loopback: moto in a process of its own, and a wire in front of it that can be cut."""

import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

BUCKET = "uscl-tests"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing-secret"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A moto server with one bucket."""

    def __init__(self):
        self.port = free_port()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | KEYS,
        )  # fmt: skip
        self._await()
        from pyarrow.fs import S3FileSystem

        self.system = S3FileSystem(
            endpoint_override=f"127.0.0.1:{self.port}", scheme="http", region="us-east-1", allow_bucket_creation=True,
            access_key=KEYS["AWS_ACCESS_KEY_ID"], secret_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        )  # fmt: skip
        self.system.create_dir(BUCKET)

    def _await(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            assert self._process.poll() is None, "moto_server ended"
            time.sleep(0.05)
        raise AssertionError("moto_server does not answer")

    def address(self, prefix, *, port=None, bucket=BUCKET):
        """The address of a store in the bucket."""
        return f"s3://{bucket}/{prefix}?endpoint_override=127.0.0.1:{port or self.port}&scheme=http&region=us-east-1"

    def stop(self):
        self._process.kill()
        self._process.wait()


class Wire:
    """Forwards a port of its own to the server while it is not cut."""

    def __init__(self, port):
        self.port, self._target = free_port(), port
        self._listener, self._open, self._lock = None, [], threading.Lock()
        self.mend()

    def mend(self):
        """Listen (again)."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def cut(self):
        """Refuse whoever comes, and drop who is there."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for side in self._open:
                with suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)
                side.close()
            self._open.clear()

    def _serve(self, listener):
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            with self._lock:
                self._open += [near, far]
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(source, target), daemon=True).start()


def _pump(source, target):
    with suppress(OSError):
        while chunk := source.recv(65536):
            target.sendall(chunk)
    for side in (source, target):
        with suppress(OSError):
            side.shutdown(socket.SHUT_RDWR)
