import pytest


@pytest.fixture(autouse=True)
def _double(float64: None) -> None:
    """Members are compared with single runs to 1e-5."""
