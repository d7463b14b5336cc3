"""SQL: the coordination tables, the transactions T0 to T8, the landing of rows."""
