"""Weaver: the recipe of the small base model that comes with Tailorbird."""
