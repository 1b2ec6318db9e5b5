"""How well a deployment keeps time on this machine: real plant, real DDS, beside a bare sleep loop.

``loop`` is `ddpg-robot benchmark loop`, ``conditions`` its second table, ``measure`` runs one of its measurements. ``soak``
is `ddpg-robot benchmark soak`, ``soak_result`` what is made of it.
"""
