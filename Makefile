# The work is done by course.py, which makes .venv when it is missing and also runs where there is no make.
# Another Python: make lab PYTHON=python3.12. Options: make lab ARGS="--no-browser --port 8899".
PYTHON ?= python3

.PHONY: help lab test trust notebooks book book-serve book-pdf bench

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile

lab: ## open the course in JupyterLab; ARGS are passed on to it
	@"$(PYTHON)" course.py lab $(ARGS)

test: ## run the tests; ARGS are passed on to pytest
	@"$(PYTHON)" course.py test $(ARGS)

trust: ## run the tests that take minutes: killed set-ups, a chapter under unusual conditions
	@"$(PYTHON)" course.py trust $(ARGS)

notebooks: ## execute the chapters anew; ONLY=03 for one
	@"$(PYTHON)" course.py notebooks $(ONLY)

book: ## build the course as a book, in book/_build/html
	@"$(PYTHON)" course.py book $(ARGS)

book-serve: ## build the book and show it on this machine; ARGS="--port 8001" for another port
	@"$(PYTHON)" course.py book --serve $(ARGS)

book-pdf: ## build the book and print it to book/_build/pdf, with Chromium
	@"$(PYTHON)" course.py book --pdf $(ARGS)

bench: ## train the translators on Multi30k; their scores go to book/results/translation.json
	@"$(PYTHON)" course.py bench $(ARGS)
