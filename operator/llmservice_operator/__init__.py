"""The kopf operator: turns LLMService objects into pods and keeps them so."""
