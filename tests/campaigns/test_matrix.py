"""Every job type in every reference mode, from the producer's payload to the callback, in few steps."""

from pathlib import Path

import pytest

from tests.campaigns import matrix


@pytest.mark.timeout(900)
def test_every_type_in_every_mode_keeps_its_promises(tiny: Path, tmp_path: Path) -> None:
    chosen = list(matrix.cases())
    assert len(chosen) == 2 * (3 + 3) + 8 * 5
    rows = matrix.run(tmp_path, tiny, chosen=chosen, steps=2)
    assert {" ".join(row.cells[:2]): row.wrong for row in rows if row.wrong} == {}
    ways = {row.callback["metadata"].get("reference_way") for row in rows}
    assert ways == {None, "ip_adapter:style", "ip_adapter:composition", "ip_adapter:character", "vace"}
    matrix.sheet(rows, tmp_path / "sheet.png")
