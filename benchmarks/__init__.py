"""Figures. Each script prints what it measured; none asserts on a clock."""
