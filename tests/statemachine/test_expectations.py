"""The expected times cover what may be asked for, and agree with the presets."""

from statemachine.expectations import EXPECTATIONS, expected
from workers.presets import PRESETS, SDXL


def test_every_job_that_may_be_asked_for_has_one_expectation() -> None:
    asked = {(preset.job_type, number) for preset in PRESETS.values() for number in preset.counts}
    assert sorted((one.job_type, one.assets) for one in EXPECTATIONS) == sorted(asked)
    assert expected("sdxl_image_fast", 4) is None
    assert expected(None, 1) is None


def test_what_is_expected_is_a_range() -> None:
    assert [one for one in EXPECTATIONS if one.most is not None and not 0 < one.least < one.most] == []


def test_the_presets_expected_time_is_the_upper_end() -> None:
    """SDXL's presets have a figure of their own in the specification, for whatever number of pictures."""
    for preset in PRESETS.values():
        one = expected(preset.job_type, 1)
        assert one is not None
        if preset.family != SDXL:
            assert preset.expected_time == (one.most or one.least), preset.job_type
