#!/usr/bin/env bash
# Every unit of a layer on all hosts of a Cloud TPU slice: the same line on each, which find one another by themselves.
#
#     gcloud compute tpus tpu-vm create my-pod --zone us-central2-b --accelerator-type v4-32 --version tpu-ubuntu2204-base
#     scripts/run_tpu_pod.sh my-pod us-central2-b my-bucket conv5_fusion --units all --chi 10,5,1,0 --precision bfloat16
#
# From a checkout, with the Google Cloud command line. The results go to gs://my-bucket/atlas, which every host mounts
# as a folder. Lost the slice? Make it anew and repeat the second line: only what is missing is done.
set -euo pipefail
pod=$1 zone=$2 bucket=$3 layer=$4
shift 4

everywhere() { gcloud compute tpus tpu-vm ssh "$pod" --zone "$zone" --worker=all --command "set -e; $1"; }

python3 -m pip wheel --quiet --no-deps --wheel-dir dist .
gcloud compute tpus tpu-vm scp dist/stjax-*.whl "$pod": --zone "$zone" --worker=all
everywhere "test -d stjax-venv || python3 -m venv stjax-venv
  stjax-venv/bin/pip install --quiet \"\$(ls ./stjax-*.whl)[vgg16,tpu]\""
everywhere "key=/usr/share/keyrings/cloud.google.asc list=/etc/apt/sources.list.d/gcsfuse.list
  command -v gcsfuse >/dev/null || {
    curl -fsS https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo tee \$key >/dev/null
    echo \"deb [signed-by=\$key] https://packages.cloud.google.com/apt gcsfuse-\$(lsb_release -cs) main\" | sudo tee \$list
    sudo apt-get update -qq && sudo apt-get install -qq -y gcsfuse
  }
  mkdir -p results && { mountpoint -q results || gcsfuse --implicit-dirs $bucket results; }"
everywhere "stjax-venv/bin/stjax visualize $layer --model vgg16-imagenet --out results/atlas --distributed $*"
