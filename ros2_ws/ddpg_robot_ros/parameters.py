"""Declares ROS parameters from one table: name, default, description and range, as `ros2 param describe` shows them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.policy import shipped_policy


@dataclass(frozen=True)
class Parameter:
    """One ROS parameter; `lower` and `upper` bound numbers, `choices` bound strings."""

    name: str
    default: Any
    description: str
    lower: float | None = None
    upper: float | None = None
    choices: tuple[str, ...] = ()


def declare(node: Node, parameters: Iterable[Parameter]) -> None:
    """Declares all parameters; from now on a value of the wrong type or out of range is refused.

    Raises:
        ConfigError: a value from the command line or a parameter file has the wrong type or is out of range.
    """
    table = {parameter.name: parameter for parameter in parameters}
    for parameter in table.values():
        descriptor = ParameterDescriptor(description=_describe(parameter))
        if parameter.lower is not None and parameter.upper is not None:
            if isinstance(parameter.default, int):
                descriptor.integer_range = [IntegerRange(from_value=parameter.lower, to_value=parameter.upper, step=1)]
            else:
                bounds = FloatingPointRange(from_value=parameter.lower, to_value=parameter.upper, step=0.0)
                descriptor.floating_point_range = [bounds]
        try:
            value = node.declare_parameter(parameter.name, parameter.default, descriptor).value
        except Exception as error:  # rclpy has a family of them without a common base
            hint = "ROS wants a decimal point here: 500.0, not 500" if "'INTEGER'" in str(error) else None
            expected = f"{type(parameter.default).__name__}{_range(parameter)}"
            raise ConfigError(mismatch(f"parameter '{parameter.name}'", error, expected, hint=hint)) from None
        if parameter.choices and value not in parameter.choices:
            raise ConfigError(mismatch(f"parameter '{parameter.name}'", repr(value), "a choice", parameter.choices))

    def check(changes: list[Any]) -> SetParametersResult:
        for change in changes:
            choices = table[change.name].choices if change.name in table else ()
            if choices and change.value not in choices:
                reason = mismatch(f"parameter '{change.name}'", repr(change.value), "a choice", choices)
                return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(check)


def value(node: Node, name: str) -> Any:
    """A declared parameter's value."""
    return node.get_parameter(name).value


def policy_path(text: str) -> Path:
    """The policy file that a parameter means: a path, or the name of a shipped policy.

    Raises:
        PolicyFileError: it is neither.
    """
    path = Path(text).expanduser()
    return path if path.suffix or path.exists() else shipped_policy(text)


def _describe(parameter: Parameter) -> str:
    if parameter.choices:
        return f"{parameter.description} One of: {', '.join(parameter.choices)}."
    return parameter.description


def _range(parameter: Parameter) -> str:
    return "" if parameter.lower is None else f" from {parameter.lower:g} to {parameter.upper:g}"
