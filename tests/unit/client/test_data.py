"""What people hold becomes what a deployment takes, and the answer comes back as the same kind of thing."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st

from headgate.client.data import prepare
from headgate.client.wire import Field, Metadata
from headgate.errors import InvalidRequest


def takes(*inputs: Field, outputs: tuple[Field, ...] = (Field("y", "FP32", (-1,)),)) -> Metadata:
    """A deployment called ``m`` with these inputs."""
    return Metadata("m", ("1",), "onnx", inputs, outputs)


MATRIX = takes(Field("x", "FP32", (-1, 3)))
TABLE = takes(Field("age", "INT64", (-1, 1)), Field("city", "BYTES", (-1, 1)))


def test_arrays_are_cast_to_what_the_deployment_takes() -> None:
    """Python's and NumPy's doubles go to a float32 input; the shape stays."""
    typed, restore = prepare({"x": np.ones((2, 3))}, MATRIX)
    dtype, array = typed["x"]
    assert (dtype, array.dtype, array.shape) == ("FP32", np.float32, (2, 3))
    outputs = {"y": np.zeros(2, "float32")}
    assert restore(outputs) is outputs


def test_one_array_is_the_only_input() -> None:
    """A bare array is the deployment's one input, and the answer is its one output, bare."""
    typed, restore = prepare(np.ones((2, 3), "float32"), MATRIX)
    assert list(typed) == ["x"]
    assert restore({"y": np.array([1.0, 2.0])}).tolist() == [1.0, 2.0]


def test_one_array_for_several_inputs_is_refused() -> None:
    """A bare array for a deployment of two inputs is refused with their names."""
    with pytest.raises(InvalidRequest, match="age, city"):
        prepare(np.ones(3), TABLE)


def test_one_row_goes_as_a_batch_of_one() -> None:
    """Values without a batch axis are one row: sent as a batch of one, answered without the axis."""
    typed, restore = prepare({"x": [1.0, 2.0, 3.0]}, MATRIX)
    assert typed["x"][1].shape == (1, 3)
    assert restore({"y": np.array([0.25])}) == {"y": 0.25}


def test_scalars_are_one_row_of_columns() -> None:
    """A dict of plain values, numbers and text, is one row of a tabular deployment."""
    typed, restore = prepare({"age": 3, "city": "Rome"}, TABLE)
    assert typed["age"][1].tolist() == [[3]]
    assert typed["city"][1].tolist() == [[b"Rome"]]
    assert restore({"y": np.array([0.5])}) == {"y": 0.5}


def test_a_row_beside_a_batch_is_refused() -> None:
    """Inputs that do not agree on whether there is a batch are refused, by name."""
    with pytest.raises(InvalidRequest, match=r"'age' is one row, but 'city' is not"):
        prepare({"age": 3, "city": ["Rome", "Oslo"]}, TABLE)


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        ([300], "UINT8", "300 does not fit UINT8"),
        ([-1], "UINT8", "-1 does not fit UINT8"),
        ([1.5], "INT64", "expected INT64, got float64"),
        (["a"], "FP32", "expected FP32"),
        ([object()], "FP32", "expected FP32"),
        (np.array(["3", "4"], dtype=object), "FP64", "expected FP64, got '3' \\(str\\) at position 0"),
        (np.array([1, 2.5], dtype=object), "INT64", "expected INT64, got float64"),
        (np.array([1, 300], dtype=object), "INT8", "300 does not fit INT8"),
        ([2**70], "INT64", "numbers that no dtype holds"),
        ([1.0, -1e300], "FP32", "-1e\\+300 does not fit FP32"),
        ([1e5], "FP16", "100000.0 does not fit FP16"),
        (np.array([1e300, None], dtype=object), "FP32", "1e\\+300 does not fit FP32"),
        ([None], "INT64", "expected INT64"),
        ([1], "BYTES", "expected text, got 1"),
        ([None], "BYTES", "expected text, got None"),
        ([1], "BOOL", "expected BOOL, got int64"),
    ],
)
def test_what_would_lose_its_meaning_is_refused(value: list[object], dtype: str, message: str) -> None:
    """Nothing is truncated, wrapped or turned into text silently: the message names the input, expected and got."""
    with pytest.raises(InvalidRequest, match=message) as raised:
        prepare({"x": value}, takes(Field("x", dtype, (-1,))))
    assert "'x'" in str(raised.value)


@given(st.lists(st.integers(-(2**63), 2**64 - 1), min_size=1), st.sampled_from(["INT8", "UINT8", "INT32", "UINT64", "INT64"]))
def test_integers_arrive_exactly_or_not_at_all(values: list[int], dtype: str) -> None:
    """Whatever integers are given, the array sent holds exactly these, or the request is refused."""
    try:
        typed, _ = prepare({"x": values}, takes(Field("x", dtype, (-1,))))
    except InvalidRequest:
        return
    assert typed["x"][1].tolist() == values


def test_a_missing_number_is_nan() -> None:
    """None among floats, as data frames have it, is NaN."""
    typed, _ = prepare({"x": [1.0, None]}, takes(Field("x", "FP32", (-1,))))
    assert np.isnan(typed["x"][1]).tolist() == [False, True]


def test_an_unknown_input_goes_to_the_server() -> None:
    """An input the deployment may not know is sent as it is: the server knows best, and refuses by name."""
    typed, _ = prepare({"x": np.ones((1, 3), "float32"), "z": np.arange(2)}, MATRIX)
    assert typed["z"][0] == "INT64"


def test_a_frame_gives_a_frame() -> None:
    """The columns of a pandas data frame are the inputs; outputs become columns under the same index."""
    frame = pd.DataFrame({"age": [3, 4], "city": ["Rome", "Oslo"]}, index=[7, 9])
    typed, restore = prepare(frame, TABLE)
    assert typed["age"][1].shape == (2, 1)
    assert typed["city"][1].ravel().tolist() == [b"Rome", b"Oslo"]
    answer = restore({"y": np.array([0.5, 0.25]), "p": np.array([[1, 2], [3, 4]])})
    assert answer.to_dict("list") == {"y": [0.5, 0.25], "p_0": [1, 3], "p_1": [2, 4]}
    assert answer.index.tolist() == [7, 9]


def test_a_frame_is_one_matrix_where_the_deployment_takes_one() -> None:
    """For a deployment of one input with as many values as the frame has columns, the columns are its values, in order."""
    frame = pd.DataFrame({"a": [1.0, 4.0], "b": [2.0, 5.0], "c": [3.0, 6.0]})
    typed, _ = prepare(frame, MATRIX)
    assert typed["x"][1].tolist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


def test_a_missing_text_in_a_frame_is_refused() -> None:
    """A missing value in a text column is refused with its place; it is not sent as the text 'nan'."""
    with pytest.raises(InvalidRequest, match=r"'city': expected text, got nan \(float\) at position 1"):
        prepare(pd.DataFrame({"age": [3, 4], "city": ["Rome", None]}), TABLE)


def test_outputs_that_are_no_rows_do_not_become_a_frame() -> None:
    """An output with another number of entries than the frame has rows is refused, not repeated or cut."""
    _, restore = prepare(pd.DataFrame({"age": [3], "city": ["Rome"]}), TABLE)
    with pytest.raises(InvalidRequest, match="output 'y'"):
        restore({"y": np.zeros(5)})
