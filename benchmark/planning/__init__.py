"""From what is asked for to cells: catalogue, plug-ins, plan, forecast, staleness."""
