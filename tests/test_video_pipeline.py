"""Stages on threads: order kept, errors told, nobody left waiting."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from legato.video import pipeline
from legato.video.pipeline import DEPTH, Consumer, Producer, Stopwatch


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("legato-")]


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    assert threads() == []


@pytest.mark.parametrize("count", [0, 1, DEPTH, 100])
def test_items_come_in_order_and_none_is_lost(count: int) -> None:
    got: list[int] = []
    with Producer(range(count), "make") as items, Consumer(got.append, "take") as give:
        for item in items:
            give(item)
    assert got == list(range(count))


def test_a_producer_is_only_a_few_items_ahead_and_ends_early() -> None:
    made: list[int] = []

    def endless() -> Iterator[int]:
        for item in itertools.count():
            made.append(item)
            yield item

    with Producer(endless(), "make") as items:
        first = list(itertools.islice(items, 3))
        time.sleep(0.05)
        assert len(made) <= 3 + DEPTH + 1
    assert first == [0, 1, 2]


@pytest.mark.parametrize("good", [0, 1, 50])
def test_an_error_of_the_producer_comes_after_its_last_item(good: int) -> None:
    def failing() -> Iterator[int]:
        yield from range(good)
        raise ZeroDivisionError

    got: list[int] = []

    def work() -> None:
        with Producer(failing(), "make") as items:
            got.extend(items)

    with pytest.raises(ZeroDivisionError):
        work()
    assert got == list(range(good))


@pytest.mark.parametrize("bad", [0, 3, 99])
def test_an_error_of_the_consumer_reaches_who_gives(bad: int) -> None:
    def take(item: int) -> None:
        if item == bad:
            raise ZeroDivisionError

    def work() -> None:
        with Consumer(take, "take") as give:
            for item in range(100):
                give(item)

    with pytest.raises(ZeroDivisionError):
        work()


def test_who_waits_for_room_hears_of_an_error() -> None:
    def take(_item: int) -> None:
        time.sleep(0.05)  # the queue is full by then
        raise ZeroDivisionError

    def work() -> None:
        with Consumer(take, "take") as give:
            for item in range(DEPTH + 1):
                give(item)
            give(DEPTH + 1)

    with pytest.raises(ZeroDivisionError):
        work()


def test_after_an_error_of_the_caller_what_waits_is_dropped() -> None:
    taken: list[int] = []
    gate = threading.Event()

    def take(item: int) -> None:
        gate.wait(5)
        taken.append(item)

    def work() -> None:
        with Producer(itertools.count(), "make") as items, Consumer(take, "take") as give:
            for item in items:
                if item == DEPTH:
                    gate.set()
                    raise KeyboardInterrupt
                give(item)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert taken == list(range(len(taken)))


def test_the_stopwatch_counts_stages_apart() -> None:
    watch = Stopwatch()
    with watch("a"):
        time.sleep(0.02)
    for _ in watch.steps(iter(range(3)), "b"):
        with watch("a"):
            time.sleep(0.01)
    assert watch.seconds["a"] >= 0.05
    assert watch.seconds["b"] < watch.seconds["a"]
    assert watch.total >= watch.seconds["a"]


def test_the_work_of_a_long_stage_is_told_from_a_part_of_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, worked, readings = 0.0, 0.0, 0

    def read() -> float:
        nonlocal readings
        readings += 1
        return worked

    monkeypatch.setattr(pipeline.time, "perf_counter", lambda: clock)
    monkeypatch.setattr(pipeline.time, "thread_time", read)
    watch = Stopwatch()
    for block in range(1000):
        with watch("long"):
            clock, worked = clock + 1, worked + (0.25 if block % 16 < 8 else 0.75)
        worked += 3  # between the blocks
        if block < 5:
            with watch("short"):
                clock, worked = clock + 2, worked + 1
    assert watch.seconds == pytest.approx({"long": 1000, "short": 10})
    assert watch.work == pytest.approx({"long": 500, "short": 5}, rel=0.01)
    assert readings < 400


def test_runs_beside_each_other_share_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_free_memory", lambda: 4000)
    with pipeline.room_for_pictures() as first, pipeline.room_for_pictures() as second:
        assert (first, second) == (1000, 750)
        monkeypatch.setattr(pipeline, "_free_memory", lambda: 1000)
        with pipeline.room_for_pictures() as third:
            assert third == 0
    monkeypatch.setattr(pipeline, "_free_memory", lambda: 1 << 50)
    with pipeline.room_for_pictures() as alone:
        assert alone == 2 << 30
