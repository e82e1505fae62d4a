"""The multi-LoRA inference engine: one base model, many adapters in one batch (torch)."""
