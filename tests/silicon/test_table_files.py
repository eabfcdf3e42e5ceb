"""CSV files: kinds by header, units in headers, and one clear error for each way a file can be wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from brainhw.silicon import ChargeTable, DecayTable, RateTable, read_table

pytestmark = pytest.mark.no_dt
LAB = Path(__file__).parents[1] / "golden" / "lab"


@pytest.fixture
def write(tmp_path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "table.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_the_tables_of_a_lab_are_recognised_by_their_headers() -> None:
    charge, decay, rates = (read_table(LAB / name) for name in ("charge.csv", "decay.csv", "fi.csv"))
    assert isinstance(charge, ChargeTable)
    assert charge.code.size == 620
    assert isinstance(decay, DecayTable)
    assert decay.V.mantissa[0] == 60.7423
    assert isinstance(rates, RateTable)
    assert rates.rate.mantissa[1] == 50.0


@pytest.mark.parametrize(
    "text",
    [
        "charge_pC,synapse,code\n0.0005,0,1\n0.001,0,2\n",
        "code;synapse;charge [fC]\n1;0;0,5\n2;0;1,0\n",
        "code\tsynapse\tcharge (aC)\r\n1\t0\t500\r\n2\t0\t1e3\r\n",
        "\ufeffCode,Synapse,Charge_fC\n\n1,0,0.5\n 2 ,0, 1.0\n",
        "code,synapse,charge/fC\n1.0,0,0.5\n2,0,1",
        "code,synapse,charge_fC\r1,0,0.5\r2,0,1\r",
        "sep=;\r\ncode;synapse;charge_fC\r\n1;0;0,5\r\n2;0;1,000\r\n",
        '"sep=,"\ncode,synapse,charge_fC\n1,0,0.5\n2,0,1\n',
        b"\xff\xfe" + "code,synapse,charge_fC\n1,0,0.5\n2,0,1\n".encode("utf-16-le"),
    ],
)
def test_order_units_separators_and_byte_order_marks(write, text: str | bytes) -> None:
    table = read_table(write(text))
    assert table.code.tolist() == [1, 2]
    assert table.charge.mantissa.tolist() == [0.5, 1.0]


def test_optional_columns_and_units_of_rates(write) -> None:
    table = read_table(write("neuron,inputs,rate_kHz,window_ms,code,setting\n3,1,0.04,500,7,2\n"))
    assert (table.rate.mantissa[0], table.window.mantissa[0], table.code[0], table.setting[0]) == (40.0, 500.0, 7, 2)


def test_other_columns_are_left_out_with_a_warning(write) -> None:
    path = write("date,setting,neuron,t_us,V_uV\nx,0,1,1000,2000\n")
    with pytest.warns(UserWarning, match="read_table.*'date'"):
        table = read_table(path)
    assert (table.t.mantissa[0], table.V.mantissa[0]) == (1.0, 2.0)


GOOD = "code,synapse,charge_fC\n1,0,0.5\n"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "is empty"),
        ("code,synapse,charge_fC\n", "no rows"),
        ("code,synapse\n1,2\n", "lacks the column 'charge'"),
        ("setting,neuron,time_ms,V_mV\n0,0,0,1\n", "lacks the column 't'"),
        ("a,b\n1,2\n", "lacks the column 'code'.*'a', 'b'.*setting,neuron,t_ms,V_mV"),
        ("code,synapse,charge\n1,0,0.5\n", "'charge' has no unit"),
        ("code,synapse,charge_mV\n1,0,0.5\n", "'charge_mV' has the unit 'mV'.*fC"),
        ("code_fC,synapse,charge_fC\n1,0,0.5\n", "'code_fC' must have no unit"),
        ("code,code,synapse,charge_fC\n1,1,0,0.5\n", "2 columns 'code'"),
        (GOOD + "2,0,\n", "row 2 .*'' in the column 'charge_fC'"),
        (GOOD + "2,0,nan\n", "row 2 .*'nan'"),
        (GOOD + "2,0,high\n", "row 2 .*'high'"),
        (GOOD + "2,0,inf\n", "row 2 .*'inf'"),
        (GOOD + "2,0,0,7\n", "row 2 .*4 cells; expected 3.*decimal point"),
        (GOOD + "2,0\n", "row 2 .*2 cells; expected 3"),
        (GOOD + "1,0,0.6\n", "rows 1 and 2 .*code 1, synapse 0"),
        (GOOD + "1.5,0,0.6\n", "code must contain integers.*1.5 in row 2"),
        ("code,synapse,charge_in_fC\n1,0,0.5\n", "lacks the column 'charge' .if 'charge_in_fC' is meant"),
        ("code,synapse,charge_fC_mean\n1,0,0.5\n", "lacks the column 'charge' .if 'charge_fC_mean' is meant"),
        ("code,synapse_id,charge_fC\n1,0,0.5\n", "'synapse_id' must .* the name 'synapse'; got the suffix 'id'"),
        ("code,synapse,charge_fc\n1,0,0.5\n", "unit 'fc' .did you mean 'fC'"),
        ("setting,neuron,t_ms,V_mv\n0,0,0,1\n", "unit 'mv' .did you mean 'mV'"),
        ("setting;neuron;t_us;V_mV\n0;0;1,000;60\n0;0;2,000;55\n", "row 1 .*'1,000' in the column 't_us'.*thousands"),
        ("setting\tneuron\tt_us\tV_mV\n0\t0\t500\t60\n0\t0\t1,000,000\t5\n", "row 2 .*'1,000,000'.*thousands"),
        ("code;synapse;charge_fC\n1;0;1,207.50\n", "row 1 .*'1,207.50' in the column 'charge_fC'"),
        (b"code,synapse,charge_fC\n\xe9,0,1\n", "UTF-8"),
        (b"code,synapse,charge_fC\n\0,0,1\n", "null"),
    ],
)
def test_a_bad_file_gives_one_error_that_names_file_and_place(write, text: str | bytes, match: str) -> None:
    path = write(text)
    with pytest.raises(ValueError, match=match) as caught:
        read_table(path, call="calibrate")
    assert str(caught.value).startswith(f"calibrate: the table {str(path)!r}")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_none_or_too_large_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        read_table(tmp_path / "nowhere.csv")
    with pytest.raises(ValueError, match="a folder"):
        read_table(tmp_path)
    with pytest.raises(TypeError, match="read_table: path"):
        read_table(7)
    huge = tmp_path / "huge.csv"
    with huge.open("wb") as stream:
        stream.truncate(300 * 2**20)  # takes no room on the disk
    with pytest.raises(ValueError, match="300 MiB, more than the limit of 256"):
        read_table(huge)


def test_a_hundred_thousand_rows_are_read_as_they_stand(write) -> None:
    numbers = np.round(np.random.default_rng(0).normal(0, 1, 100_000), 4)
    rows = "\n".join(f"0,{i % 50},{i // 50},{value:.4f}" for i, value in enumerate(numbers))
    table = read_table(write("setting,neuron,t_ms,V_mV\n" + rows))
    np.testing.assert_array_equal(table.V.mantissa, numbers)
