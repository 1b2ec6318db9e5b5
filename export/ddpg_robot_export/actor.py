"""The deployed actor as one torch module: the reference that the exported graph must reproduce."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.learn.networks import Actor
from ddpg_robot.learn.normalizer import Normalizer
from ddpg_robot.policy import OUTPUTS
from ddpg_robot.spec import PolicyInterface

POSITION = "joint_position"
"""The term that relative joint targets are relative to."""


class DeployedActor(nn.Module):
    """Terms in SI units -> torque in N·m, or joint targets in rad: ``offset + scale * actor(normalise(terms))``.

    Where targets are relative, the measured joint position is added: the output is a joint target all the same.

    Args:
        interface: what goes in and what comes out.
        normalizer: frozen normalisation of the flat observation.
        actor: normalised observation ``(batch, size)`` -> action in [-1, 1] ``(batch, n)``.
        offset: of the output ``(n,)``, N·m or rad.
        scale: output per unit of action ``(n,)``, N·m or rad.
        target_relative: joint targets are relative to the joint positions (mode pd).

    Raises:
        ConfigError: sizes do not fit together, or targets are relative and the positions are not observed.
    """

    def __init__(
        self,
        interface: PolicyInterface,
        normalizer: Normalizer,
        actor: Actor,
        offset: np.ndarray,
        scale: np.ndarray,
        target_relative: bool = False,
    ) -> None:
        super().__init__()
        self.interface = interface
        self.normalizer = normalizer
        self.actor = actor
        self.register_buffer("offset", torch.as_tensor(np.array(offset), dtype=torch.float32))
        self.register_buffer("scale", torch.as_tensor(np.array(scale), dtype=torch.float32))
        n, size = interface.robot.n_joints, interface.observation.size
        for what, found, expected in (
            ("action offset", tuple(self.offset.shape), (n,)),
            ("action scale", tuple(self.scale.shape), (n,)),
            ("normaliser size", tuple(normalizer.mean.shape), (size,)),
        ):
            if found != expected:
                raise ConfigError(mismatch(what, found, expected))
        names = [term.name for term in interface.observation.terms]
        if target_relative and (POSITION not in names or interface.control.mode != "pd"):
            found = f"mode {interface.control.mode} with terms {', '.join(names)}"
            raise ConfigError(mismatch("relative joint targets", found, f"mode pd with term {POSITION}"))
        self.position_index = names.index(POSITION) if target_relative else None
        self.requires_grad_(False).eval()

    @property
    def output_name(self) -> str:
        """Name of the graph's output."""
        return OUTPUTS[self.interface.control.mode]

    def forward(self, *terms: Tensor) -> Tensor:
        """Output ``(batch, n)`` for the terms in the interface's order, each ``(batch, size)``."""
        output = self.offset + self.scale * self.actor(self.normalizer(torch.cat(terms, dim=1)))
        return output if self.position_index is None else output + terms[self.position_index]

    def flat(self, observations: np.ndarray) -> np.ndarray:
        """Output ``(batch, n)`` for flat observations ``(batch, size)``, both float32."""
        sizes = [term.size for term in self.interface.observation.terms]
        return self(*torch.from_numpy(observations).split(sizes, dim=1)).numpy()

    def action(self, observation: np.ndarray) -> np.ndarray:
        """Action in [-1, 1] ``(n,)`` for one flat observation ``(size,)``, float32."""
        return self.actor(self.normalizer(torch.from_numpy(observation)[None]))[0].numpy()
