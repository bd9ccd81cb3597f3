# Campanile: the commands a person types. `make` alone lists them.
SHELL := /bin/sh
.DEFAULT_GOAL := help
export CARGO_TERM_COLOR ?= auto
# What cargo is told elsewhere would hide the binaries from the commands below.
export CARGO_TARGET_DIR := $(CURDIR)/target
# One profile and one build serve demo and tests.
BUILD := cargo build --workspace --bins --lib

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: demo
demo: build-demo ## Two towns on this machine, until Ctrl-C (ONCE=1, CLIPS=dir, CAMERAS=cameras.toml, PORT=8443)
	@target/debug/campanile-demo run $(if $(ONCE),--once) $(if $(CLIPS),--clips "$(CLIPS)") $(if $(CAMERAS),--cameras "$(CAMERAS)") \
		$(if $(PORT),--port "$(PORT)")

.PHONY: clean-demo
clean-demo: ## Removes everything the demo made
	@rm -rf target/demo target/demo.lock target/scenes
	@echo "clean-demo: what the demo made is gone, its scenes included"

.PHONY: test
test: ## Everything that must hold, counted
	@tests/setup.sh test
	@tests/run.sh

.PHONY: clips
clips: ## Each clip of CLIPS=dir as a camera: recorded, indexed, found, played back whole
	@tests/setup.sh test
	@$(BUILD)
	@target/debug/campanile-demo clips --clips "$(or $(CLIPS),$(error CLIPS=dir is missing))"

.PHONY: campaign
campaign: ## 500 kills, 2,000 power cuts, failing disks, about an hour; goes on where it was (SEED, KILLS, IMAGES, REPORT)
	@tests/setup.sh test
	@$(BUILD)
	@target/debug/campanile-campaign --seed $(or $(SEED),1) --kills $(or $(KILLS),500) --images $(or $(IMAGES),2000) \
		--report $(or $(REPORT),docs/measurements/campaign-$(or $(SEED),1).json)

# People install what is built for release; PROFILE=dev packs what serves demo and tests.
PROFILE ?= release
.PHONY: deb
deb: ## Debian packages of hub and edge box under target/deb (PROFILE=dev packs the demo's build)
	@tests/setup.sh deb
	@$(if $(filter dev,$(PROFILE)),$(BUILD),cargo build --package campanile-hub --package campanile-edge-agent --bins --profile $(PROFILE))
	@hardware/debian/package.sh target/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE)) target/deb

.PHONY: install-test
install-test: ## docs/install.md, block by block, on a bare Debian 12 (root, mmdebstrap)
	@tests/setup.sh test
	@tests/install.sh

.PHONY: fuzz
fuzz: ## Fuzz targets, ten minutes each (FUZZ_SECONDS=600, KEEP=1 keeps new corpora)
	@tests/setup.sh demo
	@tests/fuzz/run.sh

.PHONY: bench
bench: ## Criterion benches (target/criterion), then a box beside its peers; release profile
	@tests/setup.sh bench
	@cargo bench --workspace --benches
	@cargo build --release --workspace --bins
	@target/release/campanile-bench recording --report target/recording.json
	@test -x target/opencv/bin/python || { python3 -m venv target/opencv && \
		target/opencv/bin/pip install --quiet 'opencv-python-headless<5'; }
	@CAMPANILE_LOG=info,edge_agent::analyse=debug target/release/campanile-bench cost --report target/cost.json

.PHONY: score
score: ## The motion detector beside OpenCV's and Frigate's (CLIPS=dir with a MANIFEST.csv, SEED, REPORT); at most half an hour
	@tests/setup.sh score
	@$(BUILD)
	@target/debug/campanile-bench score --python target/score/python/bin/python --seed $(or $(SEED),1) \
		$(if $(CLIPS),--clips "$(CLIPS)") --report $(or $(REPORT),target/score/score.json)

.PHONY: lint
lint: ## rustfmt, clippy, cargo deny (which must be installed)
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo deny --workspace check licenses bans sources

.PHONY: advisories
advisories: ## Known vulnerabilities; dials out for the list
	cargo deny --workspace check advisories

.PHONY: build-demo
build-demo:
	@tests/setup.sh demo
	@$(BUILD)
