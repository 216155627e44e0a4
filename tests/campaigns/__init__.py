"""Campaigns: the real service, real servers and real signals, for minutes or hours, under one verdict."""
