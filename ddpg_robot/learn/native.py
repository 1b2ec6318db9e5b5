"""The passes of `backprop.py`, Adam and Polyak averaging in C, compiled for this very processor when first needed.

An update of small networks is a hundred small operations, each of which reads and writes a batch; here a strip of the
batch passes through all layers while it is in the processor's first-level cache. Where there is no C compiler, or
`DDPG_ROBOT_NATIVE=0` is set, torch computes the same numbers to within rounding.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ddpg_robot.errors import ConfigError, mismatch

STRIP = 32
"""Batches are worked on in strips of so many rows."""
WIDE = 96
"""Layers of fewer inputs or outputs compute in float32 in any case: rounding would cost more time than it saves there."""

SOURCE = Path(__file__).with_suffix(".c")
FLAGS = (
    "-O3",
    "-march=native",
    *(("-mprefer-vector-width=512",) if platform.machine() in ("x86_64", "AMD64") else ()),
    # What lets sums be vectorised. Not -ffast-math: infinities and NaN must stay what they are.
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"),
    *("-shared", "-fPIC"),
)

_log = logging.getLogger(__name__)


class _Layer(ctypes.Structure):
    """`Layer` of native.c."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "gamma", "beta")),
        *((f"{name}_gradient", ctypes.c_void_p) for name in ("weight", "bias", "gamma", "beta")),
        *((name, ctypes.c_int64) for name in ("inputs", "outputs", "hidden", "bfloat16")),
    ]


class _Matrix(ctypes.Structure):
    """`Matrix` of native.c."""

    _fields_ = (("at", ctypes.c_void_p), ("columns", ctypes.c_int64), ("apart", ctypes.c_int64))


class Native:
    """The compiled library."""

    def __init__(self, path: Path) -> None:
        library = self._library = ctypes.CDLL(str(path))
        number, pointer, real = ctypes.c_int64, ctypes.c_void_p, ctypes.c_float
        signatures = {
            "has_bfloat16": (number, ()),
            "stack_new": (pointer, (pointer, number, number, number, number)),
            "stack_free": (None, (pointer,)),
            "stack_refresh": (None, (pointer,)),
            "stack_forward": (None, (pointer, *[ctypes.POINTER(_Matrix)] * 3)),
            "stack_backward": (None, (pointer, pointer, pointer, number, number)),
            "stack_row": (None, (pointer, pointer, pointer)),
            "normalize": (None, (number, number, pointer, number, pointer, pointer, real, pointer)),
            "adam": (None, (number, *[pointer] * 4, *[real] * 5, number)),
            "follow": (None, (number, pointer, pointer, real, number)),
        }
        for name, (result, arguments) in signatures.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
            if name.startswith("stack"):
                setattr(self, name, function)
        self.has_bfloat16 = bool(library.has_bfloat16())
        """Whether it multiplies in bfloat16, which this processor can then."""

    def adam(
        self,
        parameter: Tensor,
        gradient: Tensor,
        mean: Tensor,
        square: Tensor,
        beta1: float,
        beta2: float,
        step_size: float,
        eps: float,
    ) -> None:
        """One step of Adam on flat float32 vectors, in place; the bias corrections are in `step_size` and `eps`."""
        vectors = (tensor.data_ptr() for tensor in (parameter, gradient, mean, square))
        rates = (1.0 - beta1, beta2, 1.0 - beta2, step_size, eps)
        self._library.adam(parameter.numel(), *vectors, *rates, torch.get_num_threads())

    def normalize(self, x: Tensor, mean: Tensor, inverse: Tensor, limit: float, out: Tensor) -> Tensor:
        """``out = clip((x - mean) * inverse, -limit, limit)`` for x of shape (batch, size), whose rows may lie apart."""
        vectors = (x.data_ptr(), x.stride(0), mean.data_ptr(), inverse.data_ptr())
        self._library.normalize(*x.shape, *vectors, limit, out.data_ptr())
        return out

    def follow(self, target: Tensor, source: Tensor, tau: float) -> None:
        """``target <- (1 - tau) target + tau source``, flat float32 vectors, in place."""
        self._library.follow(target.numel(), target.data_ptr(), source.data_ptr(), tau, torch.get_num_threads())


