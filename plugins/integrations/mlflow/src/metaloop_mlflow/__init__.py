"""Every run tracked with MLflow."""
