"""The face that the engine sees of the processes that work together: one, or many under MPI.

Rank 0 leads; the others are workers (a single process is both). Particles are listed by *set*: the two
halves of a gold-standard refinement are sets 0 and 1, a classification has set 0 only. Each worker holds a
contiguous range of the list of one set; the middle one of an odd number of workers holds some of both sets.
The first worker of a set is its *root*.

Every method is collective over the processes that it names: they call it in the same order. Processes that it
does not name may call it or not; they get None and no message is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy.typing as npt

    from .topology import Share

    Array = npt.NDArray[Any]


class Team(Protocol):
    """The processes of one run. `SerialTeam` and `MpiTeam` fill this in."""

    @property
    def rank(self) -> int:
        """Number of this process, 0 for the leader."""

    @property
    def size(self) -> int:
        """Number of processes."""

    @property
    def is_leader(self) -> bool:
        """Whether this process owns the particle table, the schedule and the output files."""

    @property
    def n_sets(self) -> int:
        """2 for halves, 1 for a classification."""

    @property
    def sets(self) -> tuple[int, ...]:
        """The sets of which this process holds particles; empty for a leader with workers."""

    @property
    def roots(self) -> tuple[int, ...]:
        """Rank of the first worker of each set."""

    @property
    def host(self) -> str:
        """Name of the machine of this process."""

    @property
    def local_rank(self) -> int:
        """Number of this process among those of its machine."""

    @property
    def local_size(self) -> int:
        """Number of processes on this machine."""

    @property
    def local_worker(self) -> int:
        """Number of this process among the workers of its machine (0 for the leader): picks the device."""

    @property
    def threads(self) -> int:
        """Processor cores that this process may keep busy."""

    def is_root(self, s: int) -> bool:
        """Whether this process is the first worker of set `s`."""

    def assign(self, counts: Sequence[int] | None) -> dict[int, list[Share]]:
        """Divide the particles among the workers (all processes).

        Parameters
        ----------
        counts
            Number of particles of each set; only the leader's value is used.

        Returns
        -------
        dict
            For each set its shares (rank, start, stop) in the set's order. `sets` and `roots` follow from it.

        Raises
        ------
        InputError
            A set has no particles.
        """

    def my_ranges(self) -> dict[int, tuple[int, int]]:
        """(start, stop) within the ordered list of each set of `sets`."""

    def bcast(self, obj: Any) -> Any:
        """A small Python object of the leader, at all processes. Not for arrays of particles or maps."""

    def allgather(self, obj: Any) -> list[Any]:
        """One small Python object of each process, by rank, at all processes."""

    def bcast_array(self, array: Array | None) -> Array | None:
        """The leader's array (or None), at all processes."""

    def reduce_set(self, s: int, arrays: Sequence[Array]) -> list[Array] | None:
        """Sum over the workers of set `s`, at its root; None elsewhere.

        Parameters
        ----------
        arrays
            float, complex or integer arrays, with the same shapes and dtypes at each worker. The sum keeps
            the dtype. C-contiguous arrays of the root are overwritten with the sums.

        Raises
        ------
        ParallelError
            Shapes or dtypes differ between workers (raised at every worker of the set).
        """

    def allreduce_set(self, s: int, arrays: Sequence[Array]) -> list[Array] | None:
        """As `reduce_set`, with the sums at every worker of the set; the arrays of each are overwritten."""

    def to_leader(self, s: int, array: Array | None) -> Array | None:
        """The array of the root of set `s`, at the leader; None elsewhere."""

    def to_root(self, s: int, array: Array | None) -> Array | None:
        """The leader's array, at the root of set `s`; None elsewhere."""

    def bcast_set(self, s: int, array: Array | None) -> Array | None:
        """The array of the root of set `s`, at each worker of that set; None elsewhere."""

    def from_leader_to_set(self, s: int, array: Array | None) -> Array | None:
        """The leader's array, at the leader and each worker of set `s`; None elsewhere."""

    def gather_rows(self, s: int, array: Array | None) -> Array | None:
        """One row a particle from the workers of set `s`, at the leader, in the order of the set.

        Parameters
        ----------
        array
            (stop - start, ...) rows of this worker's range; None at a leader with workers.

        Returns
        -------
        ndarray or None
            (count of the set, ...) at the leader; None elsewhere.

        Raises
        ------
        ParallelError
            The number of rows is not that of the range, or rows differ in shape or dtype between workers.
        """

    def any(self, flag: bool) -> bool:
        """Whether the flag is set at any process (all processes)."""

    def max(self, x: float) -> float:
        """The largest value over all processes."""

    def barrier(self) -> None:
        """Wait for all processes."""

    def leave(self, timeout_s: float) -> bool:
        """Announce the end of this process' work and wait for the others to do so: False when they don't."""

    def claim_report(self, patience_s: float) -> bool:
        """Whether this process, which failed, is the one to print its fault (not collective).

        One of the processes that fail within `patience_s` of one another is chosen. The run must be aborted
        afterwards: messages may be left unread.
        """

    def sound_alarm(self, reason: str) -> None:
        """Tell all processes that the run should end soon, and why (not collective; from any thread)."""

    def hears_alarm(self) -> str:
        """Reason of another process that sounded the alarm, or nothing (not collective; from any thread)."""

    def abort(self, code: int) -> None:
        """End all processes at once with an exit code (not collective)."""
