"""What users import and the scripts of the documentation."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import tapecast
from tests.consumers.publisher import btcusdt
from tests.support.captures import recordings

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))


def python(*arguments: str) -> str:
    """Run Python in the repository and return what it prints."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_public_name_can_be_imported() -> None:
    """`__all__` holds no name that does not exist, and an unknown one is an AttributeError."""
    for name in tapecast.__all__:
        assert getattr(tapecast, name) is not None
    assert set(dir(tapecast)) == set(tapecast.__all__)
    with pytest.raises(AttributeError, match="Fed"):
        tapecast.Fed  # noqa: B018 - the access is the test


def test_importing_tapecast_imports_nothing_heavy() -> None:
    """The package itself costs nothing; numpy comes with the feed."""
    assert (
        python(
            "-c",
            "import sys, tapecast; print('numpy' in sys.modules, 'tapecast.consumers' in sys.modules)",
        )
        == "False False\n"
    )


def test_the_version_is_that_of_the_package() -> None:
    """`__version__` and what the installer knows are the same."""
    assert metadata.version("tapecast") == tapecast.__version__


EXPECTED = {
    "callbacks": "       2 binance.spot.BTCUSDT books\n",
    "many_venues_async": "(Decimal('61837.63'), Decimal('3.78826'))",
    "spread": "binance.spot.BTCUSDT 61837.63 61837.64 0.01\n",
    "trades": "binance BTCUSDT sell 61837.63 0.048\n",
    "volume_numpy": "sell 6800e-5\n",
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_run(path: Path, tmp_path: Path) -> None:
    """Each script of docs/examples plays a tape and prints what is on it."""
    tape = tmp_path / "btcusdt.tape"
    tape.write_bytes(b"".join(btcusdt()))
    assert EXPECTED[path.stem] in python(str(path), str(tape))


def test_the_documentation_shows_scripts_that_run(tmp_path: Path) -> None:
    """Every Python block of docs/scripts.md runs against a tape."""
    tape = tmp_path / "day.tape"
    tape.write_bytes(b"".join(btcusdt()))
    blocks = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "scripts.md").read_text(), re.DOTALL
    )
    assert len(blocks) >= 5
    for block in blocks:
        script = re.sub(
            r"Feed\((?!\.)",
            "Feed.replay(TAPE, ",
            block.replace('Feed.replay("day.tape"', "Feed.replay(TAPE"),
        )
        python("-c", f"TAPE = {str(tape)!r}\n{script}")


def test_a_recording_of_venue_frames_can_be_replayed() -> None:
    """`Feed.replay` takes a venue recording through the feeder's own decoders; books come out
    whole.
    """
    pytest.importorskip("tapecast.feeder.extract.extractor", reason="the extractor is not built")
    (path,) = [path for path in recordings("binance") if path.name == "cf_20211012_spot.jsonl"]
    with tapecast.Feed.replay(path) as feed:
        kinds = [type(event) for event in feed]
        book = feed.book("NKNUSDT")
    assert tapecast.Gap not in kinds
    assert tapecast.Book in kinds
    assert book is not None
    assert book.state is tapecast.BookState.LIVE
    assert book.best_bid is not None
    assert book.best_ask is not None
    assert book.best_bid[0] < book.best_ask[0]


def test_a_recording_can_be_replayed_wherever_the_feed_was_imported_from() -> None:
    """Nothing has to be fetched through `tapecast` before, and nothing of the feeder is imported
    until a recording is opened.
    """
    pytest.importorskip("tapecast.feeder.extract.extractor", reason="the extractor is not built")
    (path,) = [path for path in recordings("binance") if path.name == "cf_20211012_spot.jsonl"]
    script = f"""
import sys
from tapecast.consumers.feed.feed import Feed
print(any(name.startswith("tapecast.feeder") for name in sys.modules))
with Feed.replay({str(path)!r}) as feed:
    print(type(next(iter(feed))).__name__)
"""
    assert python("-c", script) == "False\nInstrument\n"
