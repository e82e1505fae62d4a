"""Language models and their LoRA adapters, shared by trainer and engine (torch)."""
