"""The evidence: what is compared, on which work, how sure the figures are; tables and plots."""
