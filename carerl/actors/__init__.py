"""Floor 5: the Ray actors, thin, and the handles by which a driver holds them. The only room that imports ray.

``ray_cluster``  joining or starting a Ray cluster, and what it has
``workers``      the actor classes: what runs in each process
``gauges``       what a run logs as Ray's metrics, for Prometheus
``crew``         the driver's side: one object per role, and the crew that holds them together
"""
