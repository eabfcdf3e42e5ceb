"""Columns of bench tables: one length, finite, in their units, no measurement twice."""

from __future__ import annotations

from typing import Any

import brainunit as u
import numpy as np
import pytest

from brainhw.silicon import ChargeTable, DecayTable, RateTable

pytestmark = pytest.mark.no_dt
ROWS = np.arange(4)


def charge(**changed: Any) -> ChargeTable:
    return ChargeTable(**{"code": ROWS - 2, "synapse": 0 * ROWS, "charge": 0.1 * ROWS * u.fcoulomb, **changed})


def decay(**changed: Any) -> DecayTable:
    return DecayTable(
        **{"setting": 0 * ROWS, "neuron": 0 * ROWS, "t": ROWS * u.ms, "V": (9.0 - ROWS) * u.mV, **changed}
    )


def rates(**changed: Any) -> RateTable:
    return RateTable(**{"neuron": 0 * ROWS, "inputs": ROWS, "rate": 10.0 * ROWS * u.Hz, **changed})


def test_units_are_converted_and_numbers_kept_exactly() -> None:
    assert charge(charge=1e-4 * ROWS * u.pcoulomb).charge.mantissa.tolist() == [0.0, 0.1, 0.2, 0.3]
    assert decay(t=0.001 * ROWS * u.second).t.mantissa.tolist() == [0.0, 1.0, 2.0, 3.0]
    table = rates(window=0.5 * u.second)
    assert (table.window.mantissa == 500.0).all()
    assert table.window.unit == u.ms
    assert (rates().window.mantissa == 1000.0).all()


def test_columns_cannot_be_changed() -> None:
    table = charge()
    with pytest.raises(ValueError, match="read-only"):
        table.code[0] = 5


@pytest.mark.parametrize(
    ("make", "changed", "error", "match"),
    [
        (charge, {"code": [0.5, 1, 2, 3]}, ValueError, r"ChargeTable: code .*0\.5 in row 1 \(1 "),
        (charge, {"code": None}, TypeError, "ChargeTable: code"),
        (charge, {"synapse": -ROWS}, ValueError, "ChargeTable: synapse .*-1 in row 2"),
        (charge, {"charge": ROWS * u.mV}, TypeError, "ChargeTable: charge .*fC"),
        (charge, {"charge": [0, 1, np.nan, 3] * u.fcoulomb}, ValueError, "ChargeTable: charge must be finite; got 1 "),
        (charge, {"code": []}, ValueError, "ChargeTable: code .*non-empty array"),
        (charge, {"synapse": [0, 0, 0]}, ValueError, "ChargeTable: code and synapse .*4 and 3"),
        (charge, {"code": [1, 2, 2, 3]}, ValueError, "ChargeTable: rows 2 and 3 .*code 2, synapse 0 .*1 repeated"),
        (decay, {"t": -ROWS * u.ms}, ValueError, "DecayTable: t must be zero or greater"),
        (decay, {"t": 0 * ROWS * u.ms}, ValueError, r"DecayTable: rows 1 and 2 .*\(3 repeated"),
        (decay, {"neuron": 10**7 * ROWS}, ValueError, "DecayTable: neuron .*1e.07"),
        (rates, {"rate": -10.0 * ROWS * u.Hz}, ValueError, "RateTable: rate must be zero or greater"),
        (rates, {"window": 0 * u.second}, ValueError, "RateTable: window must be greater than zero"),
        (rates, {"inputs": ROWS > 1}, TypeError, "RateTable: inputs must contain integers"),
    ],
)
def test_a_bad_column_is_refused_by_name(make: Any, changed: dict[str, Any], error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        make(**changed)


def test_repeated_measurements_are_told_apart_by_their_trial() -> None:
    table = charge(code=[1, 1, 2, 2], trial=[0, 1, 0, 1])
    assert repr(table) == "ChargeTable(4 rows: 2 codes, 1 synapse)"
