"""A policy file's network in torch, layer by layer, to be timed beside ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor
from torch.nn import functional

from ddpg_robot.errors import PolicyFileError, mismatch

OPERATORS: dict[str, Callable[..., Tensor]] = {
    "Add": torch.add,
    "Clip": torch.clamp,
    "Concat": lambda *parts, axis: torch.cat(parts, dim=axis),
    "Elu": functional.elu,
    "Gemm": lambda x, weight, bias, transB: functional.linear(x, weight, bias),  # noqa: N803 - ONNX's attribute
    "LayerNormalization": lambda x, weight, bias, axis, epsilon: functional.layer_norm(
        x, weight.shape, weight, bias, epsilon
    ),
    "Mul": torch.mul,
    "Relu": torch.relu,
    "Sub": torch.sub,
    "Tanh": torch.tanh,
}
"""The operators that this package's exporter writes, in the form in which it writes them."""


class TorchGraph:
    """Runs the nodes of a policy file with torch's eager functions.

    Raises:
        PolicyFileError: the file has an operator that this package's exporter does not write.
    """

    def __init__(self, path: str | Path) -> None:
        graph = onnx.load(str(path), load_external_data=False).graph
        self._weights = {w.name: torch.from_numpy(numpy_helper.to_array(w).copy()) for w in graph.initializer}
        self._output = graph.output[0].name
        unknown = {node.op_type for node in graph.node} - OPERATORS.keys()
        if unknown:
            raise PolicyFileError(mismatch(f"{path}: operators", ", ".join(sorted(unknown)), "known ones", OPERATORS))
        self._steps = [
            (
                OPERATORS[node.op_type],
                list(node.input),
                {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute},
                node.output[0],
            )
            for node in graph.node
        ]

    def __call__(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Output ``(batch, n)`` for terms ``(batch, size)``."""
        values = {**self._weights, **terms}
        for function, inputs, attributes, output in self._steps:
            values[output] = function(*[values[name] for name in inputs], **attributes)
        return values[self._output]
