"""Keeping a network as its journal says while devices die and come back (`reconcile --watch`)."""
