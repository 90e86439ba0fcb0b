"""Who computes chunks: the same bytes from threads, processes and a cluster; what fails is one line."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest
from threadpoolctl import threadpool_info

pytest.importorskip("onnxruntime")

from fcc.compress.blas import one_thread
from fcc.errors import CalibrationError, DataError, FccError, OptionError, TargetUnavailable
from fcc.runtime import workers
from fcc.runtime.calibrate import calibrate
from fcc.runtime.chunks import plain
from fcc.runtime.session import open_session
from fcc.runtime.versions import versions
from fcc.runtime.workers import connected, processes

TEXT = """<ir_version: 8, opset_import: ["": 17]>
f (float[N, 40] x) => (float[N, 3] y) <float[40, 3] w> { t = MatMul(x, w) y = Relu(t) }"""
SERVE = "tcp://127.0.0.1:1"  # nobody listens on port 1


def model() -> bytes:
    proto = onnx.parser.parse_model(TEXT)
    w = np.random.default_rng(1).standard_normal((40, 3)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    del proto.graph.value_info[:]
    return bytes(proto.SerializeToString())


def feeds(count: int = 200) -> list[dict[str, Any]]:
    """Ragged batches, some in another memory order: sums would follow it."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(count):
        x = rng.standard_normal((80, 1 + i % 5)).astype(np.float32)
        found.append({"x": x[::2].T if i % 2 else np.ascontiguousarray(x[::2].T)})
    return found


def gathered(executor: Executor | None, samples: Any = None) -> bytes:
    stats = calibrate(model(), ["t", "x"], feeds() if samples is None else samples, grams={"x": -1}, executor=executor)
    return pickle.dumps([dict(stats), stats.gram("x")])


