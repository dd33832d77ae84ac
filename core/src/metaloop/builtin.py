"""What the core itself brings, declared as any plugin would."""

from metaloop.manifest import Part, Plugin

SPEC = Plugin(
    name="core",
    summary="what comes with metaloop itself",
    components=(
        Part("core/in-process", "executor", "metaloop.executors:InProcess", "one after the other, in this process"),
        Part("core/process-pool", "executor", "metaloop.executors:ProcessPool", "worker processes on this machine"),
    ),
)
