"""T5 and T20 over an MLflow server: killed, restarted, slow, silent, broken, tampered with.

Every sweep has two mirrors: one through a proxy that breaks, one into an SQLite file that nothing happens to. The
events must be those of a sweep without a tracker, and both mirrors must say the same to the last byte of an artifact.
"""

import pytest
from tracked_sweep import (
    TrackedSweep,
    client_of,
    copied_database,
    differences,
    dump,
    runs_of,
    untracked_events,
    wait_for,
)
from tracking_server import ANSWERS, FaultyProxy, TrackingServer

from uscl.tracking import mirror as mirror_module

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # MLflow's own
NUM_CELLS = 6


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = TrackingServer(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
    from uscl.tracking.client import Tracker, short_patience
    from uscl.tracking.location import find_location

    root = tmp_path_factory.mktemp("empty")
    with short_patience():
        Tracker(find_location(root, f"sqlite:///{root}/mlflow.db"), "made")
    return root / "mlflow.db"


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The events of a sweep without a tracker."""
    return untracked_events(tmp_path_factory.mktemp("alone"))


@pytest.fixture
def proxy(server):
    proxy = FaultyProxy(server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def hurried(monkeypatch):
    """A second where the mirror would wait five, so that a test may watch it give up."""
    from uscl.tracking import client

    monkeypatch.setitem(client.PATIENCE, "MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setitem(client.PATIENCE, "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setattr(mirror_module, "RETRY_S", (0.1, 0.3))


@pytest.fixture
def sweep(tmp_path, request, proxy, hurried, empty_database):
    """Mirrored through the proxy (whose warnings are kept) and undisturbed."""
    sweep = TrackedSweep(tmp_path, name=request.node.name.replace("[", "-").strip("]").replace(" ", "-"))
    sweep.undisturbed = copied_database(empty_database, tmp_path / "undisturbed")
    sweep.mirror_to(proxy.url)
    sweep.mirror_to(sweep.undisturbed, warn=pytest.fail)
    yield sweep
    sweep.close()


def check(sweep, server, alone, *, warned=1):
    """To the end of the sweep, then everything that T5 and T20 promise."""
    sweep.run()
    sweep.close()
    assert sweep.events() == alone
    assert len(sweep.warnings) == warned, sweep.warnings
    assert same(sweep, server)


def same(sweep, server):
    """Whether the server says the same of the sweep as the undisturbed mirror; what differs is printed."""
    found = differences(said(sweep, server), dump(sweep.undisturbed, sweep.name))
    print("\n".join(found))
    return not found


def said(sweep, server):
    """By the server's own files: reading over HTTP takes seconds."""
    return dump(server.uri, sweep.name, artifacts=server.artifacts)


def show(sweep, server, *, num_cells=2):
    """Some cells more, and the server has them."""
    sweep.run(num_cells)
    sweep.wait_until_shown(server.uri)


def break_for(sweep, proxy, fault, *, num_cells=1, hits=1):
    """Some cells while the tracker is broken, until the mirror has felt it so often."""
    proxy.hits, proxy.fault = 0, fault
    sweep.run(num_cells)
    wait_for(lambda: proxy.hits >= hits)
    proxy.fault = ""


def test_a_server_that_nothing_happens_to(sweep, server, alone, empty_database, tmp_path):
    show(sweep, server)
    check(sweep, server, alone, warned=0)
    rebuilt = copied_database(empty_database, tmp_path / "rebuilt")
    assert sweep.sync(rebuilt).num_runs == NUM_CELLS
    assert differences(dump(rebuilt, sweep.name), said(sweep, server)) == []


def test_a_server_that_answers_nonsense_and_is_gone_at_the_end(sweep, server, proxy, alone):
    """The mirror catches up after each kind; what the last one kept from it `uscl sync` brings."""
    for fault in ANSWERS:
        break_for(sweep, proxy, fault)
        sweep.wait_until_shown(server.uri)
        if sweep.done == NUM_CELLS - 1:
            break
    proxy.fault = "500"
    sweep.run()
    assert sweep.close() < mirror_module.CLOSE_S / 2, "it answers"
    assert sweep.events() == alone
    assert len(sweep.warnings) == 1
    assert not same(sweep, server)
    proxy.fault = ""
    sweep.sync(proxy.url)
    assert same(sweep, server)


def test_answers_that_are_lost_after_the_deed(sweep, server, proxy, alone):
    """Requests have been carried out, and their sender does not know."""
    for _ in range(4):
        break_for(sweep, proxy, "lost answer", hits=2)
    check(sweep, server, alone)


def test_a_black_hole(sweep, server, proxy, alone):
    show(sweep, server, num_cells=1)
    break_for(sweep, proxy, "black hole", num_cells=3, hits=3)
    check(sweep, server, alone)


def test_requests_that_arrive_long_after_they_were_given_up(sweep, server, proxy, alone):
    """A server so slow that creations, points and old states arrive late, and twice."""
    proxy.late_s = 2.0
    break_for(sweep, proxy, "late", num_cells=2, hits=4)
    sweep.run(1)
    break_for(sweep, proxy, "late", num_cells=1, hits=4)
    show(sweep, server, num_cells=1)
    wait_for(lambda: proxy.held == 0)
    check(sweep, server, alone)


def test_killed_and_restarted(sweep, server, alone):
    show(sweep, server)
    server.kill()
    sweep.run(2)
    wait_for(lambda: sweep.warnings)
    server.start()
    show(sweep, server, num_cells=1)
    check(sweep, server, alone)


def test_an_experiment_deleted_in_the_page(sweep, server, alone):
    show(sweep, server)
    client = client_of(server.uri)
    client.delete_experiment(client.get_experiment_by_name(sweep.name).experiment_id)
    show(sweep, server)
    check(sweep, server, alone)


def test_runs_deleted_and_edited_in_the_page(sweep, server, alone):
    """All of them, the sweep's own too; and then somebody knows better how one ended."""
    show(sweep, server)
    client = client_of(server.uri)
    for run in runs_of(client, sweep.name):
        client.delete_run(run.info.run_id)
    sweep.run(1)
    wait_for(lambda: len(runs_of(client, sweep.name)) >= 4)
    edited = next(run for run in runs_of(client, sweep.name) if "uscl.cell" in run.data.tags)
    client.set_tag(edited.info.run_id, "uscl.sweep", "mine")
    check(sweep, server, alone)
