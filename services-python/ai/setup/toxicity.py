"""Takes the toxicity model out of its pickles without running them, and writes it as plain arrays (toxicity.npz).

The package holds joblib files: pickles with arrays between. Only the names below are understood, as data; everything
else is refused, so that nothing of the package is executed and scikit-learn is not needed, here or at run time.
"""

import pickle
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

DATA = "profanity_check/data"
_NUMPY = {("numpy", "dtype"): np.dtype, ("numpy", "ndarray"): np.ndarray, ("numpy", "float64"): np.float64}
_SCALARS = {("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar")}


class _Record:
    """An object of the pickles, as its attributes."""

    def __init__(self, *_: Any) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


class _Array(_Record):
    """joblib's mark in the pickle: an array's bytes follow in the file."""

    def read(self, file: IO[bytes]) -> NDArray[Any]:
        dtype, shape = self.state["dtype"], self.state["shape"]
        if dtype.hasobject:
            raise pickle.UnpicklingError("an array of objects is not allowed")
        if self.state.get("numpy_array_alignment_bytes") is not None:
            file.read(file.read(1)[0])
        raw = file.read(int(np.prod(shape)) * dtype.itemsize)
        array: NDArray[Any] = np.frombuffer(raw, dtype).reshape(shape, order=self.state["order"])
        return array


_PythonUnpickler: Any = pickle._Unpickler  # the one in C cannot be stopped at an array


class _Reader(_PythonUnpickler):  # type: ignore[misc]
    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.file = file
        self.dispatch = _PythonUnpickler.dispatch | {pickle.BUILD[0]: _Reader.build}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _NUMPY:
            return _NUMPY[module, name]
        if (module, name) in _SCALARS:
            return lambda dtype, raw: np.frombuffer(raw, dtype)[0]
        if (module, name) == ("joblib.numpy_pickle", "NumpyArrayWrapper"):
            return _Array
        if module.startswith("sklearn."):
            return _Record
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")

    def build(self) -> None:
        self.load_build()
        if isinstance(self.stack[-1], _Array):
            self.stack.append(self.stack.pop().read(self.file))


def export(wheel: Path, target: Path) -> None:
    """Writes the words, their weights, and the five calibrated linear classifiers whose mean is the probability."""
    with zipfile.ZipFile(wheel) as archive:
        with archive.open(f"{DATA}/vectorizer.joblib") as file:
            vectorizer = _Reader(file).load().state
        with archive.open(f"{DATA}/model.joblib") as file:
            model = _Reader(file).load().state
    words = sorted(vectorizer["vocabulary_"], key=vectorizer["vocabulary_"].__getitem__)
    parts = [part.state for part in model["calibrated_classifiers_"]]
    sigmoids = [part["calibrators"][0].state for part in parts]
    with target.open("wb") as out:
        np.savez_compressed(
            out,
            words=np.frombuffer("\n".join(words).encode(), np.uint8),
            idf=np.asarray(vectorizer["_tfidf"].state["idf_"], np.float64),
            weights=np.stack([part["estimator"].state["coef_"][0] for part in parts]),
            biases=np.array([part["estimator"].state["intercept_"][0] for part in parts]),
            slopes=np.array([sigmoid["a_"] for sigmoid in sigmoids]),
            offsets=np.array([sigmoid["b_"] for sigmoid in sigmoids]),
        )
