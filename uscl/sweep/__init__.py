"""Many trials: the plan, the queue, and the one room that knows Ray."""
