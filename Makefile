# Two commands do everything: `make run` and `make test`.
# The rest are the single checks that .ci/run calls.

.PHONY: run test prepare kubebox fmt clippy doc deny machete typos bench-smoke fuzz docs

# Builds and starts the demo: sample services, sample manifests, what to try.
run: prepare
	cargo run --release --locked --package kubeng -- demo

# Every test, with the real API server where Go is there.
test: prepare kubebox
	cargo test --workspace --locked

prepare:
	@tools/prepare.sh

# etcd, kube-apiserver and kubectl for the tests; without Go they say that they are skipped.
kubebox:
	@tests/cluster/build.sh target/kubebox/kubebox || [ $$? -eq 77 ]

fmt:
	cargo fmt --all --check

clippy:
	cargo clippy --workspace --all-targets --locked -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

deny:
	@tools/deny.sh

machete:
	@tools/machete.sh

typos:
	@tools/typos.sh

# Shows that the benches run; figures are taken by hand.
bench-smoke:
	cargo run --release --locked -p kubeng-benches -- all --quick

# Fuzzes each target for SECONDS; make fuzz SECONDS=3600 SEED=0 TARGET=path goes on for long.
fuzz: SECONDS ?= 10
fuzz:
	@SECONDS_EACH=$(SECONDS) SEED=$(SEED) TARGET=$(TARGET) tools/fuzz.sh

# Writes the generated reference pages anew.
docs:
	UPDATE_DOCS=1 cargo test --locked --test suite pages
