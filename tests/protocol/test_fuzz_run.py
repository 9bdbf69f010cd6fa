"""The bounded fuzz run finds what is planted, so that its silence means something.

Each defect is put into a copy of the tree: a read past the end in the harness itself, and slips
of one operator or line in the C core, each behind a check that its target claims to make.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_COMPILER = os.environ.get("CC", "gcc")
_FLAGS = ["-fsanitize=address,undefined", "-x", "c", "-"]
_OVERFLOW = "heap-buffer-overflow"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of what the run needs; skips without bash and a compiler that has the
    sanitizers.
    """
    folder = tmp_path_factory.mktemp("fuzz")
    if shutil.which("bash") is None or shutil.which(_COMPILER) is None:
        pytest.skip(f"no bash or no {_COMPILER}")
    tried = subprocess.run(
        [_COMPILER, *_FLAGS, "-o", str(folder / "tried")],
        input="int main(void) { return 0; }\n",
        text=True,
        capture_output=True,
    )
    if tried.returncode:
        pytest.skip(f"{_COMPILER} has no sanitizers: {tried.stderr.strip()[:200]}")
    for name in ("protocol", "feeder", "tests"):
        shutil.copytree(
            _ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.o")
        )
    return folder


def _fuzz(
    tree: Path, seconds: int, *arguments: str, flags: str = ""
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PYTHON": sys.executable,
        "CFLAGS": flags,
        "CC": _COMPILER,
        "TMPDIR": str(tree),
    }
    return subprocess.run(
        [str(tree / "protocol/native/fuzz/run"), str(seconds), *arguments],
        env=environment,
        text=True,
        capture_output=True,
    )


def _assert_found(
    run: subprocess.CompletedProcess[str], what: str, target: str, tree: Path
) -> None:
    assert run.returncode == 1, run.stdout + run.stderr
    assert what in run.stderr, run.stderr[-4000:]
    assert f"again: protocol/native/fuzz/run 20 {target} 1" in run.stdout
    assert run.stdout.endswith("0 passed, 1 failed\n")
    assert (tree / f"tapecast-fuzz-{target}-1").stat().st_size > 0


@pytest.mark.parametrize("target", ["books", "extract-okx"])
def test_a_planted_read_past_the_end_is_found(tree: Path, target: str) -> None:
    """A mutated input read one byte too far ends the run with status 1, the input kept and the
    command to repeat it.
    """
    _assert_found(_fuzz(tree, 2, target, "1", flags="-DPLANT_DEFECT"), _OVERFLOW, target, tree)


def test_a_sound_target_passes_and_repeats_itself(tree: Path) -> None:
    """Without a defect the run ends by its time with status 0, after one run with the fixed seed
    and one from the clock.
    """
    run = _fuzz(tree, 1, "publish")
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.endswith("2 passed, 0 failed\n")
    assert "seed 1:" in run.stdout


_SLIPS = [
    ("books", "book_side.c", "if (quantity == 0) return;", "", "a quantity that no level has"),
    (
        "books",
        "book.c",
        "if (bids > book->bid_capacity || asks > book->ask_capacity) {",
        "if (asks > book->ask_capacity) {",
        "AddressSanitizer",
    ),
    (
        "packets",
        "sequence_window.c",
        "ch->edge++;\n            ch->beyond--;",
        "ch->edge++;",
        "fuzz: ",
    ),
    (
        "packets",
        "sequence_window.c",
        "while (seq - ch->next >= s->reach)",
        "while (seq - ch->next > 2 * s->reach)",
        "fuzz: ",
    ),
    ("packets", "validate.c", "length < TC_HEADER_SIZE", "length < 8", _OVERFLOW),
    (
        "publish",
        "stamp.c",
        "h->instrument_seq >= s->n_instruments",
        "h->instrument_seq > s->n_instruments",
        _OVERFLOW,
    ),
    (
        "publish",
        "auth.c",
        "if (n + TC_TAG_SIZE > TC_MAX_PACKET)",
        "if (n > TC_MAX_PACKET)",
        "the length of a sealed packet",
    ),
    (
        "packets",
        "auth.c",
        "((given[0] ^ tag[0]) | (given[1] ^ tag[1]))",
        "(given[0] ^ tag[0])",
        "a packet with a wrong tag",
    ),
    (
        "ring",
        "ring.c",
        "r->places[r->tail & r->mask] + r->capacity < r->end",
        "r->tail + 1000 < r->head",
        "another packet",
    ),
    ("ring", "ring.c", "at + nbytes > r->capacity) {", "at > r->capacity) {", _OVERFLOW),
    (
        "publish",
        "send.c",
        "if (!n || n > first ||",
        "if (!n ||",
        "a GSO message cut inside a packet",
    ),
    (
        "extract-okx",
        "extract_emit.c",
        "target->pos > x->out_capacity - bytes",
        "target->pos > x->out_capacity",
        "AddressSanitizer",
    ),
    (
        "extract-okx",
        "extract_rows.c",
        "r->x->row_capacity - TC_QUOTE_SLOTS / 2",
        "r->x->row_capacity + 2",
        _OVERFLOW,
    ),
]


@pytest.mark.parametrize("slip", _SLIPS, ids=[f"{slip[1]}-{n}" for n, slip in enumerate(_SLIPS)])
def test_a_planted_slip_has_its_place(slip: tuple[str, str, str, str, str]) -> None:
    """The code that the slow test below spoils stands once where it looks for it."""
    _, file, right, *_ = slip
    assert (_ROOT / "protocol" / "native" / file).read_text().count(right) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "file", "right", "wrong", "what"),
    _SLIPS,
    ids=[f"{slip[1]}-{n}" for n, slip in enumerate(_SLIPS)],
)
def test_a_slip_in_the_core_is_found(
    tree: Path, target: str, file: str, right: str, wrong: str, what: str
) -> None:
    """Each target finds a slip in the code it exercises within seconds."""
    path = tree / "protocol" / "native" / file
    source = path.read_text()
    assert source.count(right) == 1
    path.write_text(source.replace(right, wrong))
    try:
        _assert_found(_fuzz(tree, 10, target, "1"), what, target, tree)
    finally:
        path.write_text(source)