@pytest.fixture(name="cluster", scope="module")
def local_cluster() -> Iterator[str]:
    """The address of a cluster of two processes."""
    dask, distributed = pytest.importorskip("dask"), pytest.importorskip("distributed")
    how: dict[str, Any] = {"threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    patient = dask.config.set({"distributed.comm.timeouts.connect": "120s"})  # machines of tests are busy
    with patient, distributed.LocalCluster(n_workers=2, **how, silence_logs=50) as found:
        yield found.scheduler_address


def test_every_executor_gives_the_same_bytes() -> None:
    here = gathered(None)
    with ThreadPoolExecutor(2) as threads, processes(2) as pool:
        assert gathered(threads) == here
        assert gathered(pool) == here


def test_a_cluster_gives_the_same_bytes_by_address_and_by_client(cluster: str) -> None:
    distributed = pytest.importorskip("distributed")
    here = gathered(None)
    with connected(cluster) as executor:
        assert gathered(executor) == here
    with distributed.Client(cluster, set_as_default=False) as client:
        with connected(client) as executor:
            assert gathered(executor) == here
        assert client.status == "running"  # it belongs to the caller


def test_work_of_a_worker_that_dies_is_done_by_another(cluster: str) -> None:
    here, samples = gathered(None), feeds()
    with connected(cluster) as executor:
        pids = list(executor._client.run(os.getpid).values())  # type: ignore[attr-defined]

        def deadly() -> Iterator[Any]:
            for number, sample in enumerate(samples):
                if number == 70:
                    os.kill(pids[0], signal.SIGKILL)
                yield sample

        assert gathered(executor, deadly()) == here


def test_an_error_of_a_task_is_that_of_the_task(cluster: str) -> None:
    bad = [*feeds(3), {"x": np.zeros((1, 7), np.float32)}]
    with pytest.raises(DataError) as alone:
        gathered(None, bad)
    with ExitStack() as stack:
        executors = [stack.enter_context(processes(1)), stack.enter_context(ThreadPoolExecutor(1))]
        executors.append(stack.enter_context(connected(cluster)))
        for executor in executors:
            with pytest.raises(DataError) as there:
                gathered(executor, bad)
            assert there.value.message == alone.value.message


def test_a_job_goes_to_a_process_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []

    class Pool(ThreadPoolExecutor):
        def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            sent.append(len(pickle.dumps((function, args))))
            return super().submit(function, *args, **kwargs)

    monkeypatch.setattr(workers, "ProcessPoolExecutor", Pool)
    opened: list[int] = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        opened.append(1)
        return open_session(*args, **kwargs)

    monkeypatch.setattr("fcc.runtime.jobs.open_session", counted)
    with Pool(1) as pool:
        tiny = [{"x": np.zeros((1, 40), np.float32)}] * 100
        calibrate(model(), ["t"], tiny, executor=pool)
    assert len(sent) == 4
    assert max(sent) < len(pickle.dumps([plain(f) for f in tiny[:32]])) + 300
    assert len(opened) == 1


class Broken(Executor):
    """Workers that are gone."""

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(BrokenExecutor("a process in the pool was\nterminated abruptly"))
        return future


def test_workers_that_are_gone_are_one_line() -> None:
    with pytest.raises(CalibrationError, match=r"^the workers failed: a process in the pool was terminated abruptly"):
        gathered(Broken())


def test_what_waits_is_cancelled_when_a_chunk_fails() -> None:
    futures: list[Future[Any]] = []

    class Lazy(Executor):
        def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            if not futures:
                future.set_exception(DataError("the first"))
            futures.append(future)
            return future

    with pytest.raises(DataError, match="the first"):
        gathered(Lazy())
    assert len(futures) == 7
    assert all(f.cancelled() for f in futures[1:])


def test_few_samples_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """By number of tasks, and by bytes."""
    read: list[int] = []

    class Now(Executor):
        def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_result(function(*args))
            return future

    def told(limit: int) -> int:
        monkeypatch.setattr("fcc.runtime.chunks._BYTES", limit)
        ahead: list[int] = []
        read.clear()

        def stream() -> Iterator[Any]:
            for number, sample in enumerate(feeds(32 * 20)):
                read.append(number)
                yield sample

        calibrate(model(), ["t"], stream(), executor=Now(), progress=lambda n: ahead.append(len(read) - n))
        return max(ahead)

    assert told(1 << 28) == 15 * 32
    assert told(1) == 32


def test_no_cluster_at_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(workers, "_CONNECT_S", 0.2)
    with pytest.raises(TargetUnavailable, match=r"no cluster answers at tcp://127.0.0.1:1"), connected(SERVE):
        pass
    with pytest.raises(OptionError, match="no address of a cluster: nonsense"), connected("nonsense://x"):
        pass


@pytest.mark.parametrize(("cluster", "because"), [("0", "at least 1 process"), (2.5, "cluster is float")])
def test_no_cluster_at_all(cluster: Any, because: str) -> None:
    with pytest.raises(OptionError, match=because), connected(cluster):
        pass


def test_without_distributed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(TargetUnavailable, match="needs distributed") as found, connected(SERVE):
        pass
    assert found.value.hint == 'pip install "fcc[dask]"'
    assert found.value.exit_code == 4


class Client:
    """A Dask client as far as it is asked here."""

    def __init__(self, found: Any) -> None:
        self.found = found

    def run(self, function: Any) -> Any:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def get_executor(self, **kwargs: Any) -> Any:
        return kwargs


@pytest.mark.parametrize(
    ("found", "because"),
    [
        ({}, "has no worker"),
        ({"w1": versions(), "w2": {**versions(), "numpy": "1.0"}}, "worker w2 has numpy 1.0, here it is"),
        ({"w1": {k: v for k, v in versions().items() if k != "fcc"}}, "has fcc not installed"),
        (pickle.PicklingError("no fcc"), "the workers of the cluster failed: no fcc"),
        (CancelledError(), "the workers of the cluster failed: what they were given is lost"),
        (TimeoutError("late"), "the workers of the cluster failed: late"),
    ],
)
def test_workers_are_checked(found: Any, because: str) -> None:
    with pytest.raises(FccError, match=because), connected(Client(found)):
        pass


def test_workers_that_are_right() -> None:
    with connected(Client({"w": versions()})) as executor:
        assert executor == {"pure": False}  # type: ignore[comparison-overlap]


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), connected(Client(ZeroDivisionError())):
        pass


def test_processes_end_with_the_one_that_began_them(tmp_path: Path) -> None:
    """Even when that is killed."""
    script = tmp_path / "main.py"
    script.write_text(
        "import os, time\nfrom fcc.runtime.workers import processes\n"
        "if __name__ == '__main__':\n    with processes(1) as pool:\n"
        "        print(pool.submit(os.getpid).result(), flush=True)\n        time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-P", str(script)], stdout=subprocess.PIPE, text=True) as main:
        assert main.stdout is not None
        worker = int(main.stdout.readline())
        main.kill()
    for _ in range(200):
        if not Path(f"/proc/{worker}").exists() or "\nState:\tZ" in Path(f"/proc/{worker}/status").read_text():
            return
        time.sleep(0.05)
    pytest.fail("the worker lives on")


def blas_threads() -> set[int]:
    return {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}


def test_one_thread_until_the_last_user_leaves() -> None:
    before = blas_threads()
    first, second = one_thread(), one_thread()
    first.__enter__()
    second.__enter__()
    assert blas_threads() == {1}
    first.__exit__(None, None, None)
    assert blas_threads() == {1}
    second.__exit__(None, None, None)
    assert blas_threads() == before


def test_rows_are_summed_in_their_order_whatever_the_memory() -> None:
    x = np.random.default_rng(0).standard_normal((50, 90)).astype(np.float32)
    turned = plain({"x": x.T, "n": [1]})
    assert turned["x"].flags.c_contiguous
    assert turned["n"] == [1]
    assert plain({"x": np.float32(3)})["x"] == 3
