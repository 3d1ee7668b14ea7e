"""What only a bucket can do: its address, its refusals in one line, an endpoint that goes away, uploads that fail."""

import http.server
import re
import threading
import time

import pytest
from s3_server import KEYS, Wire

from uscl.errors import StoreError
from uscl.store import appended, s3_files
from uscl.store.appended import AppendedFile
from uscl.store.files import StoreFull
from uscl.store.roots import cache_folder, data_folder, open_files, store_root
from uscl.store.s3_root import S3Root
from uscl.store.sweeps import SweepFolder

# ---- addresses


@pytest.mark.parametrize(
    ("text", "root"),
    [
        ("s3://bucket", S3Root("bucket")),
        ("s3://bucket/", S3Root("bucket")),
        ("s3://bucket/a/b/?region=eu-west-1", S3Root("bucket", "a/b", region="eu-west-1")),
        ("s3://b-1/a?endpoint_override=host:9000&scheme=http", S3Root("b-1", "a", "host:9000", "http")),
        ("s3://b-1/a?endpoint_override=http://host:9000", S3Root("b-1", "a", "host:9000", "http")),
        ("s3://b-1/a%20b", S3Root("b-1", "a b")),
    ],
)
def test_an_address_is_read_and_prints_as_one_that_means_the_same(text, root):
    assert store_root(text) == root == store_root(str(root))


def test_the_service_may_come_from_the_environment_and_travels_with_the_address(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://minio.lab:9000/")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    root = store_root("s3://bucket/runs")
    assert root == S3Root("bucket", "runs", "minio.lab:9000", "https", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://10.0.0.1:8000")
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    assert store_root("s3://bucket/runs") == S3Root("bucket", "runs", "10.0.0.1:8000", "http", "us-west-2")
    assert store_root("s3://bucket/runs?endpoint_override=other:1&scheme=http").endpoint == "other:1"
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    assert store_root(str(root)) == root, "as a worker reads it, whose environment knows nothing"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s3://key:hunter2@bucket/a", "s3://bucket...: no credentials in a store's address, it is printed and kept; "),
        ("s3://bucket?secret_key=hunter2", "s3://bucket...: unknown 'secret_key'; after the ? go endpoint_override, "),
        ("s3://bucket?endpoint_override=http://key:hunter2@host", "S3 endpoint host: expected http://host:port or "),
        ("s3:///a", "s3:///a: expected s3://bucket/prefix"),
        ("s3://", "s3://: expected s3://bucket/prefix"),
        ("s3://Bucket_/x", "s3://Bucket_/x: expected s3://bucket/prefix"),
    ],
)
def test_an_address_that_is_refused_names_no_secret(text, message):
    with pytest.raises(StoreError) as caught:
        store_root(text)
    assert str(caught.value).startswith(message)
    assert "hunter2" not in str(caught.value)


def test_datasets_of_a_bucket_lie_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data_folder(S3Root("bucket", "runs")) == cache_folder() / "data" == tmp_path / "uscl" / "data"
    assert data_folder(tmp_path / "runs") == tmp_path / "runs" / "data"


# ---- a service that refuses


class Stub:
    """Answers as told, and notes what it was asked."""

    def __init__(self):
        self.asked, self.answer = [], lambda method, path: (200, "")
        stub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self):
                self._read_body()
                stub.asked.append(f"{self.command} {self.path}")
                code, body = stub.answer(self.command, self.path)
                self.send_response(code)
                self.send_header("ETag", '"0"')
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body.encode())

            def _read_body(self):
                if self.headers.get("Transfer-Encoding") != "chunked":
                    self.rfile.read(int(self.headers.get("Content-Length") or 0))
                    return
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    self.rfile.read(size + 2)
                self.rfile.readline()

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _any

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.files = open_files(
            f"s3://bucket/runs?endpoint_override=127.0.0.1:{self.server.server_port}&scheme=http&region=us-east-1"
        )

    def refuse(self, code, name):
        self.answer = lambda method, path: (code, f"<Error><Code>{name}</Code><Message>no.</Message></Error>")


@pytest.fixture
def stub(monkeypatch):
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(s3_files, "ATTEMPTS", 1)
    s3_files._connect.cache_clear()  # a port may come again, and a kept connection to what listened there fails
    stub = Stub()
    yield stub
    stub.server.shutdown()
    stub.server.server_close()


