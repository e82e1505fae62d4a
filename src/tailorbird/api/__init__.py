"""Requests into service calls, results into JSON. No decisions here."""
