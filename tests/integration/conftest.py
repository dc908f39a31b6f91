"""What takes long to make and is the same for all: it is made once a session."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from integration.predictors.trained import Run, train_all


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Run]:
    """All trainings, by name; torch is loaded only when a test asks for them."""
    return train_all(tmp_path_factory.mktemp("train"))
