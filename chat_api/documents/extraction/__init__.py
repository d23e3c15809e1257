"""Text out of documents: which format a file is, and its text by page and heading.

Files come from strangers, so they are read in a process of their own, with limits, which may die at any time.
Nothing that process imports may need pydantic, FastAPI or a store: it starts in a tenth of a second, and small.
"""
