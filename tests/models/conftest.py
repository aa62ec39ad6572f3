import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def table():
    generator = np.random.default_rng(7)
    return pd.DataFrame({"age": generator.uniform(18, 80, 40), "calls": generator.integers(0, 9, 40)})


@pytest.fixture
def labels(table):
    return (table["age"] > 40).astype("int64").to_numpy()
