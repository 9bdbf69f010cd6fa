"""The host's limits: never more than granted in any window, shared by processes, and no death of
a process changes that.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import signal
import subprocess
import sys
from bisect import bisect_left
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapecast.protocol.units import NS_PER_S
from tapecast.runtime.net import limiter
from tapecast.runtime.net.limiter import CONNECT, REST, HostLimiter, Rate, grant
from tests.support.processes import ROOT, until

RATES = {CONNECT: Rate.of(8, 0.2), REST: Rate.of(40, 0.2)}


@settings(deadline=None, max_examples=200)
@given(
    count=st.integers(1, 400),
    window_ms=st.integers(1, 300_000),
    asks=st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 100)), max_size=80),
)
def test_no_window_ever_holds_more_than_was_agreed(
    count: int, window_ms: int, asks: list[tuple[int, int]]
) -> None:
    """Whatever comes when, and of whatever weight up to a burst: the sum of any window is at
    most the limit.
    """
    rate = Rate.of(count, window_ms / 1000)
    window_ns = window_ms * 1_000_000
    now_ns = paid_ns = 0
    granted: list[tuple[int, int]] = []
    for pause, weight in asks:
        now_ns += pause * window_ms // 2000
        weight = min(weight, rate.burst)
        paid_ns, wait_ns = grant(paid_ns, weight, rate, now_ns)
        if wait_ns:
            before_ns = now_ns + wait_ns - 1
            assert grant(paid_ns, weight, rate, before_ns)[1] == 1, (
                "the wait is no longer than needed"
            )
            now_ns += wait_ns
            paid_ns, wait_ns = grant(paid_ns, weight, rate, now_ns)
        assert wait_ns == 0
        granted.append((now_ns, weight))
    times = [at for at, _ in granted]
    for first, (at, _) in enumerate(granted):
        end = bisect_left(times, at + window_ns)
        assert sum(weight for _, weight in granted[first:end]) <= count


def test_a_quarter_may_go_at_once_and_the_rest_evenly() -> None:
    """Binance's 300 connects in five minutes: 75 at once, then one every 1.33 s."""
    rate = Rate.of(300, 300)
    assert rate.burst == 75
    assert 1.3e9 < rate.unit_ns < 1.34e9
    assert Rate.of(1, 1) == Rate(NS_PER_S, 1, NS_PER_S)


def test_what_weighs_more_than_a_burst_is_charged_in_full() -> None:
    """It is not stuck for ever, and what follows waits until it is paid."""
    rate = Rate.of(40, 1.0)
    paid_ns, wait_ns = grant(0, 250, rate, 5 * NS_PER_S)
    assert wait_ns == 0
    assert grant(paid_ns, 1, rate, 5 * NS_PER_S)[1] > 7 * NS_PER_S


HOG = """
import sys, time
from pathlib import Path
from tapecast.runtime.net.limiter import CONNECT, HostLimiter, Rate

limits = HostLimiter(Path(sys.argv[1]), {CONNECT: Rate.of(8, 0.2)})
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    wait_ns = limits.take(CONNECT)
    if wait_ns == 0:
        print(limits._entries[CONNECT].paid_ns, flush=True)
    else:
        time.sleep((wait_ns or 200_000) / 1e9)
"""
"""Takes what it gets, and prints up to when the host has paid with each grant."""


HOLDER = """
import fcntl, sys, time

with open(sys.argv[1], "r+") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print(1, flush=True)
    time.sleep(60)
"""


