"""Threads as users expect them: how many there are, forked children, Ctrl-C.

Everything runs in processes of its own, with a time limit: a hang is a failure.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

LIMIT = 120
linux = pytest.mark.skipif(sys.platform != "linux", reason="affinity and fork as on Linux")


def run(code: str, *, cpus: set[int] | None = None, **environment: str) -> str:
    """What the program prints; an exit code other than 0 fails."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if k not in ("MOLTIDE_NUM_THREADS", "OMP_NUM_THREADS", "MOLTIDE_ISA")
    }
    result = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env={**kept, **environment},
        preexec_fn=(lambda: os.sched_setaffinity(0, cpus)) if cpus else None,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.strip()


COUNT = "import moltide as mt; print(mt.num_threads())"


def test_the_environment_says_how_many():
    assert run(COUNT, OMP_NUM_THREADS="3") == "3"
    assert run(COUNT, OMP_NUM_THREADS="5,2") == "5"
    assert run(COUNT, OMP_NUM_THREADS="3", MOLTIDE_NUM_THREADS="4") == "4"
    assert run("import moltide as mt; mt.set_num_threads(2); " + COUNT, OMP_NUM_THREADS="3") == "2"


@linux
def test_no_more_threads_than_processors_allowed():
    allowed = sorted(os.sched_getaffinity(0))
    assert 1 <= int(run(COUNT)) <= len(allowed)
    assert run(COUNT, cpus={allowed[-1]}) == "1"
    assert run(COUNT, cpus={allowed[-1]}, OMP_NUM_THREADS="2") == "2"


@pytest.mark.parametrize("value", ["0", "-1", "many", "2000"])
def test_a_wrong_number_is_refused(value):
    code = """
import moltide as mt
try:
    mt.num_threads()
except ValueError as error:
    print(error)
"""
    message = run(code, MOLTIDE_NUM_THREADS=value)
    assert message == f"MOLTIDE_NUM_THREADS: got '{value}', allowed 1..1024"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MOLTIDE_NUM_THREADS", "many", "MOLTIDE_NUM_THREADS: got 'many', allowed 1..1024"),
        ("MOLTIDE_ISA", "sse9", "instruction set 'sse9' is not available here"),
    ],
)
def test_the_command_refuses_it_in_one_line(name, value, message):
    result = subprocess.run(
        [sys.executable, "-m", "moltide", "info"],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env={**os.environ, name: value},
        check=False,
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1


# A model, what it says of some sequences, and a thread that keeps the pool busy with another one.
BUSY = """
import os, signal, threading, sys
import numpy as np
import moltide as mt
mt.set_num_threads(3)
sequences = ["MKVLAAGIC" * 8, "ACDEFGHIK", "M" * 150] * 4
enc, other = mt.load("protein-mini"), mt.load("protein-mini")
expected = enc.embed(sequences)
stop = threading.Event()
def keep_busy():
    while not stop.is_set():
        other.embed(sequences)
busy = threading.Thread(target=keep_busy, daemon=True)
def same():
    return bool((enc.embed(sequences) == expected).all())
def wait_for(pid):
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""


@linux
def test_fork_while_another_thread_computes():
    code = """
busy.start()
for _ in range(8):
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        os._exit(0 if same() and mt.num_threads() == 3 else 1)
    wait_for(pid)
stop.set()
busy.join()
assert same()
"""
    run(BUSY + code)


@linux
def test_a_model_in_use_at_the_fork_is_refused_in_the_child():
    """It may be half changed there; the one thing it must not do is wait for ever."""
    code = """
busy.start()
outcomes = set()
for _ in range(12):
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            os._exit(0 if bool((other.embed(sequences) == expected).all()) else 1)
        except RuntimeError as error:
            os._exit(7 if "in use by another thread when the process was forked" in str(error)
                     else 1)
    outcomes.add(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
stop.set()
busy.join()
assert outcomes <= {0, 7}, outcomes
assert 7 in outcomes, outcomes
"""
    run(BUSY + code)


@linux
def test_fork_of_a_fork_and_threads_in_it():
    code = """
def child():
    signal.alarm(60)
    mt.set_num_threads(2)
    assert same()
    return 0
pid = os.fork()
if pid == 0:
    signal.alarm(90)
    inner = os.fork()
    if inner == 0:
        os._exit(child())
    wait_for(inner)
    results = []
    threads = [threading.Thread(target=lambda: results.append(same())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os._exit(0 if results == [True] * 3 else 1)
wait_for(pid)
assert same()
"""
    run(BUSY + code)


@linux
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_multiprocessing_compute_what_the_parent_does(method, tmp_path):
    """As a data loader's workers do: each embeds its share."""
    program = tmp_path / "program.py"
    program.write_text(
        f"""
import multiprocessing
import sys
import moltide as mt

SEQUENCES = ["MKVLAAGIC" * 4, "ACDEFGHIK", "M" * 60]

def work(index):
    global enc
    if "enc" not in globals():
        enc = mt.load("protein-mini")
    return enc.embed([SEQUENCES[index]])[0].tolist()

if __name__ == "__main__":
    enc = mt.load("protein-mini")
    expected = enc.embed(SEQUENCES).tolist()
    with multiprocessing.get_context({method!r}).Pool(2) as pool:
        got = pool.map_async(work, range(3), 1).get(timeout={LIMIT - 20})
    assert got == expected
    assert enc.embed(SEQUENCES).tolist() == expected
"""
    )
    run(f"import runpy; runpy.run_path({str(program)!r}, run_name='__main__')")


@linux
def test_ctrl_c_ends_a_long_pass_between_two_batches():
    # A shell's background jobs ignore SIGINT, and their children inherit that.
    code = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
import moltide as mt
enc = mt.load("protein-mini")
one = ["MKVLAAGICDEFGHW" * 20]
enc.embed(one)
print("ready", flush=True)
enc.embed(one * 200_000)
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert process.stdout.readline() == "ready\n"
            time.sleep(1.0)
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            # The whole would take many minutes; one batch takes a fraction of a second.
            process.wait(timeout=30)
            assert process.stderr.read().strip().endswith("KeyboardInterrupt")
        finally:
            process.kill()


@linux
def test_where_no_more_threads_can_be_started_those_there_are_do():
    code = """
import resource
import moltide as mt
enc = mt.load("protein-mini")
mt.set_num_threads(1)
expected = enc.embed(["MKVLAAGIC" * 20])
mt.set_num_threads(64)
soft, hard = resource.getrlimit(resource.RLIMIT_AS)
used = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used + 96 * 2**20, hard))
got = enc.embed(["MKVLAAGIC" * 20])
resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
assert (got == expected).all()
"""
    run(code)
