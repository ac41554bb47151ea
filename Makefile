# The work is done by course.py, which makes .venv when it is missing and also runs where there is no make.
# Another Python: make lab PYTHON=python3.12. Options: make lab ARGS="--no-browser --port 8899".
PYTHON ?= python3

.PHONY: help lab test notebooks bench

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' Makefile

lab: ## open the course in JupyterLab; ARGS are passed on to it
	@"$(PYTHON)" course.py lab $(ARGS)

test: ## run all the tests; ARGS are passed on to pytest
	@"$(PYTHON)" course.py test $(ARGS)

notebooks: ## execute the chapters anew; ONLY=03 for one
	@"$(PYTHON)" course.py notebooks $(ONLY)

bench: ## train the translators on Multi30k; their scores go to book/results/translation.json
	@"$(PYTHON)" course.py bench $(ARGS)