def hog(file: Path, seconds: float) -> subprocess.Popen[bytes]:
    """Start a process that takes connects."""
    command = [sys.executable, "-c", HOG, str(file), str(seconds)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


def test_processes_share_one_limit(tmp_path: Path) -> None:
    """Three at once, one of them killed in the middle: every grant is charged once, whoever got
    it, so the limit is one.
    """
    file = tmp_path / "limits" / "binance"
    running = [hog(file, 2.0) for _ in range(3)]
    assert running[0].stdout is not None
    grants = [int(running[0].stdout.readline())]
    running[0].send_signal(signal.SIGKILL)
    grants += [
        int(line) for process in running for line in process.communicate(timeout=20.0)[0].split()
    ]
    grants.sort()
    assert len(grants) > 30
    unit_ns = Rate.of(8, 0.2).unit_ns
    steps = [later - earlier for earlier, later in itertools.pairwise(grants)]
    assert min(steps) >= unit_ns


def test_a_ban_is_every_processs_ban_and_outlives_its_process(tmp_path: Path) -> None:
    """What one was told holds for those that run and those that start later; it never shrinks;
    the other kind goes on.
    """
    file = tmp_path / "upbit"
    first, second = HostLimiter(file, RATES), HostLimiter(file, RATES)
    assert second.take(REST) == 0
    first.ban(REST, 60.0)
    first.ban(REST, 5.0)
    first.close()
    third = HostLimiter(file, RATES)
    for one in (second, third):
        wait_ns = one.take(REST)
        assert wait_ns is not None
        assert 50 * NS_PER_S < wait_ns <= 60 * NS_PER_S
        assert one.take(CONNECT) == 0
        assert 50.0 < one.banned_s(REST) <= 60.0


def test_a_ban_outlives_the_host_and_grants_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a boot the monotonic clock begins anew: the ban is known in UTC, and what was
    granted before is taken as just now.
    """
    file = tmp_path / "okx"
    before = HostLimiter(file, RATES)
    before.ban(CONNECT, 100.0)
    assert before.take(REST) == 0
    before.close()
    monkeypatch.setattr(limiter, "_boot_id", lambda: b"f" * 36)
    after = HostLimiter(file, RATES)
    wait_ns = after.take(CONNECT)
    assert wait_ns is not None
    assert 90 * NS_PER_S < wait_ns <= 100 * NS_PER_S
    assert 0 < (after.take(REST) or 0) <= RATES[REST].unit_ns


@pytest.mark.parametrize("content", [b"x", b"TCLIMIT1" + bytes(200), bytes(range(96)), bytes(96)])
def test_a_damaged_file_grants_nothing_at_once(content: bytes, tmp_path: Path) -> None:
    """Nobody knows what was granted: a full burst is taken as just used. The file is good again
    after that.
    """
    file = tmp_path / "kraken"
    file.write_bytes(content)
    limits = HostLimiter(file, RATES)
    assert 0 < (limits.take(CONNECT) or 0) <= RATES[CONNECT].unit_ns
    until(lambda: limits.take(CONNECT) == 0, within_s=5.0)
    assert HostLimiter(file, RATES).take(REST) == 0


def test_a_locked_file_is_waited_for_and_a_dead_holder_frees_it(tmp_path: Path) -> None:
    """The lock is the kernel's: it ends with the process, however that ends."""
    file = tmp_path / "bybit"
    limits = HostLimiter(file, RATES)
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(file)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    assert limits.take(CONNECT) is None
    limits.ban(REST, 30.0)  # kept here until it can be written
    assert limits.banned_s(REST) > 29.0
    holder.kill()
    holder.wait()
    assert limits.take(CONNECT) == 0
    other = HostLimiter(file, RATES)
    assert (other.take(REST) or 0) > 29 * NS_PER_S
    holder.stdout.close()


def test_a_removed_file_is_made_again(tmp_path: Path) -> None:
    """An operator empties the state folder under running processes: they share the next file
    too.
    """
    file = tmp_path / "state" / "deribit"
    first, second = HostLimiter(file, RATES), HostLimiter(file, RATES)
    first.ban(REST, 30.0)
    file.unlink()
    assert first.take(CONNECT) == 0
    assert file.exists()
    assert (second.take(REST) or 0) > 29 * NS_PER_S
    descriptor = os.open(file, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody keeps the lock
    os.close(descriptor)


@pytest.mark.parametrize("call", ["pwrite", "pread"])
def test_a_broken_disk_does_not_end_the_feed(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file fails: the process keeps to its limits and bans by itself; when the disk is well
    again, it is shared again.
    """
    file = tmp_path / "okx"
    limits = HostLimiter(file, RATES)
    with monkeypatch.context() as broken:

        def fail(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        broken.setattr(os, call, fail)
        granted = [limits.take(CONNECT) for _ in range(RATES[CONNECT].burst + 1)]
        assert granted[:-1] == [0] * RATES[CONNECT].burst
        assert granted[-1]
        limits.ban(REST, 30.0)
        assert (limits.take(REST) or 0) > 29 * NS_PER_S
    assert limits.take(REST)
    assert (HostLimiter(file, RATES).take(REST) or 0) > 29 * NS_PER_S


def test_what_the_venue_says_is_left_is_believed_when_it_is_less() -> None:
    """Binance counts what everybody behind this address used."""
    limits = HostLimiter(None, {REST: Rate.of(40, 60.0)})
    limits.left(REST, 30)
    assert limits.take(REST) == 0
    limits.left(REST, 1)
    assert limits.take(REST) == 0
    assert 0 < (limits.take(REST) or 0) <= Rate.of(40, 60.0).unit_ns
    limits.left(REST, 0)
    assert (limits.take(REST) or 0) > 9 * NS_PER_S


def test_an_account_has_limits_of_its_own(tmp_path: Path) -> None:
    """Order management shares the venue's limits with the feeders of the host, and each account
    has kinds of its own, shared by whoever uses that account.
    """
    feeder = HostLimiter.of(tmp_path, "binance", {"rest_weight": 4, "rest_window_s": 60.0})
    orders = HostLimiter.of(tmp_path, "binance", {"rest_weight": 4, "rest_window_s": 60.0})
    assert feeder.take(REST) == 0
    assert orders.take(REST)

    rates = {"orders_10s": Rate.of(8, 10.0), "orders_day": Rate.of(160_000, 86_400.0)}
    main, again, other = (
        HostLimiter.of_account(tmp_path, "binance", account, rates)
        for account in ("main", "main", "hedge")
    )
    assert main.take("orders_10s", 2) == 0
    assert again.take("orders_10s")
    assert again.take("orders_day") == 0
    assert other.take("orders_10s", 2) == 0
    with pytest.raises(KeyError):
        main.take(REST)
    assert sorted(path.name for path in (tmp_path / "limits").iterdir()) == [
        "binance",
        "binance@hedge",
        "binance@main",
    ]
