"""Objects with state: one thread at a time works on them, and the others wait for their turn."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

__all__ = ["Turns", "one_at_a_time"]


class Turns:
    """The lock of one object; a copy or a pickle of the object gets another.

    The thread that holds it may take it again, so that methods may call one another.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        import threading  # here, since whoever imports Legato may make no such object

        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[Turns], tuple[()]]:
        return Turns, ()


Method = TypeVar("Method", bound=Callable[..., Any])


def one_at_a_time(method: Method) -> Method:
    """Make a method take its object's turn, ``self._turns``."""

    @functools.wraps(method)
    def in_turn(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        with self._turns._lock:  # itself: to go by the methods of Turns takes half a microsecond
            return method(self, *args, **kwargs)

    return cast(Method, in_turn)
