"""A venue's order-book stream with ids, invented for property tests, and the brute-force judge
of what a machine applied.

A `Stream` numbers book states and says which updates lead from one to the next, in the id scheme
of one chain. It is an oracle for the ids alone: it has no prices, and knows nothing of the
machine under test.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from tapecast.feeder.session.sync import NO_ID, SequenceRule

__all__ = ["Stream", "Update"]


class Update(NamedTuple):
    """One update as the venue sends it; `number` counts updates and is not on the wire."""

    number: int
    first: int
    last: int
    prev: int


class Stream:
    """Updates and snapshots of one book."""

    def __init__(self, chain: SequenceRule, rng: random.Random) -> None:
        self._chain = chain
        self._rng = rng
        self._id = rng.randrange(1000, 5000)
        self.updates: list[Update] = []
        self._ids_after: list[int] = [self._id]

    def next(self) -> Update:
        """Return the venue's next update."""
        rng = self._rng
        prev = self._id
        if self._chain is SequenceRule.SPOT:
            first = prev + 1
            self._id = first + rng.randrange(4)
            update = Update(len(self.updates), first, self._id, NO_ID)
        elif self._chain is SequenceRule.PREV:
            first = prev + rng.randrange(1, 4)
            self._id = first + rng.randrange(4)
            update = Update(len(self.updates), first, self._id, prev)
        elif self._chain is SequenceRule.NEXT:
            self._id = prev + 1
            update = Update(len(self.updates), NO_ID, self._id, NO_ID)
        else:
            self._id = prev + rng.choice((0, 1, 3, 8))
            update = Update(len(self.updates), NO_ID, self._id, prev)
        self.updates.append(update)
        self._ids_after.append(self._id)
        return update

    def snapshot(self) -> int:
        """Return the id of a snapshot of the book as it is now; some venues cut it inside an
        update's range.
        """
        if (
            self._chain in (SequenceRule.SPOT, SequenceRule.PREV)
            and self.updates
            and self._rng.random() < 0.3
        ):
            update = self.updates[-1]
            return self._rng.randrange(
                update.first - (self._chain is SequenceRule.SPOT), update.last + 1
            )
        return self._id

    def joins(self, snapshot: int) -> set[int]:
        """Return the numbers of updates of which each alone may be the first applied after a
        snapshot with this id.

        For an id inside an update's range that update itself must be applied; for one at its end
        the next one, or that one again.
        """
        allowed: set[int] = set()
        for update in self.updates:
            before = self._ids_after[update.number]
            if self._chain is SequenceRule.SPOT:
                if update.first <= snapshot + 1 <= update.last + 1:
                    allowed.add(update.number)
            elif before <= snapshot <= update.last:
                allowed.add(update.number)
        return allowed

    def follows(self, previous: int, number: int) -> bool:
        """Whether the book is right when update `number` is applied after `previous`: nothing
        between them changes it.
        """
        if number == previous + 1:
            return True
        if number <= previous:
            # A repetition of an update that changed no id is an empty one.
            return (
                self._ids_after[number]
                == self._ids_after[number + 1]
                == self._ids_after[previous + 1]
            )
        return all(
            self._ids_after[n] == self._ids_after[n + 1] for n in range(previous + 1, number)
        )
