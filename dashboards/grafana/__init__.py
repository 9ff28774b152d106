"""Grafana: dashboards, data sources and alert rules as code, and their check without a Grafana."""
