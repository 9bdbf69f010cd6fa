"""The monitor's reducer: lines in, rows out, nothing else."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from tapecast.monitors import model
from tapecast.monitors.plain import json_line, table

S = 1_000_000_000
UTC = 1723161255030314667
"""Send time of a Binance USD-M depth update of 2024-08-08."""


def exchange(name: str, trade: int, book: int, at_s: int) -> bytes:
    """Return the EXCHANGE line of a feeder, `at_s` seconds after the first one."""
    counts = f"trade={trade},book={book},bbo=99,stat=0,quarantine=0,gaps=0,resyncs=0,live=3,books=3"
    return f"EXCHANGE|{name}|feed|{counts}|{UTC + at_s * S}".encode()


def run(lines: list[tuple[float, bytes]], started: float = 0.0) -> model.State:
    """Reduce lines given with their time in seconds."""
    state = model.initial(int(started * S))
    for at, line in lines:
        state = model.reduce(state, line, int(at * S))
    return state


def test_a_connected_exchange_is_live_with_its_counts() -> None:
    """CONN and EXCHANGE lines of one exchange make one row with sockets, counts and age."""
    state = run([(1, b"CONN|okx|3|0|2|3"), (2, exchange("okx", 12, 340, 0))])
    (row,) = model.view(state, 4 * S).rows
    assert (
        row.exchange,
        row.state,
        row.connected,
        row.disconnected,
        row.reconnects,
        row.total,
    ) == ("okx", "live", 3, 0, 2, 3)
    assert row.counts["trade"] == 12
    assert row.counts["books"] == 3
    assert row.age_s == 2.0


def test_the_five_field_connection_line_is_accepted() -> None:
    """A CONN line without the total is understood and the total is unknown."""
    (row,) = model.view(run([(0, b"CONN|upbit|1|0|0")]), S).rows
    assert (row.state, row.connected, row.total) == ("live", 1, None)


def test_lost_sockets_show_as_partial_and_down() -> None:
    """Some sockets lost is partial; all lost is down."""
    (row,) = model.view(run([(0, b"CONN|okx|1|2|2|3")]), S).rows
    assert row.state == "partial"
    (row,) = model.view(run([(0, b"CONN|okx|0|3|2|3")]), S).rows
    assert row.state == "down"


def test_rates_come_from_the_counts_and_the_senders_times() -> None:
    """The rate is the growth of a count over the sender's timestamps, not over arrival times."""
    state = run(
        [
            (0, exchange("okx", 100, 0, 0)),
            (0.1, exchange("okx", 150, 10, 1)),
            (0.2, exchange("okx", 300, 40, 2)),
        ]
    )
    (row,) = model.view(state, S).rows
    assert row.rates["trade"] == 100.0
    assert row.rates["book"] == 20.0
    assert "live" not in row.rates


def test_one_line_gives_no_rate() -> None:
    """A rate needs two samples; before that it is unknown, not zero."""
    (row,) = model.view(run([(0, exchange("okx", 100, 0, 0))]), S).rows
    assert row.rates["trade"] is None


def test_a_restarted_feeder_does_not_give_negative_rates() -> None:
    """Counts that fall mean a restart: it is counted and measuring begins again."""
    state = run(
        [
            (0, exchange("okx", 1000, 5, 0)),
            (1, exchange("okx", 3, 0, 1)),
            (2, exchange("okx", 13, 0, 2)),
        ]
    )
    (row,) = model.view(state, 2 * S).rows
    assert row.restarts == 1
    assert row.rates["trade"] == 10.0


def test_the_rate_window_is_bounded() -> None:
    """Only the last samples are kept, however long the monitor runs."""
    state = run([(t, exchange("okx", t * t, 0, t)) for t in range(100)])
    assert len(state.exchanges["okx"].feeds["feed"].samples) == model.RATE_WINDOW
    (row,) = model.view(state, 99 * S).rows
    assert row.rates["trade"] == (99 * 99 - 94 * 94) / 5


def test_silence_makes_an_exchange_stale() -> None:
    """When either kind of line stops, the row is stale and its rates are unknown."""
    state = run(
        [(0, b"CONN|okx|3|0|2|3"), (0, exchange("okx", 1, 0, 0)), (1, exchange("okx", 2, 0, 1))]
    )
    assert model.view(state, 4 * S).rows[0].state == "live"
    late = model.view(state, 5 * S).rows[0]
    assert late.state == "stale"
    assert late.rates["trade"] is None
    back = model.reduce(state, exchange("okx", 3, 0, 5), 5 * S)
    assert model.view(back, 5 * S).rows[0].state == "live"
    assert model.view(back, 13 * S).rows[0].state == "stale"


