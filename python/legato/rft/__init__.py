"""Reinforcement fine-tuning."""
from legato.rft.tokens import *
