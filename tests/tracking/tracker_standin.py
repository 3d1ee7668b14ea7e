"""A tracker that obeys, fails or hangs, in place of MLflow: what a mirror does with it takes milliseconds."""

import sys
import types
from contextlib import nullcontext

from uscl.tracking import mirror as mirror_module


class Copies:
    """Stands in for uscl.tracking.copier and client; keeps what it was asked to copy."""

    def __init__(self, monkeypatch):
        self.calls, self.down, self.opened = [], False, 0
        client, copier = types.ModuleType("client"), types.ModuleType("copier")
        client.short_patience, client.is_refusal = nullcontext, lambda error: isinstance(error, ValueError)
        copier.Copier = self._open
        monkeypatch.setitem(sys.modules, "uscl.tracking.client", client)
        monkeypatch.setitem(sys.modules, "uscl.tracking.copier", copier)
        monkeypatch.setattr(mirror_module, "RETRY_S", (0.01,))

    def _open(self, *args, **kwargs):
        self.opened += 1
        if self.down:
            raise ConnectionError("refused\nand more")
        return self

    def copy_parent(self, histories, *, live):
        if self.down:
            raise ConnectionError("refused")
        self.calls.append(("parent", live))

    def copy_cell(self, cell, history_of):
        history = history_of(cell.cell)
        if self.down:
            raise ConnectionError("refused")
        self.calls.append((cell.number, history.state))
        return f"run{cell.number}" if history.state else None

    def require_same_file(self):
        """It is."""

    def kill_strays(self, live):
        self.calls.append(("strays", tuple(live)))
