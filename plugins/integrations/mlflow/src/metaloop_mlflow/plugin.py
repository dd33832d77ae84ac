"""What this package offers."""

from metaloop.manifest import Plugin

SPEC = Plugin("mlflow", "every run tracked with MLflow")
