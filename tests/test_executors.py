"""Engines of others run the videos: the same bytes as here, also where workers are killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from clips import leftovers, shaky, write_clip
from legato import video
from legato._executors import submitted
from legato.errors import ArgumentError

pytest.importorskip("av", reason="needs PyAV")

FAST = {"encoder_preset": "ultrafast"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    return [write_clip(folder / f"{n}.mp4", shaky(24, (96, 64), seed=n)) for n in range(3)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_threads_and_processes_give_the_same_files(clips: list[Path], tmp_path: Path) -> None:
    for name in ("here", "threads", "processes"):
        (tmp_path / name).mkdir()
    video.stabilize_all(clips, video.result_paths(clips, tmp_path / "here"), **FAST)
    (tmp_path / "bad.mp4").write_text("no video")
    sources = [clips[0], tmp_path / "bad.mp4", *clips[1:]]
    for name, engine in (
        ("threads", ThreadPoolExecutor(2)),
        ("processes", ProcessPoolExecutor(1, mp_context=get_context("spawn"))),
    ):
        told: list[str] = []
        with engine:
            items = video.stabilize_all(
                sources,
                video.result_paths(sources, tmp_path / name),
                executor=engine,
                tell=lambda item, told=told: told.append(item.status),
                **FAST,
            )
        assert [item.status for item in items] == told == ["done", "failed", "done", "done"]
        assert [item.source for item in items] == sources
        assert "not a video" in str(items[1].error)
        assert items[0].report is not None
        assert items[0].report.frames == 24
        assert contents(tmp_path / name) == contents(tmp_path / "here")


def test_what_is_no_executor_and_what_excludes_it(clips: list[Path], tmp_path: Path) -> None:
    results = video.result_paths(clips, tmp_path)
    with pytest.raises(ArgumentError, match="executor: expected an object with submit"):
        video.stabilize_all(clips, results, executor=map, **FAST)  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as engine, pytest.raises(ArgumentError, match="jobs"):
        video.stabilize_all(clips, results, executor=engine, jobs=2, **FAST)
    with ThreadPoolExecutor(1) as engine, pytest.raises(ArgumentError, match="crop"):
        video.stabilize_all(clips, results, executor=engine, crop=3, **FAST)


class Broken:
    """An engine whose workers are gone."""

    def submit(self, fn: Any, /, *args: Any) -> Future[Any]:
        del fn, args
        task: Future[Any] = Future()
        task.set_exception(RuntimeError("the worker is gone"))
        return task


def test_a_failed_engine_is_a_failed_video(clips: list[Path], tmp_path: Path) -> None:
    items = video.stabilize_all(clips, video.result_paths(clips, tmp_path), executor=Broken(), **FAST)
    assert [str(item.error) for item in items] == ["the worker is gone"] * 3
    assert list(tmp_path.iterdir()) == []


def test_who_stops_early_cancels_the_rest() -> None:
    tasks: list[Future[int]] = []

    class Patient:
        def submit(self, fn: Any, /, *args: Any) -> Future[int]:
            del fn, args
            tasks.append(Future())
            return tasks[-1]

    row = submitted(Patient(), pow, range(4), range(4))
    assert next(row) is tasks[0]
    row.close()
    assert [task.cancelled() for task in tasks] == [True] * 4


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills by signals")
@pytest.mark.filterwarnings("ignore")  # Dask's own, of workers that are gone
def test_dask_loses_nothing_by_two_kills(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="Dask's cluster is not installed")
    import dask

    (tmp_path / "clips").mkdir()
    sources = [write_clip(tmp_path / "clips" / f"{n}.mp4", shaky(24, (96, 64), seed=n)) for n in range(10)]
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    video.stabilize_all(sources, video.result_paths(sources, tmp_path / "here"), **FAST)
    killed = []

    def kill_two(cluster: Any, client: Any) -> None:
        for nanny in list(cluster.workers.values()):
            while not any(client.processing().values()):
                time.sleep(0.02)
            time.sleep(0.1)
            killed.append(nanny.pid)
            os.kill(nanny.pid, signal.SIGKILL)

    # A task counts a worker that died under it as a failure of its own.
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 5}),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            local_directory=str(tmp_path / "dask"),
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        killer = threading.Thread(target=kill_two, args=(cluster, client))
        killer.start()
        items = video.stabilize_all(sources, video.result_paths(sources, tmp_path / "there"), executor=client, **FAST)
        killer.join()
    assert len(set(killed)) == 2
    assert [item.status for item in items] == ["done"] * 10
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert leftovers(tmp_path / "there") == []
