"""The parts of cpu.py: what is measured, by which engines, against which limits and bars."""
