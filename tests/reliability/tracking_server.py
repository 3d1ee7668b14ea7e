"""An MLflow server on loopback that a test can kill and start again, and a proxy before it that breaks on demand."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST = "127.0.0.1"
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def free_port():
    """One that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


class TrackingServer:
    """`mlflow server` with one worker over a database and an artifact folder of its own."""

    def __init__(self, folder, *, database=None):
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.uri = database or f"sqlite:///{folder}/server.db"
        self.artifacts = folder / "artifacts"
        self._command = [
            sys.executable, "-m", "mlflow", "server", "--backend-store-uri", self.uri, "--host", HOST,
            "--port", str(self.port), "--workers", "1", "--artifacts-destination", str(self.artifacts),
        ]  # fmt: skip
        self._process = None

    def start(self, *, wait=True):
        """Start it; with `wait` until it answers."""
        self._process = subprocess.Popen(
            self._command, env=os.environ | QUIET, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while wait and not self.answers():
            assert self._process.poll() is None, "the server ended"
            time.sleep(0.1)

    def answers(self):
        """Whether it serves."""
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def kill(self):
        """kill -9 of the server and its workers."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


PAGE = b"<!doctype html><html><body><h1>502 Bad Gateway</h1></body></html>"
ANSWERS = {
    "500": (500, {}, b'{"error_code": "INTERNAL_ERROR", "message": "boom"}'),
    "503": (503, {"Retry-After": "3600"}, b""),
    "429": (429, {"Retry-After": "3600"}, b"slow down"),
    "404 page": (404, {"Content-Type": "text/html"}, PAGE),
    "200 page": (200, {"Content-Type": "text/html"}, PAGE),
    "torn JSON": (200, {"Content-Type": "application/json"}, b'{"runs": [{"info": {"run_id": "ab'),
}
"""What a broken server or something before it says, instead of asking the server."""


class FaultyProxy:
    """Hands requests on to a server, unless `fault` says otherwise."""

    def __init__(self, target_port):
        self.fault, self.late_s, self.hits, self.held = "", 0.0, 0, 0
        self._target_port, self._release = target_port, threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self):
                proxy.serve(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

            def log_message(self, *args):
                """Quiet."""

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads, self._server.block_on_close = True, False
        self.url = f"http://{HOST}:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def serve(self, request):
        """One request."""
        fault, late_s = self.fault, self.late_s
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        self.hits += bool(fault)
        if fault == "black hole":
            self._release.wait(60)
            request.close_connection = True
        elif fault in ANSWERS:
            self._reply(request, *ANSWERS[fault])
        else:
            self.held += 1
            if fault == "late":  # it reaches the server, long after its sender gave up
                self._release.wait(late_s)
            answer = self._ask(request, body)
            self.held -= 1
            if fault in ("late", "lost answer"):
                request.close_connection = True
            else:
                self._reply(request, *answer)

    def close(self):
        """Stop listening, let everything go."""
        self._release.set()
        self._server.shutdown()
        self._server.server_close()

    def _ask(self, request, body):
        connection = http.client.HTTPConnection(HOST, self._target_port, timeout=60)
        try:
            headers = {k: v for k, v in request.headers.items() if k.lower() not in ("connection", "accept-encoding")}
            connection.request(request.command, request.path, body or None, headers)
            answer = connection.getresponse()
            kept = {k: v for k, v in answer.headers.items() if k.lower() == "content-type"}
            return answer.status, kept, answer.read()
        except OSError:
            return 502, {}, b"bad gateway"
        finally:
            connection.close()

    def _reply(self, request, status, headers, content):
        try:
            request.send_response(status)
            for name, value in headers.items():
                request.send_header(name, value)
            request.send_header("Content-Length", str(len(content)))
            request.end_headers()
            request.wfile.write(content)
        except OSError:  # its sender gave up
            request.close_connection = True