class NativeBackprop:
    """`Backprop` for stacks of Linear, LayerNorm and ReLU layers.

    Args:
        layers: a stack that `suits`.
        batch_size: rows of every input; a multiple of 32.
        bfloat16: whether the products of wide layers are in bfloat16.
    """

    def __init__(self, layers: nn.Sequential, batch_size: int, bfloat16: bool, library: Native) -> None:
        self._library, self._layers, self._batch_size = library, layers, batch_size
        parts = _stages(layers)
        assert parts is not None and batch_size % STRIP == 0
        rows = (_Layer * len(parts))(*(_layer(*part, bfloat16) for part in parts))
        trained = all(parameter.grad is not None for parameter in layers.parameters())
        self._stack = library.stack_new(rows, len(parts), batch_size, torch.get_num_threads(), trained)
        if not self._stack:
            details = f"no memory for {len(parts)} layers on {batch_size} rows, or the kernel denies AMX's registers"
            raise MemoryError(f"{details}; DDPG_ROBOT_NATIVE=0 does without")
        weakref.finalize(self, library.stack_free, self._stack)
        self._inputs = parts[0][0].in_features
        self._output = torch.empty(batch_size, parts[-1][0].out_features)
        self._output_matrix, self._nothing = _matrix(self._output), _matrix(self._output[:, :0])
        self._row = np.empty(parts[-1][0].out_features, np.float32)
        self._input_gradients: dict[int, Tensor] = {}
        self.refresh()

    def refresh(self) -> None:
        """Takes over the parameters as they are now."""
        self._library.stack_refresh(self._stack)

    def forward(self, x: Tensor, beside: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """As of `Backprop`."""
        x2 = self._nothing if beside is None else _matrix(beside)
        y = self._output_matrix if out is None else _matrix(out)
        self._library.stack_forward(self._stack, _matrix(x), x2, y)
        return self._output if out is None else out

    def backward(self, gradient: Tensor, parameters: bool = True, inputs: bool = True, first: int = 0) -> Tensor | None:
        """As of `Backprop`."""
        result, into = None, None
        if inputs:
            if first not in self._input_gradients:
                self._input_gradients[first] = torch.empty(self._batch_size, self._inputs - first)
            result = self._input_gradients[first]
            into = result.data_ptr()
        gradient = gradient.contiguous()  # a name of its own: the memory has to last
        self._library.stack_backward(self._stack, gradient.data_ptr(), into, first, parameters)
        return result

    def row(self, x: np.ndarray) -> np.ndarray:
        """Output, shape (outputs,), for one input, shape (inputs,), both contiguous float32; needs no `refresh`.

        Not between a `forward` and its `backward`.
        """
        self._library.stack_row(self._stack, x.ctypes.data, self._row.ctypes.data)
        return self._row


def _matrix(x: Tensor) -> _Matrix:
    if x.shape[1] > 1 and x.stride(1) != 1:
        raise ValueError(
            mismatch("matrix", f"numbers of a row {x.stride(1)} apart", "rows whose numbers are neighbours")
        )
    return _Matrix(x.data_ptr(), x.shape[1], x.stride(0))


def in_bfloat16(precision: str) -> bool:
    """Whether products are computed in bfloat16, for a setting of `DdpgConfig.precision`.

    Raises:
        ConfigError: it asks for bfloat16, which cannot be had here.
    """
    library = native()
    possible = library is not None and library.has_bfloat16
    if precision == "bfloat16" and not possible:
        found = "no C compiler" if library is None else "a processor or compiler without such instructions"
        raise ConfigError(mismatch("precision bfloat16", found, "cc and AVX-512 BF16 or AMX", ("auto", "float32")))
    return precision != "float32" and possible


def suits(layers: nn.Sequential, batch_size: int) -> bool:
    """Whether `NativeBackprop` can compute these layers."""
    return batch_size % STRIP == 0 and bool(_stages(layers))


Stage = tuple[nn.Linear, "nn.LayerNorm | None", bool]


def _stages(layers: nn.Sequential) -> list[Stage] | None:
    """Each linear layer with its layer normalisation and whether a ReLU follows; None where there is anything else."""
    found: list[Stage] = []
    waiting = list(layers)
    while waiting:
        linear = waiting.pop(0)
        norm = waiting.pop(0) if waiting and isinstance(waiting[0], nn.LayerNorm) else None
        relu = bool(waiting) and isinstance(waiting[0], nn.ReLU) and bool(waiting.pop(0))
        if not isinstance(linear, nn.Linear) or (norm and (norm.eps != 1e-5 or not relu)):
            return None
        if relu and not norm and not waiting:
            return None  # where the ReLU passes is read off the next layer's input
        found.append((linear, norm, relu))
    return found


def _layer(linear: nn.Linear, norm: nn.LayerNorm | None, relu: bool, bfloat16: bool) -> _Layer:
    parameters = (linear.weight, linear.bias, *((norm.weight, norm.bias) if norm else (None, None)))
    gradients = (None if p is None or p.grad is None else p.grad for p in parameters)
    pointers = [None if tensor is None else tensor.data_ptr() for tensor in (*parameters, *gradients)]
    wide = min(linear.in_features, linear.out_features) >= WIDE
    return _Layer(*pointers, linear.in_features, linear.out_features, relu, bfloat16 and wide)


@functools.cache
def native() -> Native | None:
    """The library, compiled if it was not yet; None where that is not to be had."""
    if os.environ.get("DDPG_ROBOT_NATIVE") == "0":
        return None
    name = os.environ.get("CC", "cc")
    compiler = shutil.which(name)
    slower = "training computes with torch, at about half the speed"
    if compiler is None:
        _log.warning("no C compiler ('%s'): %s", name, slower)
        return None
    try:
        with _compiled(compiler) as library:
            return Native(library)
    except (OSError, subprocess.CalledProcessError) as error:
        _log.warning("%s: %s failed: %s", slower, compiler, (getattr(error, "stderr", "") or str(error))[-300:])
        return None


@contextlib.contextmanager
def _compiled(compiler: str) -> Iterator[Path]:
    """The library that was built of this source, by this compiler, for this processor; kept in the user's cache."""
    version = subprocess.run([compiler, "--version"], check=True, capture_output=True, text=True).stdout
    parts = (SOURCE.read_text(), *FLAGS, compiler, version, _processor())
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    library = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ddpg_robot" / f"native_{name}.so"
    if library.is_file():
        yield library
        return
    with contextlib.suppress(OSError):  # where it cannot be kept, it is built for this process alone
        library.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    keep = os.access(library.parent, os.W_OK)
    with tempfile.TemporaryDirectory(dir=library.parent if keep else None) as folder:
        built = Path(folder) / library.name
        _compile(compiler, built)
        yield built.replace(library) if keep else built  # whole or not at all, whoever else builds it now


def _compile(compiler: str, library: Path) -> None:
    for threads in (("-fopenmp",), ()):  # some compilers come without it
        command = [compiler, *FLAGS, *threads, str(SOURCE), "-o", str(library), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True)
        if not done.returncode:
            return
    raise subprocess.CalledProcessError(done.returncode, command, stderr=done.stderr.strip())


def _processor() -> str:
    """What a library built for one processor must not be mixed up with another for: model and instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.platform() + platform.processor()
    return "\n".join(
        sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    )
