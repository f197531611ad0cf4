# The commands of this project. `make` alone lists them.

PYTHON ?= python3
BIN := .venv/bin
TEMPLATES := templates simulator/templates

.DEFAULT_GOAL := help
.PHONY: help run backup restore test test-fast test-faults lint format lock messages screens clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## everything on this machine; PORT=8000, HOST=127.0.0.1
	@$(PYTHON) bootstrap.py run
	@exec $(BIN)/python manage.py up

# While the portal is stopped, nothing may name WKTeam's address; these commands don't use it.
WITHOUT_WKTEAM := WK_BASE_URL=$${WK_BASE_URL:-http://localhost} WK_AUTHORIZATION=$${WK_AUTHORIZATION:-none}

backup: ## the database in one file, also while the portal runs; FILE=…
	@$(PYTHON) bootstrap.py run
	@$(WITHOUT_WKTEAM) exec $(BIN)/python manage.py backup $(FILE)

restore: ## put a backup in the place of the database: FILE=…; stop the portal before
	@$(PYTHON) bootstrap.py run
	@$(WITHOUT_WKTEAM) exec $(BIN)/python manage.py restore $(FILE)

test: ## style and all tests but the long ones, on SQLite and on PostgreSQL
	@$(PYTHON) bootstrap.py test
	@exec $(BIN)/python -m tests.run all $(ARGS)

test-fast: ## the tests without processes and browser, on SQLite
	@$(PYTHON) bootstrap.py test
	@exec $(BIN)/python -m tests.run fast $(ARGS)

test-faults: ## all fault tests and the other long ones, FAULT_LOGINS=1000 logins under random kills
	@$(PYTHON) bootstrap.py test
	@exec $(BIN)/python -m tests.run faults $(ARGS)

lint: ## style and common mistakes
	@$(PYTHON) bootstrap.py test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/djlint --check --lint --quiet $(TEMPLATES)
	@$(BIN)/deno fmt --check --quiet
	@$(BIN)/deno lint --quiet

format: ## rewrite the code in the one style
	@$(PYTHON) bootstrap.py test
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/djlint --reformat --quiet $(TEMPLATES)
	@$(BIN)/deno fmt --quiet

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
	$(BIN)/python manage.py makemessages --locale zh_Hans --no-obsolete --no-wrap \
		--add-location file --ignore .venv --ignore var --ignore tests --ignore simulator && \
	sed -i.old '/^"POT-Creation-Date/d' locale/*/LC_MESSAGES/django.po && rm locale/*/LC_MESSAGES/django.po.old && \
	$(BIN)/python manage.py compilemessages --ignore .venv --ignore var

screens: ## docs/screens: a picture of every page, in both languages and themes
	@$(PYTHON) bootstrap.py test
	@mkdir -p docs/screens
	@SCREENS=$(CURDIR)/docs/screens exec $(BIN)/python -m pytest -p xdist -n 0 -m long \
		tests/browser/test_every_page.py::test_every_page

clean: ## remove what can be made again: environments, caches, collected files; the data in var/ stays
	@rm -rf .venv var/tools staticfiles .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
