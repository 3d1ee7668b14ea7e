"""The three classes that Ray Tune calls: trainable, searcher, callback. They forward, and decide nothing.

Every hook is guarded: an exception in one would end the whole experiment (sweep-engine.md 2.1).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from ray import tune
from ray.exceptions import RayTaskError
from ray.tune.search import Searcher

from uscl.records import Failed, TrialEvent, event_from_json, event_to_json
from uscl.store.strict_json import decode_json, encode_json
from uscl.sweep.dispatch import Dispatch
from uscl.sweep.failures import death_of, failure_of
from uscl.sweep.nodes import Needs
from uscl.sweep.order import LAST_EVENTS, TrialOrder, node_name, work
from uscl.sweep.preflight import unfit_here
from uscl.sweep.queue import Turn

EVENT, NODE = "uscl_event", "uscl_node"
_MESSAGE_CHARS = 2_000

log = logging.getLogger(__name__)


class CellTrainable(tune.Trainable):
    """One trial at a time in a Ray actor. `setup` and `reset_config` only keep the order: `reset_config` returning
    False would lose the trial silently, and `setup` also runs in actors that are then thrown away."""

    def setup(self, config: dict[str, Any]) -> None:
        """Keep the order."""
        self._keep(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Keep the next order; this actor is reused."""
        self._keep(new_config)
        return True

    def _keep(self, config: dict[str, Any]) -> None:
        self._order = config["order"]
        self._events: Iterator[TrialEvent] | None = None

    def step(self) -> dict[str, Any]:
        """The next event of the trial; the first call says where it runs, should its process die without a word."""
        if self._events is None:
            self._events = _begin(TrialOrder.from_json(decode_json(self._order)))
            return {NODE: node_name(), "done": False}
        event = next(self._events)
        # one string: Tune flattens dicts, and a NaN is no JSON
        return {
            EVENT: encode_json(event_to_json(event)).decode(),
            NODE: node_name(),
            "done": isinstance(event, LAST_EVENTS),
        }


def _begin(order: TrialOrder) -> Iterator[TrialEvent]:
    """The trial's events; on a node that joined unfit after the preflight, a failure that is nobody's bug."""
    if order.needs:
        needs = Needs(**order.needs)
        reason = unfit_here(needs, session_path=order.session_path, gpu=order.device == "cuda")
        if reason:
            yield Failed("store", reason, "")
            return
    yield from work(order)


def _guarded(default: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Keep an exception in a hook from ending the experiment: it is kept, the sweep drains, `default` is returned."""

    def decorate(hook: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap one hook."""

        @functools.wraps(hook)
        def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
            """The hook, or `default`."""
            try:
                return hook(self, *args, **kwargs)
            except Exception as error:
                self.dispatch.broken(error)
                return default

        return guarded

    return decorate


class CellSearcher(Searcher):
    """Hands Tune the queue's orders."""

    def __init__(self, dispatch: Dispatch) -> None:
        super().__init__()
        self.dispatch = dispatch

    @_guarded(Searcher.FINISHED)
    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """An order, None for "not now", or FINISHED."""
        taken = self.dispatch.take(trial_id)
        if isinstance(taken, Turn):
            return Searcher.FINISHED if taken is Turn.FINISHED else None
        return {"order": encode_json(taken.to_json()).decode()}

    @_guarded(None)
    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The final event, in case the callback did not see it. Errors reach `on_trial_error`, with their text."""
        if not error and result and EVENT in result:
            _forward(self.dispatch, trial_id, result)

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Nothing to set: the queue has no metric."""
        return True

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: a new start plans from the store."""

    def restore(self, checkpoint_path: str) -> None:
        """Never used."""

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its settings into the scratch folder; nothing of ours is in there."""
        return {}


class EventCallback(tune.Callback):
    """Forwards results and errors."""

    def __init__(self, dispatch: Dispatch) -> None:
        self.dispatch = dispatch
        self._known: dict[str, Any] = {}

    @_guarded(None)
    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        """An event of a trial, the last one included."""
        if EVENT in result:
            _forward(self.dispatch, trial.trial_id, result)
        elif NODE in result:
            self.dispatch.started(trial.trial_id, node=str(result[NODE]))

    @_guarded(None)
    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """The trial's process is gone, or Ray could not start it."""
        self.dispatch.gone(trial.trial_id, _failed(trial))

    @_guarded(None)
    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        """Compare the queue's live trials with Tune's."""
        for trial in trials[len(self._known) :]:  # Tune only ever appends to its list
            self._known[trial.trial_id] = trial
        live = (self._known[name] for name in self.dispatch.live_trials() if name in self._known)
        self.dispatch.look_for_lost({trial.trial_id: not trial.is_finished() for trial in live})

    def __getstate__(self) -> dict[str, Any]:
        """As CellSearcher's."""
        return {}


def _forward(dispatch: Dispatch, trial: str, result: dict[str, Any]) -> None:
    dispatch.event(trial, event_from_json(decode_json(result[EVENT])), node=str(result.get(NODE, "")))


def _failed(trial: Any) -> Failed:
    """By the exception where Python code in the actor raised outside a trial; else the process or node died."""
    text, error = "", None
    try:
        text = str(trial.get_error() or "")[-_MESSAGE_CHARS:]
        error = trial.get_pickled_error()
    except Exception as unreadable:  # an error that cannot be unpickled here is still a death
        log.debug("no error to read: %s", unreadable)
    if isinstance(error, RayTaskError):
        return replace(failure_of(error.cause), traceback=text)
    return death_of(f"{type(error).__name__}: {text}")
