# The commands of this project. `make` alone lists them.

PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help run test test-faults lint format lock messages clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## everything on this machine; PORT=8000, HOST=127.0.0.1
	@$(PYTHON) bootstrap.py run
	@exec $(BIN)/python manage.py up

test: ## style, then all tests on SQLite, then all on PostgreSQL
	@$(PYTHON) bootstrap.py test
	@results=""; failed=0; \
	try() { \
		name="$$1"; shift; printf '\n== %s\n' "$$name"; \
		if "$$@"; then word="passed"; else word="FAILED (exit code $$?)"; failed=1; fi; \
		results="$$results$$(printf '  %-24s %s' "$$name" "$$word")\n"; \
	}; \
	try "ruff check" $(BIN)/ruff check .; \
	try "ruff format" $(BIN)/ruff format --check --quiet .; \
	try "pytest on SQLite" env TEST_DATABASE=sqlite $(BIN)/python -m pytest $(ARGS); \
	try "pytest on PostgreSQL" env TEST_DATABASE=postgres $(BIN)/python -m pytest $(ARGS); \
	printf "\n$$results"; exit $$failed

test-faults: ## the whole fault suite, FAULT_LOGINS=1000 logins under random kills; `make test` has a shorter form
	@$(PYTHON) bootstrap.py test
	@FAULT_LOGINS=$${FAULT_LOGINS:-1000} FAULT_ROUNDS=$${FAULT_ROUNDS:-4} TEST_DATABASE=postgres \
		$(BIN)/python -m pytest -m faults --show-capture=no $(ARGS)
	@FAULT_LOGINS=100 FAULT_ROUNDS=$${FAULT_ROUNDS:-4} TEST_DATABASE=sqlite \
		$(BIN)/python -m pytest -m faults --show-capture=no $(ARGS)

lint: ## style and common mistakes
	@$(PYTHON) bootstrap.py test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: ## rewrite the code in the one style
	@$(PYTHON) bootstrap.py test
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# Universal, because the oldest Python needs packages that a newer one does not list.
LOCK := var/tools/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --quiet \
	--no-header --no-emit-index-url --no-emit-find-links

lock: ## the requirements files from their .in files; newest versions with ARGS=--upgrade
	@$(PYTHON) bootstrap.py lock
	@for set in requirements requirements-local requirements-dev; do \
		$(LOCK) $(ARGS) $$set.in -o $$set.txt || exit; \
	done

messages: ## collect the texts to translate, and compile the translations (needs gettext)
	@$(PYTHON) bootstrap.py test
	@SECRET_KEY=only-for-collecting-texts-0123456789 WK_BASE_URL=http://localhost WK_AUTHORIZATION=none; \
	export SECRET_KEY WK_BASE_URL WK_AUTHORIZATION; \
	$(BIN)/python manage.py makemessages --locale zh_Hans --locale en --no-obsolete --no-wrap \
		--add-location file --ignore .venv --ignore var --ignore tests --ignore simulator && \
	sed -i.old '/^"POT-Creation-Date/d' locale/*/LC_MESSAGES/django.po && rm locale/*/LC_MESSAGES/django.po.old && \
	$(BIN)/python manage.py compilemessages --ignore .venv --ignore var

clean: ## remove what can be made again: environments, caches, collected files; the data in var/ stays
	@rm -rf .venv var/tools staticfiles .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
