"""What this package offers."""

from metaloop.manifest import Command, Plugin

SPEC = Plugin(
    "mlflow",
    "every run tracked with MLflow",
    hooks="metaloop_mlflow.hooks:Tracker",
    commands=(
        Command("sync", "metaloop_mlflow.sync:sync", "Send to MLflow what it does not have yet."),
        Command("ui", "metaloop_mlflow.ui:ui", "Open MLflow's pages on the tracked runs."),
    ),
)
