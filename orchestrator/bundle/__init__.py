"""The artefact formats: a bundle on disk, and its views."""
