"""The digits, read from scikit-learn's file without importing it."""

from sklearn.datasets import load_digits

from tasks.digits import read_digits


def test_the_digits_are_those_that_scikit_learn_loads() -> None:
    data, target = read_digits()
    expected = load_digits()
    assert data.dtype == expected.data.dtype
    assert target.dtype == expected.target.dtype
    assert data.tobytes() == expected.data.tobytes()
    assert target.tobytes() == expected.target.tobytes()
