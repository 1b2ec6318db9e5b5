"""LEARN: DDPG in torch."""
