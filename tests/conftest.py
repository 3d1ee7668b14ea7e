"""What a user's shell may hold must not reach a test."""

import os

import pytest

USER_VARIABLES = ("USCL_STORE", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "RAY_ADDRESS")


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
