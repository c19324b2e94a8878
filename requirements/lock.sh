#!/usr/bin/env bash
# Makes the locks: one resolution for everything, then one file per role cut from it, so that the files agree and one
# environment can hold all of them. Needs uv (a tool of the one who makes locks; installing needs only pip).
# They are installed with `pip install --no-deps`, which takes exactly what stands in them.
set -euo pipefail
cd "$(dirname "$0")"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

compile() { # compile OUTPUT ARGUMENTS...
    local output=$1
    shift
    uv pip compile --quiet --python-version "${python:-3.11}" --no-header --no-annotate --override override.txt "$@" -o "$output"
}

# Lines of the result without what another file installs: torch has a lock of its own (its build differs by machine).
# On a CPU, triton (1 GB unpacked) and NVIDIA's libraries, which torch's CUDA build asks for, are not needed either.
cut_for_cpu() { grep -E '^[a-z0-9]' "$1" | grep -v -E '^(torch|triton|nvidia-|cuda-)' >"$2"; }

compile "$scratch/all" services.in s3.in trainer.in dev.in engine-cpu.in router.in torch.in
sed -E 's/^(torch==[0-9.]+).*/\1/' -i "$scratch/all"
grep '^torch==' "$scratch/all" >torch.lock
for role in services trainer dev engine-cpu router otel s3 ray quantized; do
    compile "$scratch/$role" "$role.in" --constraint "$scratch/all"
    cut_for_cpu "$scratch/$role" "$role.lock"
    echo "$role.lock: $(wc -l <"$role.lock") packages"
done

# One lock serves all Pythons: a resolution for each must be a part of it.
for python in 3.12 3.13; do
    compile "$scratch/$python" services.in trainer.in dev.in engine-cpu.in torch.in --constraint "$scratch/all"
    more=$(comm -13 <(sort "$scratch/all") <(sort "$scratch/$python"))
    [ -z "$more" ] || { echo "Python $python needs more than the locks have:" $more; exit 1; }
done
unset python

# The GPU engine pins some packages that the CPU engine pins otherwise; the two never share an environment.
compile "$scratch/gpu" engine-gpu.in torch.in \
    --constraint services.lock --constraint trainer.lock --constraint dev.lock
grep -E '^[a-z0-9]' "$scratch/gpu" | grep -v '^torch==' >engine-gpu.lock
echo "engine-gpu.lock: $(wc -l <engine-gpu.lock) packages"

# What reads the chart and the images' recipes is in an environment of its own: checkov pins what services need newer.
compile chart.lock chart.in
echo "chart.lock: $(wc -l <chart.lock) packages"
