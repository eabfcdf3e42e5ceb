"""The presets hold what is published, and say which of their numbers are."""

from dataclasses import MISSING, fields

import brainunit as u
import numpy as np
import pytest

from brainhw.chip import H1V1, H1V2, LinearCharge, SaturatingCharge, get_chip

DOCUMENTED = {"weight_limit", "cores", "frontend_channels", "sign_block", "reset", "weight_bits"}


def test_published_numbers():
    assert (H1V1.weight_limit, H1V2.weight_limit) == (0.9, 1.66)
    assert (H1V1.cores, H1V2.cores) == ((64, 64, 64, 64), (50, 50, 100))
    assert (H1V1.n_neurons, H1V2.n_neurons) == (256, 200)
    assert (H1V1.reset, H1V2.reset) == ("zero", "subtract")
    for chip in (H1V1, H1V2):
        assert chip.frontend_channels == 16
        assert chip.sign_block == 5
        assert chip.weight_bits == 5
    assert H1V2.synapse_mismatch_std is None


def test_assumed_numbers():
    for chip in (H1V1, H1V2):
        assert chip.V_th.mantissa == 100.0
        assert chip.C.mantissa == 100.0
        assert chip.sign_axis == "pre"
        assert chip.tau_profiles.values.mantissa.tolist() == [1, 2, 5, 10, 20, 50, 100, 200]
        assert chip.leak_mismatch_std == 0.1
        assert (chip.core_power.mantissa, chip.spike_energy.mantissa) == (20.0, 5.0)
        assert (chip.event_energy.mantissa, chip.frontend_channel_power.mantissa) == (0.5, 2.0)
    assert H1V1.charge == SaturatingCharge(1.034 * u.fcoulomb, 1.8)
    assert H1V2.charge == LinearCharge(0.45 * u.fcoulomb)
    assert (H1V1.synapse_mismatch_std, H1V1.threshold_mismatch_std) == (0.02, None)
    assert H1V2.threshold_mismatch_std == 0.02


def test_provenance_of_each_number():
    assert {name for name, source in H1V1.provenance.items() if source == "documented"} == DOCUMENTED
    assert {name for name, source in H1V2.provenance.items() if source == "documented"} == {
        *DOCUMENTED,
        "synapse_mismatch_std",
    }
    assert "measured" not in {*H1V1.provenance.values(), *H1V2.provenance.values()}


@pytest.mark.parametrize("chip", [H1V1, H1V2], ids=lambda chip: chip.name)
def test_every_assumption_says_what_it_rests_on(chip):
    # A field of later days that is None says that nothing is known.
    unknown = {item.name for item in fields(chip) if item.default is not MISSING and getattr(chip, item.name) is None}
    assert {name for name, source in chip.provenance.items() if source == "assumed"} - unknown <= set(chip.notes)


def test_second_family_brings_less_charge():
    w = np.linspace(0.1, 0.9, 9)
    assert np.all(H1V2.charge(w).mantissa < H1V1.charge(w).mantissa)


def test_first_family_reproduces_the_printed_frontend_example():
    # 16 inputs at 145.2 Hz through mean weight 0.3841, tau = 10 ms, dt = 1 ms: a mean membrane of 0.097 V.
    step = 1.0 - np.exp(-1.0 / 10.0)
    volt_per_weight = float((H1V1.charge.slope_at_zero / H1V1.C).to(u.volt).mantissa)
    assert volt_per_weight * 1e-3 / step == pytest.approx(1.087e-4, rel=1e-3)
    assert 16 * 0.3841 * 145.2 * volt_per_weight * 1e-3 / step == pytest.approx(0.097, abs=5e-4)


@pytest.mark.parametrize("name", ["h1v1", "H1v1", "H1V1"])
def test_get_chip_by_name_in_any_case(name):
    assert get_chip(name) is H1V1
    assert get_chip(name.replace("1", "2", 2).replace("2", "1", 1)) is H1V2


def test_get_chip_returns_a_spec_as_it_is():
    mine = H1V1.replace(weight_bits=4)
    assert get_chip(mine) is mine


@pytest.mark.parametrize("chip", [None, 1, b"h1v1", H1V1.charge])
def test_get_chip_lists_the_options(chip):
    with pytest.raises(ValueError, match=r"H1v1Layer: chip must be one of 'h1v1', 'h1v2'.* or a ChipSpec .*; got "):
        get_chip(chip, call="H1v1Layer")


@pytest.mark.parametrize(("name", "near"), [("h1v3", r" \(did you mean 'h1v[12]'\?\)"), ("", ""), ("somewhere", "")])
def test_get_chip_names_the_nearest_chip(name, near):
    with pytest.raises(ValueError, match=rf"get_chip: chip must be one of 'h1v1', 'h1v2'.*; got '{name}'{near}\.$"):
        get_chip(name)
