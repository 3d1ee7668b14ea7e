"""What a user's shell may hold must not reach a test."""

import os
import secrets

import pytest
from s3_server import KEYS, Server

AWS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", *KEYS)
USER_VARIABLES = ("USCL_STORE", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "RAY_ADDRESS", *AWS)


@pytest.fixture(autouse=True, scope="session")
def no_user_settings():
    """Stores, servers and clusters are those that a test starts itself."""
    kept = {name: os.environ.pop(name) for name in USER_VARIABLES if name in os.environ}
    yield
    os.environ.update(kept)


@pytest.fixture
def no_fsync(monkeypatch):
    """For tests that cut no power: what the kernel has is safe, and a busy disk is not waited for."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="session")
def s3_server():
    """An S3 endpoint, started by the first test that asks for it."""
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def bucket(s3_server, monkeypatch):
    """The address of an empty store in a bucket."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    return s3_server.address(f"store-{secrets.token_hex(4)}")


@pytest.fixture(params=["folder", "bucket"])
def any_root(request, tmp_path):
    """An empty store of either kind."""
    return tmp_path / "runs" if request.param == "folder" else request.getfixturevalue("bucket")
