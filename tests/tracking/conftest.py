"""Nothing here may reach a server that the user has set."""

import pytest


@pytest.fixture(autouse=True)
def no_user_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
