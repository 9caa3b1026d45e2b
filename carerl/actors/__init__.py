"""Floor 5: the Ray actors, thin, and the handles by which a driver holds them. The only room that imports ray.

``access``       the token that a cluster asks for
``ray_cluster``  joining or starting a Ray cluster, and what it has
``workers``      the actor classes: what runs in each process
``gauges``       what a run logs as Ray's metrics, for Prometheus
``placement``    room for a run's actors: all of it, or none
``draining``     nodes that are about to go
``crew``         the driver's side: one object per role, and the crew that holds them together
``grading``      the actors that grade and reward
``jobs``         Ray jobs, submitted and seen from within
"""

from carerl.actors.access import enable_token

enable_token()  # before Ray is imported, and all of our imports of it pass through here
