"""An address where no Ray answers ends in one line, in seconds, before anything is made."""

import socket

import pytest

from uscl.errors import ClusterError
from uscl.sweep import address
from uscl.sweep.address import reachable_address


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
    assert refusal(where).startswith(f"--address {where}: no Ray answers there (")


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


def test_somebody_else_listens(listening, monkeypatch):
    monkeypatch.setattr(address, "_is_ray", lambda where: False)
    assert "does not answer as Ray" in refusal(listening)
    monkeypatch.setattr(address, "_is_ray", lambda where: True)
    assert reachable_address(listening) == listening


@pytest.mark.slow
def test_the_question_to_a_mute_listener_ends(listening, monkeypatch):
    monkeypatch.setattr(address, "ANSWER_S", 8.0)
    assert "does not answer as Ray" in refusal(listening)
