"""Admission rules, one a file: may a request run beside what runs now?"""
