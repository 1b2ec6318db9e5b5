"""The deployed actor as an ONNX graph of as few nodes as it needs.

The graph is written by hand and not by torch's exporter on purpose: every node costs about half a microsecond on the
robot, a policy must not change with torch's version, and old ONNX Runtimes must be able to read it. What a module means
is therefore written twice; the parity gate compares the two on every export.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from ddpg_robot import __version__
from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot_export.actor import DeployedActor

OPSET = 17
"""LayerNormalization came with 17; ONNX Runtime reads it since 1.12."""
IR_VERSION = 8
"""File format of that time."""

BATCH = "batch"


class _Graph:
    """Nodes and weights of a chain: each node takes the last one's output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.value = ""

    def node(
        self,
        operator: str,
        inputs: list[str] | None = None,
        weights: dict[str, np.ndarray] | None = None,
        **attributes: float,
    ) -> None:
        names = [self.value] if inputs is None else list(inputs)
        index = len(self.nodes)
        for name, array in (weights or {}).items():
            names.append(f"{name}_{index}")
            self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), names[-1]))
        self.value = f"{operator.lower()}_{index}"
        self.nodes.append(helper.make_node(operator, names, [self.value], name=self.value, **attributes))


def build_graph(deployed: DeployedActor) -> onnx.ModelProto:
    """The ONNX model of a deployed actor: inputs are the terms by name, the one output is effort or joint_target.

    Raises:
        ConfigError: the actor has a layer that no operator is known for.
    """
    graph = _Graph()
    terms = deployed.interface.observation.terms
    if len(terms) > 1:
        graph.node("Concat", [term.name for term in terms], axis=1)
    else:
        graph.value = terms[0].name
    normalizer = deployed.normalizer
    if normalizer.enabled:
        graph.node("Sub", weights={"mean": normalizer.mean.numpy()})
        graph.node("Mul", weights={"inverse_deviation": normalizer.inverse_deviation.numpy()})
        limit = np.array(normalizer.LIMIT)
        graph.node("Clip", weights={"lower": -limit, "upper": limit})
    layers = [*deployed.actor.mlp, nn.Tanh()]
    if len(deployed.actor.embedding):
        observation = graph.value
        for layer in _fold([*deployed.actor.embedding]):
            layer(graph)
        _joined_linear(layers.pop(0), normalizer.mean.numel(), observation, graph)
    for layer in _fold(layers):
        layer(graph)
    graph.node("Mul", weights={"scale": deployed.scale.numpy()})
    if deployed.offset.any():
        graph.node("Add", weights={"offset": deployed.offset.numpy()})
    if deployed.position_index is not None:
        graph.node("Add", [graph.value, terms[deployed.position_index].name])
    return _model(graph, deployed)


def _model(graph: _Graph, deployed: DeployedActor) -> onnx.ModelProto:
    output = deployed.output_name
    graph.nodes[-1].output[0] = output
    interface = deployed.interface
    inputs = [
        helper.make_tensor_value_info(term.name, TensorProto.FLOAT, [BATCH, term.size], doc_string=term.unit)
        for term in interface.observation.terms
    ]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, [BATCH, interface.robot.n_joints])]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "policy", inputs, outputs, graph.weights),
        producer_name="ddpg-robot",
        producer_version=__version__,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _fold(layers: list[nn.Module]) -> list[Callable[[_Graph], None]]:
    """One writer per layer; batch normalisation right after a linear layer goes into its weights."""
    writers: list[Callable[[_Graph], None]] = []
    index = 0
    while index < len(layers):
        layer = layers[index]
        after = layers[index + 1] if index + 1 < len(layers) else None
        if isinstance(layer, nn.Linear) and isinstance(after, nn.BatchNorm1d):
            writers.append(_linear(layer, after))
            index += 1
        else:
            writers.append(_writer(layer))
        index += 1
    return writers


def _linear(layer: nn.Linear, norm: nn.BatchNorm1d | None = None) -> Callable[[_Graph], None]:
    weight = layer.weight.numpy().astype(np.float64)  # (out, in)
    bias = np.zeros(len(weight)) if layer.bias is None else layer.bias.numpy().astype(np.float64)
    if norm is not None:
        scale, shift = _affine(norm)
        weight, bias = scale[:, None] * weight, scale * bias + shift
    return lambda graph: graph.node("Gemm", weights={"weight": weight, "bias": bias}, transB=1)


def _joined_linear(layer: nn.Linear, size: int, observation: str, graph: _Graph) -> None:
    """A linear layer of ``[s, f(s)]``, s of this size and f(s) the graph's value: two products, as only inputs may be joined."""
    weight = layer.weight.numpy()
    graph.node("Gemm", weights={"weight": weight[:, size:], "bias": layer.bias.numpy()}, transB=1)
    embedded = graph.value
    graph.node("MatMul", [observation], weights={"weight": weight[:, :size].T})
    graph.node("Add", [embedded, graph.value])


def _affine(norm: nn.BatchNorm1d) -> tuple[np.ndarray, np.ndarray]:
    """Batch normalisation with frozen statistics as scale and shift, in float64."""
    scale = 1.0 / np.sqrt(norm.running_var.numpy().astype(np.float64) + norm.eps)
    shift = -norm.running_mean.numpy() * scale
    if norm.affine:
        scale, shift = scale * norm.weight.numpy(), shift * norm.weight.numpy() + norm.bias.numpy()
    return scale, shift


def _batch_norm(norm: nn.BatchNorm1d) -> Callable[[_Graph], None]:
    scale, shift = _affine(norm)

    def write(graph: _Graph) -> None:
        graph.node("Mul", weights={"scale": scale})
        graph.node("Add", weights={"shift": shift})

    return write


def _layer_norm(norm: nn.LayerNorm) -> Callable[[_Graph], None]:
    weights = {"scale": norm.weight.numpy(), "shift": norm.bias.numpy()}
    return lambda graph: graph.node("LayerNormalization", weights=weights, axis=-1, epsilon=norm.eps)


def _writer(layer: nn.Module) -> Callable[[_Graph], None]:
    if type(layer) not in _WRITERS:
        known = [kind.__name__ for kind in _WRITERS]
        raise ConfigError(mismatch("layer of the actor", type(layer).__name__, "a layer that can be exported", known))
    return _WRITERS[type(layer)](layer)


_WRITERS: dict[type, Callable[..., Callable[[_Graph], None]]] = {
    nn.Linear: _linear,
    nn.BatchNorm1d: _batch_norm,
    nn.LayerNorm: _layer_norm,
    nn.ReLU: lambda _: lambda graph: graph.node("Relu"),
    nn.Tanh: lambda _: lambda graph: graph.node("Tanh"),
    nn.ELU: lambda layer: lambda graph: graph.node("Elu", alpha=layer.alpha),
}
