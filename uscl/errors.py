"""Every error a user of `uscl` may meet.

UsclError            a user's mistake or a broken environment: one clear line, exit code 2, no traceback
├── SpecError        the sweep file or a command line asks for something impossible
├── DataError        a clip, mask, dataset or split is not what it must be
├── TrialError       a trial cannot go on for a reason that is no bug of ours
├── StoreError       the store cannot be read, written or trusted
│   └── LeaseHeld    another driver holds this sweep: exit code 4
└── ClusterError     Ray, a node or a GPU is not as the sweep needs it
"""


class UsclError(Exception):
    """A mistake that the message explains: what is wrong, where, and what would be right."""

    exit_code = 2


class SpecError(UsclError):
    """The sweep file or the command line asks for something unknown, ill-typed or impossible."""


class DataError(UsclError):
    """A clip, mask, dataset or split is not what it must be."""


class TrialError(UsclError):
    """A trial cannot go on, and not because of a bug: a stage that no node can see, a lost parent."""


class StoreError(UsclError):
    """The store cannot be read, written or trusted."""


class LeaseHeld(StoreError):
    """Another driver runs this sweep; the message names its process and host."""

    exit_code = 4


class ClusterError(UsclError):
    """Ray, a node or a GPU is not as the sweep needs it."""
