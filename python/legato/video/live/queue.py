"""Pictures between two threads of a live run: bounded by time and bytes, oldest first out where none may wait."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

READ_QUEUE = WRITE_QUEUE = 4
Item = TypeVar("Item")


class LiveQueue(Generic[Item]):
    """Items from one thread to another, at most so many."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.dropped = 0
        self._items: deque[Item] = deque()
        self._closed = False
        self._changed = threading.Condition()

    @property
    def waiting(self) -> int:
        """Items in the queue."""
        return len(self._items)

    def put(self, item: Item, drop_after_s: float | None = None) -> bool:
        """Add an item; wait for room, or after a while drop the oldest to make it. False: nobody takes any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self.capacity, drop_after_s)
            if self._closed:
                return False
            if len(self._items) >= self.capacity:
                self._items.popleft()
                self.dropped += 1
            self._items.append(item)
            self._changed.notify_all()
            return True

    def get(self, timeout_s: float | None = None) -> Item | None:
        """Take the oldest item; None after the time, or when the queue is closed and empty (see `over`)."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._items, timeout_s)
            if not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self, discard: bool = False) -> None:
        """Take nothing more; what is in the queue can still be taken, unless it is discarded."""
        with self._changed:
            self._closed = True
            if discard:
                self._items.clear()
            self._changed.notify_all()

    @property
    def over(self) -> bool:
        """Whether the queue is closed and empty."""
        with self._changed:
            return self._closed and not self._items
