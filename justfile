# The commands of everyday work; `just` lists them. `.ci/run` and `.ci/long` are the truth for CI.

snapline := "cargo run --release --locked -p snapline-cli --"

# Show the commands.
_default:
    @just --list

# Test the workspace, with every feature on.
test *ARGS:
    cargo test --workspace --locked {{ ARGS }}

# Format, clippy, documentation, and each configuration that ships.
lint:
    .ci/run lints features

# Explore named configurations of the model; without a name those of CI.
check *ARGS="--ci":
    {{ snapline }} check {{ ARGS }}

# Switch wrong rules on, one at a time: each must be found by its law.
mutants *ARGS:
    {{ snapline }} mutants {{ ARGS }}

# Run the production code in the simulated world.
sim *ARGS="--seeds 0..100":
    {{ snapline }} sim {{ ARGS }}

# Count words in a process that is killed repeatedly.
demo *ARGS:
    {{ snapline }} demo {{ ARGS }}

# Walk through a configuration by hand, in a browser.
explore *ARGS="chain":
    {{ snapline }} explore {{ ARGS }}

# Check the concurrent types in every schedule.
loom:
    .ci/run loom

# Build the book into target/book.
book:
    mdbook build docs/book --dest-dir "$PWD/target/book"

# Fuzz with libFuzzer: seconds, then targets.
fuzz *ARGS:
    .ci/fuzz {{ ARGS }}

# All that must hold before a change lands, or the named steps.
ci *STEPS:
    .ci/run {{ STEPS }}

# What takes hours, or the named steps.
long *STEPS:
    .ci/long {{ STEPS }}
