"""Tailorbird: a self-hosted fine-tuning service that speaks Azure OpenAI."""
