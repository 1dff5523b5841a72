"""What everything else uses: errors, specifications, records, files, the machine. No science."""
