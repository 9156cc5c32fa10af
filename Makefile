# Two commands: `make demo` and `make test`. Both do all set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OUT ?= runs/demo
EXTRAS ?= test

.PHONY: demo demo-full test lint wheel clean

$(STAMP): setup.py constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v < (3, 13) else f"Python 3.10 to 3.12 is needed, this is {v[0]}.{v[1]}; use: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@

demo: $(STAMP)
	@$(BIN)/robostack doctor
	$(BIN)/robostack demo --out $(OUT)

demo-full: $(STAMP)
	@$(BIN)/robostack doctor
	$(BIN)/robostack demo --config configs/demo-full.yaml --out $(OUT)

# files share the cores, but for those that keep time over ROS 2
APART := $(shell grep -l 'rclpy\|supervisor' tests/real/test_*.py)
MARKS := $(if $(SLOW),--durations=20,-m "not slow")
SHARED := -n auto --maxprocesses=4 --dist=loadfile
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(MARKS)
test: $(STAMP) lint
ifdef ARGS
	$(PYTEST) $(ARGS)
else
	$(PYTEST) $(addprefix --ignore=,$(APART)) $(SHARED)
	$(PYTEST) $(APART)
endif

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

wheel: $(STAMP)
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) build dist *.egg-info
