"""Job types in their reference modes, from the producer's payload to the callback, in few steps.

Videos take the time, so each of their types has one mode here, and one has two; `make matrix` runs them all.
"""

from pathlib import Path

import pytest

from tests.campaigns import matrix

VIDEOS = {
    ("video_fast", "none"),
    ("video_fast", "both"),
    ("video_high", "single"),
    ("video7b_fast_enhanced", "start"),
    ("video7b_high_enhanced", "end"),
}


@pytest.mark.timeout(900)
def test_types_and_modes_keep_their_promises(tiny: Path, tmp_path: Path) -> None:
    every = list(matrix.cases())
    assert len(every) == 2 * (3 + 3) + 8 * 5
    chosen = [case for case in every if case.preset.media == "image" or (case.preset.job_type, case.mode) in VIDEOS]
    rows = matrix.run(tmp_path, tiny, chosen=chosen, steps=2)
    assert len(rows) == 12 + 20 + 5
    assert {" ".join(row.cells[:2]): row.wrong for row in rows if row.wrong} == {}
    ways = {row.callback["metadata"].get("reference_way") for row in rows}
    assert ways == {None, "ip_adapter:style", "ip_adapter:composition", "ip_adapter:character", "vace"}
    matrix.sheet(rows, tmp_path / "sheet.png")
