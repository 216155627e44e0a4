"""Strangers' pictures: the hostile ones are refused with their reason, the odd ones pass."""
