"""Scoring standards: grades -> score -> age and back, bone-age SD scores and adult-height predictions."""
