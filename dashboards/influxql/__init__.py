"""InfluxQL over the pipeline's own store, so that an unmodified Grafana reads it (docs/influxql.md)."""
