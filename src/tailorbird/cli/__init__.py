"""The `tailorbird` command."""
