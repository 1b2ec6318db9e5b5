"""The methods on the way to DDPG, each as a small baseline (docs/why-ddpg.md). They are made to be read, not to be fast."""
