"""Every job type once, and every mode, from the producer's payload to the callback, in few steps.

`make matrix` runs each type in each of its modes, which takes minutes.
"""

from pathlib import Path

import pytest

from tests.campaigns import matrix

CHOSEN = {
    ("sdxl_image_fast", "none", 3),
    ("sdxl_image_high", "single", 1),
    ("image_fast", "single", 1),
    ("image_high", "both", 1),
    ("image7b_fast_enhanced", "none", 1),
    ("image7b_high_enhanced", "end", 1),
    ("video_fast", "none", 1),
    ("video_high", "single", 1),
    ("video7b_fast_enhanced", "both", 1),
    ("video7b_high_enhanced", "end", 1),
}


@pytest.mark.timeout(900)
def test_types_and_modes_keep_their_promises(tiny: Path, tmp_path: Path) -> None:
    every = list(matrix.cases())
    assert len(every) == 2 * (3 + 3) + 8 * 5
    chosen = [case for case in every if (case.preset.job_type, case.mode, case.images) in CHOSEN]
    assert len(chosen) == 9 + 3  # SDXL's reference has three types
    rows = matrix.run(tmp_path, tiny, chosen=chosen, steps=2)
    assert {" ".join(row.cells[:2]): row.wrong for row in rows if row.wrong} == {}
    ways = {row.callback["metadata"].get("reference_way") for row in rows}
    assert ways == {None, "ip_adapter:style", "ip_adapter:composition", "ip_adapter:character", "vace"}
    matrix.sheet(rows, tmp_path / "sheet.png")
