"""The toxicity model: what was exported scores as scikit-learn does, and a foreign pickle is not run."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import pytest
from conftest import settings

from hybrid_ai.models.toxicity import ToxicityModel
from setup import toxicity

PROBES = json.loads((Path(__file__).parent / "toxicity_probes.json").read_text())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ToxicityModel:
    return ToxicityModel(settings(tmp_path_factory.mktemp("data")).models_dir)


@pytest.mark.parametrize(("text", "recorded"), PROBES, ids=[text[:20] for text, _ in PROBES])
def test_it_scores_as_scikit_learn_did(model: ToxicityModel, text: str, recorded: float) -> None:
    assert model.score(text) == pytest.approx(recorded, abs=1e-12)


def test_a_pickle_that_calls_something_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "package.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{toxicity.DATA}/vectorizer.joblib", pickle.dumps(io.open))
    with pytest.raises(pickle.UnpicklingError, match="open is not allowed"):
        toxicity.export(wheel, tmp_path / "toxicity.npz")
