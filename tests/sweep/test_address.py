"""An address where no Ray answers ends in one line, in seconds, before anything is made."""

import os
import socket

import pytest

from uscl.errors import ClusterError
from uscl.sweep import address
from uscl.sweep.address import Answer, RayAddress, reachable_address, token_source


@pytest.fixture
def listening():
    """host:port of somebody who takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def closed_port():
    """host:port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"127.0.0.1:{port}"


def refusal(text):
    """The one line."""
    with pytest.raises(ClusterError) as refused:
        reachable_address(text)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_nobody_listens():
    where = closed_port()
    assert refusal(where).startswith(f"--address {where}: no Ray answers there; is")


@pytest.mark.parametrize("text", ["here", "ray://127.0.0.1:10001", "host:", ":6379", ""])
def test_no_address(text):
    assert "expected 'auto' or host:port" in refusal(text)


def test_auto_reads_the_note_of_ray_start_and_the_environment_first(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert "--address auto: no Ray was started on this machine" in refusal("auto")
    noted, given = closed_port(), closed_port()
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(noted + "\n")
    assert f"--address auto ({noted}): no Ray answers there" in refusal("auto")
    monkeypatch.setenv("RAY_ADDRESS", given)
    assert f"--address auto ({given}): no Ray answers there" in refusal("auto")


def answering(monkeypatch, **modes):
    """The health check, by mode of authentication."""
    monkeypatch.setattr(address, "_ask", lambda where, mode: modes[mode])


@pytest.fixture
def no_token(monkeypatch, tmp_path):
    """A user who never had a token for Ray."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_somebody_else_listens(listening, monkeypatch):
    answering(monkeypatch, disabled=Answer.OTHER)
    assert "does not answer as Ray" in refusal(listening)


def test_a_cluster_without_a_token_is_spoken_to_without_one(listening, monkeypatch):
    """With a token its actors would die without a word, so one that lies here is not shown."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", "x")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    answering(monkeypatch, disabled=Answer.RAY)
    found = reachable_address(listening)
    assert found == RayAddress(listening, "disabled")
    found.enter()
    assert os.environ["RAY_AUTH_MODE"] == "disabled"


def test_a_cluster_that_asks_for_a_token(listening, monkeypatch, no_token):
    answering(monkeypatch, disabled=Answer.REFUSED, token=Answer.RAY)
    assert "asks for a token and there is none on this machine; on the head `ray get-auth-token`" in refusal(listening)
    (no_token / ".ray").mkdir()
    (no_token / ".ray" / "auth_token").write_text("secret")
    assert reachable_address(listening) == RayAddress(listening, "token")


def test_a_token_of_another_cluster(listening, monkeypatch, no_token):
    answering(monkeypatch, disabled=Answer.REFUSED, token=Answer.REFUSED)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    said = refusal(listening)
    assert "the cluster refuses the token of RAY_AUTH_TOKEN" in said and "secret" not in said


def test_the_token_is_looked_for_as_ray_does(monkeypatch, no_token):
    assert token_source() == ""
    (no_token / ".ray").mkdir()
    (no_token / ".ray" / "auth_token").write_text("a")
    assert token_source() == "~/.ray/auth_token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(no_token / "other"))
    assert token_source() == "", "Ray does not look further either"
    (no_token / "other").write_text("b")
    assert token_source() == f"RAY_AUTH_TOKEN_PATH={no_token / 'other'}"


@pytest.mark.slow
def test_the_question_to_a_mute_listener_ends(listening, monkeypatch):
    monkeypatch.setattr(address, "ANSWER_S", 8.0)
    assert "does not answer as Ray" in refusal(listening)
