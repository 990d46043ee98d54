"""Reads data frames out of a package of R's data sets, without pandas and without running anything of the package.

The package keeps each frame as an xz-compressed pickle. A pickle can name any function; this reader knows the few that
a frame of numbers and texts needs, and refuses the rest.
"""

import lzma
import pickle
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

Columns = dict[str, NDArray[Any]]


class _Part:
    """Stands for an object of pandas: keeps what it was made from."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _from_buffer(buffer: Any, dtype: np.dtype[Any], shape: tuple[int, ...], order: Any) -> NDArray[Any]:
    return np.frombuffer(buffer, dtype).reshape(shape, order=order)


def _reconstruct(kind: type, shape: tuple[int, ...], code: bytes) -> Any:
    return np.ndarray.__new__(kind, shape, code.decode())


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("builtins", "slice"): slice,
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("pandas.core.frame", "DataFrame"): _Part,
    ("pandas.core.indexes.base", "Index"): _Part,
    ("pandas.core.indexes.base", "_new_Index"): _Part,
    ("pandas.core.indexes.range", "RangeIndex"): _Part,
    ("pandas.core.internals.managers", "BlockManager"): _Part,
    ("pandas._libs.internals", "_unpickle_block"): _Part,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module.replace("numpy._core", "numpy.core"), name]  # numpy 2 renamed it
        except KeyError:
            raise pickle.UnpicklingError(f"the data name {module}.{name}, which no table needs") from None


def read(compressed: bytes) -> Columns:
    """The frame's columns by name, each of shape (rows,). Raises pickle.UnpicklingError for anything but a frame."""
    frame = _Reader(BytesIO(lzma.decompress(compressed))).load()
    blocks, (names, _) = frame.state["_mgr"].arguments
    labels = [str(name) for name in names.arguments[1]["data"]]
    columns: Columns = {}
    for block in blocks:
        values, places, _ = block.arguments
        for row, place in enumerate(range(len(labels))[places] if isinstance(places, slice) else places):
            columns[labels[place]] = values[row]
    return columns
