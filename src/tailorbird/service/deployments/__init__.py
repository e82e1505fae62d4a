"""Deployments: create, provision, pause, delete, and where a request for one is sent.

A deployment's adapter is loaded in the engine under its checkpoint's id. Rows say what shall be; an engine that
lost an adapter (it was restarted, or needed the room) gets it again from the blobs when a request comes.
"""

from __future__ import annotations

from tailorbird.service.deployments.offers import DEFAULT_CAPACITY, Offer, Room, Usage
from tailorbird.service.deployments.quotes import Quote
from tailorbird.service.deployments.rows import Deployments
from tailorbird.service.deployments.targets import Target

__all__ = ["DEFAULT_CAPACITY", "Deployments", "Offer", "Quote", "Room", "Target", "Usage"]
