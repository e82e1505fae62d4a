"""What the words mean. Frozen dataclasses, state tables and rules; standard library only, no I/O."""
