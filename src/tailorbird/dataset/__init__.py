"""Training files, read and judged the same way by the service, the trainer and the CLI; no torch."""
