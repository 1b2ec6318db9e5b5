"""The actor that did best in whole episodes of training, kept while the newest one goes on learning."""

from __future__ import annotations

import copy
from collections import deque
from statistics import fmean

import torch
from torch import Tensor, nn


class Trials:
    """Tries copies of an actor in episodes without noise, and keeps the one whose mean return was the highest.

    Single updates can ruin a gait, and an actor taken wherever learning has come to is as often in a dip as on a peak.
    After the checkpoints of TD7 (Fujimoto et al. 2023, arXiv 2306.02451), where the actor stops learning while it is tried;
    here a copy is tried, in every so many rounds of episodes, one round being an episode in each environment. A copy must
    be ahead of the one that is kept after each of its rounds. After each one that is not, the one that is kept drives
    again: what it owed to luck, or to a task that was easier then, goes.

    Args:
        actor: the network whose copies are tried.
        every: a trial in every so many rounds; 0: never.
        episodes: that an actor must have driven before it can be kept.
    """

    def __init__(self, actor: nn.Module, every: int, episodes: int) -> None:
        self._actor, self._every, self._episodes = actor, every, episodes
        self.tried = copy.deepcopy(actor).requires_grad_(False)
        """The copy that drives while `running`."""
        self.kept = copy.deepcopy(actor).requires_grad_(False)
        """The best so far; an untrained one unless `found`."""
        self.running = False
        """Whether this round is a trial."""
        self._again = False
        self._rounds = 0
        self._returns: list[float] = []
        self._kept_returns: deque[float] = deque(maxlen=4 * episodes)

    @property
    def found(self) -> bool:
        """Whether there is one to keep."""
        return bool(self._kept_returns)

    def begin(self) -> None:
        """A round of episodes begins."""
        if self._returns:
            self._judge()
        self._rounds += 1
        self.running = self._every > 0 and self._rounds % self._every == 0
        if self.running and not self._returns:
            _copy((self.kept if self._again else self._actor).state_dict(), self.tried)

    def observe_episode(self, total: float) -> None:
        """An episode of this return, in a round that is a trial, is over."""
        self._returns.append(total)

    def _judge(self) -> None:
        if self._again:
            self._kept_returns.extend(self._returns)
            self._again = False
        elif self.found and fmean(self._returns) < fmean(self._kept_returns):
            self._again = True
        elif len(self._returns) < self._episodes:
            return
        else:
            _copy(self.tried.state_dict(), self.kept)
            self._kept_returns.clear()
            self._kept_returns.extend(self._returns)
        self._returns.clear()

    def state_dict(self) -> dict[str, Tensor]:
        """Both actors and all numbers, between two rounds."""
        actors = {f"{name}.{key}": value for name, one in self._actors() for key, value in one.state_dict().items()}
        rounds = (self._rounds, float(self._again))
        numbers = {"rounds": rounds, "returns": self._returns, "kept_returns": list(self._kept_returns)}
        return {**actors, **{name: torch.tensor(one, dtype=torch.float64) for name, one in numbers.items()}}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores what `state_dict` gave."""
        for name, one in self._actors():
            _copy({key: state[f"{name}.{key}"] for key in one.state_dict()}, one)
        rounds, again = state["rounds"].tolist()
        self._rounds, self._again = int(rounds), bool(again)
        self._returns = state["returns"].tolist()
        self._kept_returns = deque(state["kept_returns"].tolist(), self._kept_returns.maxlen)

    def _actors(self) -> tuple[tuple[str, nn.Module], ...]:
        return ("tried", self.tried), ("kept", self.kept)


def _copy(state: dict[str, Tensor], target: nn.Module) -> None:
    for key, value in target.state_dict().items():
        value.copy_(state[key])  # in place: who acts by it reads its memory
