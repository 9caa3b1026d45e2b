"""The Ray actors, which are thin, and the handles by which a driver uses them. Only this room imports Ray.

==================== ==============================================================================================
``crew``             starts a run's actors and hands out one handle a role
``handles/``         the driver's side: ``learner``, ``engines``, ``graders``, ``reference``; they share ``base``
``workers/``         the actors themselves, one class a role; they share ``base``
``cluster/``         joins or starts a Ray cluster (``cluster``), sends its token (``access``), checks addresses
                     (``addresses``), reserves room for actors (``placement``), submits and follows jobs (``jobs``),
                     and keeps secret files out of what a job sends along (``uploads``)
``health/``          waits for actors with limits (``asking``), tells failures in words (``failures``), keeps Ray's own
                     words in a file (``error_log``), notices heads and nodes that go (``heads``, ``draining``), ends
                     actors (``ending``), counts OOM kills (``oom``), bounds calls that may not return (``patience``)
``turns``            whose turn it is on a GPU that an engine and a rank of the learner share
``profiling``        records where the time of actors and driver goes, Ray's part included
``gauges``           exports what a run logs as Ray's metrics, for Prometheus
==================== ==============================================================================================
"""

from carerl.actors.cluster.access import enable_token

enable_token()  # before Ray is imported: every import of Ray in this project passes through here
