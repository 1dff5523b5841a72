"""Tables, figures and the report page, from the runs alone; nothing here imports torch."""
