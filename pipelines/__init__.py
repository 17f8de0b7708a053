"""Ray Data chains. The stages' work is in `marc_core`; here is only the wiring."""
