"""The use cases, one module per noun. Decides everything; speaks to the world only through ports."""
