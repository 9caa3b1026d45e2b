"""Floor 5: the Ray actors, thin, and the handles by which a driver holds them. The only room that imports ray.

``access``       the token that a cluster asks for
``ray_cluster``  joining or starting a Ray cluster, and what it has
``addresses``    addresses of clusters: their forms, and whether anything answers there
``asking``       the one way to wait for an actor, with limits
``failures``     what Ray raises, as errors that say who, where, why and what to do
``error_log``    the file that Ray's own words go to
``heads``        whether the cluster's head still answers
``ending``       the end of a run's actors, whatever state they are in
``patience``     calls that may never return
``oom``          processes that the kernel ended for want of memory
``workers``      the actor classes: what runs in each process
``gauges``       what a run logs as Ray's metrics, for Prometheus
``placement``    room for a run's actors: all of it, or none
``draining``     nodes that are about to go
``rollout``      the engines as a driver holds them
``crew``         the driver's side: one object per role, and the crew that holds them together
``grading``      the actors that grade and reward
``jobs``         Ray jobs, submitted and seen from within
"""

from carerl.actors.cluster.access import enable_token

enable_token()  # before Ray is imported, and all of our imports of it pass through here
