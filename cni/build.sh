#!/usr/bin/env bash
# Builds the CNI executable: static, so that it runs on any node whatever its libraries are.
# usage: cni/build.sh [OUTPUT]      default build/cni/isthmus-cni
set -euo pipefail
cd "$(dirname "$0")"
out=${1:-../build/cni/isthmus-cni}
mkdir -p "$(dirname "$out")"
${CC:-gcc} -std=gnu17 -static -O2 -Wall -Wextra -Werror -ffunction-sections -Wl,--gc-sections -s \
  -o "$out" isthmus-cni.c agent.c error.c loopback.c netlink.c plan.c
