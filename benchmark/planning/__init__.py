"""From what is asked for to cells: the catalogue, plug-ins, the plan, its forecast, what is stale."""
