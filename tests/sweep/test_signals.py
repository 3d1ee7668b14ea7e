"""Which signals count as a request to stop."""

import os
import signal

from uscl.sweep import signals
from uscl.sweep.signals import stop_requests


def test_what_timeout_sends_twice_is_one_request_and_a_later_one_is_the_second(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    with stop_requests() as requests:
        requests.install()
        os.kill(os.getpid(), signal.SIGTERM)
        now[0] += 0.01
        os.kill(os.getpid(), signal.SIGTERM)
        assert requests.count == 1 and not requests.hard and requests.exit_code == 143
        now[0] += 0.5
        os.kill(os.getpid(), signal.SIGINT)
        assert requests.hard and requests.exit_code == 143, "the first signal names the exit code"