def test_after_ten_seconds_without_a_venue_the_replay_hint_appears() -> None:
    """Nobody connected for ten seconds: the view names REPLAY; a connected venue removes it."""
    state = run([])
    assert model.view(state, 9 * S).hint is None
    hint = model.view(state, 10 * S).hint
    assert hint is not None
    assert "REPLAY" in hint
    assert "make run REPLAY=folder" in table(model.view(state, 10 * S))
    down = model.reduce(state, b"CONN|okx|0|3|9|3", 11 * S)
    assert model.view(down, 11 * S).hint is not None
    up = model.reduce(down, b"CONN|okx|3|0|9|3", 12 * S)
    assert model.view(up, 12 * S).hint is None
    lost = model.reduce(up, b"CONN|okx|0|3|9|3", 13 * S)
    assert model.view(lost, 21 * S).hint is None
    assert model.view(lost, 22 * S).hint is not None


def test_malformed_lines_are_counted_and_shown() -> None:
    """Lines of no known form never raise; they are counted and the last is shown without control
    characters.
    """
    bad = [
        b"CONN|okx|x|0|2",
        b"CONN|okx",
        b"EXCHANGE|okx|feed|trade=-1|5",
        b"HELLO\x1b[2J|w",
        b"\xff\xfe",
        b"CONN||1|0|0|1",
    ]
    state = run([(0, line) for line in bad] + [(0, b"")])
    assert state.malformed == len(bad)
    assert state.exchanges == {}
    seen = run([(0, b"HELLO\x1b[2J|w")])
    assert seen.last_malformed == "HELLO[2J|w"
    assert "1 malformed" in table(model.view(seen, 0))


def test_control_characters_never_reach_a_row() -> None:
    """An exchange name with escape sequences or direction overrides loses them."""
    state = run([(0, "CONN|o\x1b[31mk\u202ex|1|0|0|1".encode())])
    assert list(state.exchanges) == ["o[31mkx"]


def test_the_number_of_exchanges_is_bounded() -> None:
    """Lines about ever new names cannot grow the state; the surplus is counted."""
    state = run([(0, f"CONN|x{n}|1|0|0|1".encode()) for n in range(500)])
    assert len(state.exchanges) == model.MAX_EXCHANGES
    assert state.refused == 500 - model.MAX_EXCHANGES


def test_one_datagram_may_hold_several_lines() -> None:
    """Lines joined by newlines are taken one by one."""
    state = run([(0, b"CONN|okx|1|0|0|1\nCONN|upbit|1|0|0|1\n")])
    assert sorted(state.exchanges) == ["okx", "upbit"]


def test_reduce_leaves_the_old_state_alone() -> None:
    """The reducer is pure: the state before stays what it was."""
    before = run([(0, exchange("okx", 1, 0, 0))])
    frozen = repr(before)
    model.reduce(before, exchange("okx", 2, 0, 1), S)
    model.reduce(before, b"CONN|okx|1|0|0|1", S)
    assert repr(before) == frozen


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_no_datagram_raises(datagrams: list[bytes]) -> None:
    """Whatever arrives, the reducer, the view, the table and the JSON line work."""
    state = model.initial(0)
    for datagram in datagrams:
        state = model.reduce(state, datagram, S)
        state = model.reduce(state, b"CONN|" + datagram, S)
        state = model.reduce(state, b"EXCHANGE|okx|feed|" + datagram, S)
    shown = model.view(state, 2 * S)
    json.loads(json_line(shown))
    assert all(ch.isprintable() or ch == "\n" for ch in table(shown))


def test_the_table_is_aligned_and_the_json_twin_says_the_same() -> None:
    """Every row has the columns of the head; the JSON line carries the same figures."""
    state = run(
        [
            (1, b"CONN|okx|3|0|2|3"),
            (2, exchange("okx", 12, 340, 0)),
            (2, b"CONN|binance_futures|0|1|7"),
        ]
    )
    shown = model.view(state, 3 * S)
    head, first, second, foot = table(shown).splitlines()
    assert head.split()[:6] == ["EXCHANGE", "STATE", "UP", "DOWN", "RECONN", "TOTAL"]
    assert first.split()[:6] == ["binance_futures", "down", "0", "1", "7", "-"]
    assert second.split()[:8] == ["okx", "live", "3", "0", "2", "3", "12", "340"]
    assert len(head.split()) == len(first.split()) == len(second.split())
    assert foot.startswith("3 s · 3 lines")
    rows = json.loads(json_line(shown))["rows"]
    assert rows[1]["counts"]["book"] == 340
    assert rows[0]["reconnects"] == 7
