"""What this package offers."""

from metaloop.manifest import Part, Plugin

SPEC = Plugin(
    "ray",
    "independent work on a Ray cluster",
    components=(Part("ray/executor", "executor", "metaloop_ray.executor:RayExecutor", "workers of a Ray cluster"),),
)