@pytest.mark.parametrize(
    ("code", "name", "message"),
    [
        (403, "AccessDenied", r"cannot {what}: refused \(AWS Error .*; may the credentials in AWS_ACCESS_KEY_ID "),
        (
            403,
            "InvalidAccessKeyId",
            r"cannot {what}: refused \(AWS Error .*; may the credentials in AWS_ACCESS_KEY_ID ",
        ),
        (301, "PermanentRedirect", r"cannot {what}: the bucket is not in region 'us-east-1' .*; set AWS_REGION or "),
        (503, "SlowDown", r"cannot {what}: AWS Error "),
    ],
)
def test_a_refusal_is_one_clear_line(stub, code, name, message):
    stub.refuse(code, name)
    for what, act in [
        ("write", lambda: stub.files.write("a", b"x")),
        ("read", lambda: stub.files.read("a")),
        ("list", lambda: stub.files.list("a")),
        ("look at", lambda: stub.files.exists("a")),
    ]:
        with pytest.raises(StoreError, match="^s3://bucket/runs/a: " + message.format(what=what)) as caught:
            act()
        assert "\n" not in str(caught.value) and KEYS["AWS_SECRET_ACCESS_KEY"] not in str(caught.value)


def test_a_full_service_is_a_full_store(stub):
    stub.refuse(507, "XMinioStorageFull")
    with pytest.raises(StoreFull, match=r"^s3://bucket/runs/a: no space left \(.*\); free some, then start again"):
        stub.files.write("a", b"x")


def test_a_small_file_is_one_put(stub):
    stub.files.write("a", b"x" * 100_000)
    assert stub.asked == ["PUT /bucket/runs/a"]


def test_a_large_upload_that_fails_in_the_middle_publishes_nothing(stub):
    def answer(method, path):
        if method == "POST" and path.endswith("?uploads"):
            return 200, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
        return (403, "<Error><Code>AccessDenied</Code></Error>") if "partNumber=2" in path else (200, "")

    stub.answer = answer
    with pytest.raises(StoreError, match="cannot write"):
        stub.files.write("big", bytes(25_000_000))
    time.sleep(0.2)
    assert any("partNumber=1" in asked for asked in stub.asked)
    assert not [asked for asked in stub.asked if re.fullmatch(r"POST /bucket/runs/big\?uploadId=u", asked)]


def test_a_bucket_that_is_not_there_is_said_wherever_it_is_asked(bucket):
    files = open_files(bucket.replace("uscl-tests", "uscl-none"))
    message = r"there is no bucket 'uscl-none' at http://127\.0\.0\.1:\d+; make it first, or check its name and region$"
    for act in (lambda: files.read_if_there("a"), lambda: files.list("a"), lambda: files.write("a", b"")):
        with pytest.raises(StoreError, match=message):
            act()


# ---- a service that goes away


@pytest.fixture
def wire(s3_server, bucket, monkeypatch):
    """An address over a wire that can be cut."""
    monkeypatch.setattr(s3_files, "ATTEMPTS", 1)
    monkeypatch.setattr(s3_files, "PAUSE_S", 0.1)
    s3_files._connect.cache_clear()
    wire = Wire(s3_server.port)
    wire.address = bucket.replace(f":{s3_server.port}", f":{wire.port}")
    yield wire
    wire.cut()


def test_a_service_that_never_answered_is_told_at_once(wire):
    wire.cut()
    with pytest.raises(StoreError, match=r"cannot write: no answer from http://127\.0\.0\.1:\d+ \(AWS Error NETWORK_"):
        open_files(wire.address).write("a", b"")


def test_a_service_that_has_answered_is_waited_for(wire):
    files = open_files(wire.address)
    files.write("a", b"1")
    wire.cut()
    threading.Timer(0.7, wire.mend).start()
    started = time.monotonic()
    files.write("a", b"2")
    assert files.read("a") == b"2" and time.monotonic() - started > 0.5
    wire.cut()
    with pytest.raises(StoreError, match="no answer from"):
        open_files(wire.address, patience_s=0.3).write("a", b"3")


def test_events_written_while_it_is_away_arrive_when_it_is_back(wire, monkeypatch, caplog):
    monkeypatch.setattr(appended, "EVERY_S", 0.05)
    folder = SweepFolder(wire.address, "temporal")
    folder.append_event({"number": 0})
    wire.cut()
    folder.append_event({"number": 1})
    deadline = time.monotonic() + 20
    while "is kept until it answers" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.02)
    wire.mend()
    while len(SweepFolder(wire.address, "temporal").read_events()) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [event["number"] for event in folder.read_events()] == [0, 1]
    AppendedFile.close(str(folder.path / "events.jsonl"))


def test_what_rewriting_costs_is_bounded(monkeypatch):
    """A thousand lines in a burst are a handful of writes, and the last of them has all."""

    class Memory:
        def __init__(self):
            self.writes = []

        def write(self, name, content):
            self.writes.append(content)

        def read_if_there(self, name):
            return None

    memory = Memory()
    monkeypatch.setattr(appended, "EVERY_S", 0.05)
    lines = AppendedFile.of("memory", memory, "events.jsonl")
    for number in range(1000):
        lines.add(b"%d" % number)
    AppendedFile.close("memory")
    assert memory.writes[-1] == b"".join(b"%d\n" % number for number in range(1000))
    assert len(memory.writes) < 50
